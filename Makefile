# Everything runs in .venv, which is made here: only Python 3.10 or newer and make are needed.
PYTHON ?= python3
BIN := .venv/bin
# Where golden outputs, official weights and photographs are, if they are there.
KERAS_EHRNET_REFERENCE ?= ../shared
export KERAS_EHRNET_REFERENCE
DEMO_PHOTO ?= $(firstword $(wildcard $(KERAS_EHRNET_REFERENCE)/data/coco_samples/images/000000000785.jpg))

.PHONY: install demo test lint format clean

install: .venv/installed

demo: .venv/installed-demo
	@$(DEMO_HOME) $(BIN)/keras-ehrnet summary
	@$(DEMO_HOME) $(BIN)/keras-ehrnet predict "$(or $(DEMO_PHOTO),$(shell $(BIN)/python -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))' 2>/dev/null))" --model efficientpose-rt --output demo

# The folder of reference data serves the official weights without a download.
DEMO_HOME := $(if $(wildcard $(KERAS_EHRNET_REFERENCE)/weights),KERAS_EHRNET_HOME=$(KERAS_EHRNET_REFERENCE)/weights)

test: install lint
	$(BIN)/python -m pytest --doctest-modules keras_ehrnet tests
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m backend tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo results

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/installed-demo: setup.cfg pyproject.toml
	test -x $(BIN)/keras-ehrnet || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --editable .; }
	touch $@
