# Two commands matter: `make demo` and `make test`. Both make .venv first if it is not there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-fast lint types wheel-check format clean

help:
	@echo "make demo       train, evaluate and grade on gridworld-hetero; names the report it wrote"
	@echo "make test       the test suite"
	@echo "make test-fast  the test suite without the slow tests"
	@echo "make lint       ruff"
	@echo "make types      pyright"
	@echo "make wheel-check  build the wheel and use it from an empty folder"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "Python 3.11 or newer is needed; choose one with make PYTHON=..." && exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install -e '.[dev]' -c constraints.txt
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/gridworld_demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel-check: $(INSTALLED)
	$(BIN)/python .ci/wheel_check.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache
