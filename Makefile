# Everything runs in .venv, which is made here: only Python 3.10 or newer and make are needed.
PYTHON ?= python3
BIN := .venv/bin
# Where golden outputs, official weights and photographs are, if they are there.
KERAS_EHRNET_REFERENCE ?= ../shared
export KERAS_EHRNET_REFERENCE
DEMO_PHOTO ?= $(firstword $(wildcard $(KERAS_EHRNET_REFERENCE)/data/coco_samples/images/000000000785.jpg))

.PHONY: install demo test test-tf217 lint format clean

install: .venv/installed

demo: .venv/installed-demo
	@$(DEMO_HOME) $(BIN)/keras-ehrnet summary
	@$(DEMO_HOME) $(BIN)/keras-ehrnet predict "$(or $(DEMO_PHOTO),$(shell $(BIN)/python -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))' 2>/dev/null))" --model efficientpose-rt --output demo

# The folder of reference data serves the official weights without a download.
DEMO_HOME := $(if $(wildcard $(KERAS_EHRNET_REFERENCE)/weights),KERAS_EHRNET_HOME=$(KERAS_EHRNET_REFERENCE)/weights)

test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules keras_ehrnet tests --ignore tests/test_smoke_training.py
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist loadfile -m backend tests
	$(BIN)/python -m pytest tests/test_smoke_training.py

# TensorFlow 2.17 is the last with TF-TRT: its converter must take what we pass to it. Needs Python 3.10 to 3.12.
test-tf217: .venv-tf217/installed
	.venv-tf217/bin/python -m pytest tests/tf217

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-tf217 demo results

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv-tf217/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-tf217
	.venv-tf217/bin/python -m pip install --quiet --editable . 'tensorflow==2.17.1' 'numpy<2' 'opencv-python-headless<4.12' pytest
	touch $@

.venv/installed-demo: setup.cfg pyproject.toml
	test -x $(BIN)/keras-ehrnet || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --editable .; }
	touch $@
