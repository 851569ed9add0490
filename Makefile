# `make compare` and `make test` from a fresh clone: each sets itself up. Only Python 3.11 or newer is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
LOWEST := .venv-lowest/bin
# tests are spread over the cores; PYTEST_ARGS= runs them one after the other
PYTEST_ARGS ?= -n auto

.DEFAULT_GOAL := help
.PHONY: help compare test test-numeric-default test-services test-lowest faults coverage lint format results bench clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-22s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

compare: .venv/installed ## train the bundled quickstart once, then show tied beside untied
	@$(BIN)/tiebench compare tied untied --config quickstart
	@echo "To type tiebench yourself: source .venv/bin/activate"

test: .venv/installed-dev ## run the tests (CPU, offline); PYTEST_ARGS adds options, such as '-x'
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-numeric-default: .venv/installed-dev ## run the numeric tests without the processor's vector instructions
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest -m numeric $(PYTEST_ARGS)

test-services: .venv/installed-services ## run the tests that need a browser, Slurm or Ray; installs what is absent (as root, on Debian)
	scripts/install_services.sh
	TIEBENCH_SERVICES=required $(BIN)/python -m pytest -m services $(PYTEST_ARGS) -n 0

test-lowest: .venv-lowest/installed ## run a selection of tests with the lowest versions that pyproject.toml admits
	$(LOWEST)/python -m pytest tests/test_configs.py tests/experiment tests/layers tests/losses tests/results $(PYTEST_ARGS)

faults: .venv/installed-dev ## the long campaign of faults: crashes, power cuts, damaged and hostile files (about an hour)
	$(BIN)/python tests/faults

coverage: .venv/installed-dev ## run the tests and say which lines and branches they miss
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

lint: .venv/installed-dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: .venv/installed-dev ## put the code in order: sorted imports, fixable findings, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: .venv/installed-dev ## rewrite the pages of results/ and the outputs in README.md from the published records
	$(BIN)/python scripts/refresh_pages.py

bench: .venv/installed ## measure training and evaluation on this machine
	$(BIN)/tiebench bench

clean: ## remove the environments and what tools left behind
	rm -rf .venv .venv-lowest .pytest_cache .ruff_cache .coverage .coverage.* build dist

# $(1): folder of the environment
define make_environment
	@$(PYTHON) -c 'import sys; sys.exit("tiebench needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(1)
endef

.venv/bin/python:
	$(call make_environment,.venv)

.venv-lowest/bin/python:
	$(call make_environment,.venv-lowest)

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

.venv/installed-services: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt playwright submitit ray
	touch $@

.venv-lowest/installed: pyproject.toml constraints-lowest.txt | .venv-lowest/bin/python
	$(LOWEST)/python -m pip install --quiet --only-binary :all: --constraint constraints-lowest.txt pytest pytest-xdist transformers
	$(LOWEST)/python -m pip install --quiet --constraint constraints-lowest.txt --editable .
	touch $@
