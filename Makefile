# Everything runs in .venv, which is made here: only Python 3.10 or newer and make are needed.
PYTHON ?= python3
BIN := .venv/bin
# Where golden outputs, official weights and photographs are, if they are there.
KERAS_EHRNET_REFERENCE ?= ../shared
export KERAS_EHRNET_REFERENCE
MINUTES ?= 5
# Where Python may not keep what it compiled, every process of a test compiles TensorFlow again.
unexport PYTHONDONTWRITEBYTECODE
DEMO_PHOTO ?= docs/pictures/astronaut.jpg

.PHONY: install demo docs fuzz pack-android test test-tensorflow test-others test-android test-answers test-streams
.PHONY: test-tf217 test-web notebooks lint format clean

install: .venv/installed

# Needs no network but for pip, and no TensorFlow: the weights come with the package.
demo: .venv/installed-demo
	$(BIN)/keras-ehrnet predict $(DEMO_PHOTO) --output demo

# One test each, and a long one: among the others they would come last, and a core would wait for them.
LONG := tests/test_smoke_training.py tests/test_fuzz.py

# Two processes for TensorFlow, and beside them one for all the rest, so that no core waits for the last of a part.
test: install
	$(MAKE) --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=line) test-tensorflow test-others

test-tensorflow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not programs" --doctest-modules keras_ehrnet tests \
		$(foreach file,$(LONG),--ignore $(file))

# What JAX has compiled once it need not compile again: a saved network is the same program as the one it was saved from.
test-others: lint docs
	KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR="$(CURDIR)/.venv/compiled" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
		$(BIN)/python -m pytest -m backend $(shell grep -l mark.backend tests/*.py)
	$(BIN)/python -m pytest $(LONG)

# TensorFlow 2.17 is the last with TF-TRT: its converter must take what we pass to it. Needs Python 3.10 to 3.12.
test-tf217: .venv-tf217/installed
	.venv-tf217/bin/python -m pytest tests/tf217

# Damaged files for every reader, and every file of a model: whatever is not read must be refused in a sentence.
fuzz: install
	$(BIN)/python tests/fuzz --minutes $(MINUTES)

# Kotlin on this computer's JVM, beside Python. Needs the Debian packages that deploy/android/test.sh names.
test-android: install
	bash deploy/android/test.sh $(BIN)/python

# The page in a browser, beside Python. Needs node, npm and Debian's chromium.
test-web: install
	bash deploy/web/test.sh $(BIN)/python

# All runtimes on the same photographs, and a table of how far apart they are. Needs what the two before need.
test-answers: install
	cd deploy/web && npm install --no-audit --no-fund --no-package-lock --silent
	KERAS_EHRNET_ALL_RUNTIMES=1 $(BIN)/python -m pytest -s tests/test_one_answer.py

# RTSP from GStreamer's server, and pipelines of GStreamer. Needs the Debian packages that tests/test_streams.py names.
test-streams: install
	KERAS_EHRNET_ALL_RUNTIMES=1 $(BIN)/python -m pytest tests/test_streams.py

# Compiles the Android app against stubs, packs, signs and verifies it. Needs the packages that pack.sh names.
pack-android: install
	bash deploy/android/pack.sh build/android $(BIN)/python

# The site, in build/site; anything that does not fit together is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --quiet --strict

# Runs every notebook, each in minutes, as a user would; the stored outputs stay as they are.
notebooks: install
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-tf217 demo results notebooks/dogs notebooks/people notebooks/runs notebooks/scores notebooks/device.json notebooks/*.tflite notebooks/*.onnx

# Most of what is installed is never imported, and what is gets compiled then.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@

.venv-tf217/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-tf217
	.venv-tf217/bin/python -m pip install --quiet --editable '.[tensorflow]' 'tensorflow==2.17.1' 'numpy<2' 'opencv-python-headless<4.12' pytest
	touch $@

.venv/installed-demo: setup.cfg pyproject.toml
	test -x $(BIN)/keras-ehrnet || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --editable .; }
	touch $@
