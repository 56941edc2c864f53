# Every target sets up what it needs, in a virtual environment of its own, on a machine that has only Python 3.10+.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# The oldest packages that setup.cfg allows, in an environment of their own. Only huggingface_hub is newer: the tests
# also need transformers, and no version of it takes the oldest. Tests of two processes are left out: with torch 2.6 one
# of the two now and then does not end (docs/deploy.md).
OLDEST = .venv-oldest
CORE = tests/layers tests/metrics tests/evaluation tests/training tests/adaptation tests/inference/test_folding.py \
	tests/inference/test_packed_conv.py tests/transform/test_transform.py tests/transform/test_planner.py \
	tests/transform/test_reasons.py tests/transform/test_following.py tests/transform/test_stacks.py \
	tests/weights/test_conversion.py tests/weights/test_hub_cache.py tests/weights/test_hub_disk.py \
	tests/weights/test_hub_sources.py tests/weights/test_pretrained.py tests/weights/test_repositories.py \
	tests/zoo/test_hubconf.py --ignore tests/layers/gpu_kernel_values.py -k 'not two_processes'

.PHONY: help demo test test-slow test-oldest check docs docs-serve bench clean

help:
	@echo "make demo   two networks judge a sliding photo; writes demo.png"
	@echo "make test   the test suite"
	@echo "make test-slow  the tests that repeat for more networks what the suite shows for one of a family"
	@echo "make check  ruff and mypy"
	@echo "make test-oldest  the core of the suite with the oldest packages that are supported"
	@echo "make docs   the documentation site, in site/; docs-serve shows it while you write"
	@echo "make bench  the short benchmark"
	@echo "make clean  remove the virtual environment and what was built"

$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/antialiased-zoo demo --output demo.png

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 3  # two cores: some tests wait for a server

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(CORE)
	cat setup.cfg antialiased_zoo/layers/torch_internals.py | sha256sum > .ci/oldest

$(OLDEST)/.installed: setup.cfg
	$(PYTHON) -m venv $(OLDEST)
	sed -n '/^install_requires/,/^$$/{/huggingface_hub/d;s/^ *\(.*\)>=/\1==/p;}' setup.cfg > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/oldest.txt \
		--editable '.[test]'
	touch $@

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.docs
	$(BIN)/mkdocs serve

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

bench: $(VENV)/.installed
	$(BIN)/python scripts/benchmark.py --short

clean:
	rm -rf $(VENV) $(OLDEST) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache demo.png
