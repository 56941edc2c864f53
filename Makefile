# Every target sets up what it needs, in a virtual environment of its own, on a machine that has only Python 3.10+.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help demo test check bench clean

help:
	@echo "make demo   two networks judge a sliding photo; writes demo.png"
	@echo "make test   the test suite"
	@echo "make check  ruff and mypy"
	@echo "make bench  the short benchmark"
	@echo "make clean  remove the virtual environment and what was built"

$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/antialiased-zoo demo --output demo.png

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python scripts/benchmark.py --short

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache demo.png
