# `make demo` and `make test` need Python 3.11 or later and nothing else.
PYTHON ?= python3
# Which torch to install, for example `make test TORCH="torch==2.13.0"`. Whatever is in .venv already is kept.
TORCH ?= torch>=2.6
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint wheel clean

demo: $(VENV)/.demo
	$(BIN)/wronglung demo --out runs/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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
	rm -rf $(VENV)-wheel

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

clean:
	rm -rf $(VENV) $(VENV)-wheel build dist src/*.egg-info
