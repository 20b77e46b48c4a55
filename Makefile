# `make demo` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
# Which torch to install, for example `make test TORCH="torch==2.13.0"`. Whatever is in .venv already is kept.
TORCH ?= torch>=2.6
VENV ?= .venv
# Processes that share the tests, a file at a time.
WORKERS ?= 2
BIN := $(VENV)/bin
MASKING_TESTS := tests/test_entities.py tests/test_masking.py tests/test_radiology_concepts.py
SHIPPED := retrained abnormal masking random-sentences no-attention word-masking
CHECKPOINTS := adapters/gloria/phantom

.PHONY: demo test test-masking checkpoints lint wheel plugin audit clean

demo: $(VENV)/.demo
	$(BIN)/wronglung demo --out runs/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

# scispaCy wants an older numpy than the rest, and Python before 3.13; so it has an environment of its own.
test-masking: $(VENV)-masking/.ready
	$(VENV)-masking/bin/python -m pytest -q $(MASKING_TESTS)

# Train the six checkpoints that ship, anew and one after another, and put them into the package. In scispaCy's
# environment, because entities are masked with it; on one thread, because other sums give other weights.
checkpoints: $(VENV)-masking/.ready
	for variant in $(SHIPPED); do \
	    OMP_NUM_THREADS=1 $(VENV)-masking/bin/wronglung train --variant $$variant --out runs/ship/$$variant --overwrite && \
	    $(VENV)-masking/bin/python -m wronglung.adapters.gloria.training.ship runs/ship/$$variant $(CHECKPOINTS) || exit 1; \
	done

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of what is installed, and whether it fits together. Where no advisory service can be reached, it says so.
audit: $(VENV)/.test
	$(BIN)/python -m pip install -q "pip-audit>=2.7"
	$(BIN)/python -m pip check
	$(BIN)/python .ci/audit.py

# Build the wheel, install it in a clean environment, and use it from another folder.
wheel: $(VENV)/.test
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .
	rm -rf $(VENV)-wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install -q "$(TORCH)"
	$(VENV)-wheel/bin/python -m pip install -q dist/*.whl
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" list
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" show wrong-lung > /dev/null
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" run --model gloria-phantom-retrained --dataset phantom \
	    --data-arg patients=20 --suite smoke --quiet --save-maps --out "$(abspath build)/run" > /dev/null
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" report "$(abspath build)/run" --include-data --dataset phantom \
	    --data-arg patients=20 --out "$(abspath build)/report"
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" leaderboard "$(abspath build)/run" --format html > /dev/null
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" paper localization "$(abspath build)/run" --published > /dev/null
	cd / && "$(abspath $(VENV)-wheel)/bin/wronglung" compare "$(abspath build)/run" "$(abspath build)/run" > /dev/null
	rm -rf $(VENV)-wheel

# The example plug-in, installed beside the package in a clean environment.
plugin:
	rm -rf $(VENV)-plugin
	$(PYTHON) -m venv $(VENV)-plugin
	$(VENV)-plugin/bin/python -m pip install -q "$(TORCH)"
	$(VENV)-plugin/bin/python -m pip install -q . ./examples/plugin pytest
	cd / && "$(abspath $(VENV)-plugin)/bin/wronglung" list models | grep wronglung-compass
	cd / && "$(abspath $(VENV)-plugin)/bin/wronglung" check compass
	cd / && "$(abspath $(VENV)-plugin)/bin/wronglung" run --model compass --dataset phantom \
	    --data-arg patients=60 --suite compass --quiet --overwrite --out "$(abspath build)/plugin" > /dev/null
	cd examples/plugin && "$(abspath $(VENV)-plugin)/bin/python" -m pytest -q
	rm -rf $(VENV)-plugin

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wronglung needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e ".[test]"
	touch $@ $(VENV)/.demo

$(VENV)-masking/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-masking
	$(VENV)-masking/bin/python -m pip install -q "$(TORCH)"
	$(VENV)-masking/bin/python -m pip install -q -e ".[masking]" pytest hypothesis
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-wheel $(VENV)-masking $(VENV)-plugin build dist src/*.egg-info
