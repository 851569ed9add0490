# Two commands from a fresh clone: `make compare` and `make test`. Each sets itself up; only Python 3.11 is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: compare test results bench clean

compare: .venv/installed ## train the bundled quickstart once, then show tied beside untied
	$(BIN)/tiebench compare tied untied --config quickstart

test: .venv/installed-dev ## run the tests (CPU, offline)
	$(BIN)/python -m pytest

results: .venv/installed ## rewrite results/README.md and the outputs in README.md from the published records
	$(BIN)/python scripts/refresh_pages.py

bench: .venv/installed ## measure training and evaluation on this machine
	$(BIN)/tiebench bench

clean: ## remove the environment
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("tiebench needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

.PHONY: faults
faults: .venv/installed-dev ## the long campaign of faults: crashes, power cuts, damaged and hostile files (about an hour)
	$(BIN)/python tests/faults
