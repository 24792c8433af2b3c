# `make quickstart` and `make test` are all a newcomer needs; both install first.

PYTHON ?= python3
BIN := .venv/bin
QUICK := runs/quickstart

.PHONY: help install quickstart test test-lowest check lint format types contracts pins clean

help:
	@echo "make quickstart   train, certify and draw on 8x8 digits, with two Ray actors"
	@echo "make test         install and run the default test suite"
	@echo "make check        lint, types, import contracts, tests"
	@echo "make install      set up .venv"

install: .venv/.installed

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, got `$(PYTHON) --version`: set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

quickstart: install
	test -f $(QUICK)/lenet-0.25.safetensors || $(BIN)/rddrs train quickstart
	$(BIN)/rddrs certify quickstart --resume
	$(BIN)/rddrs curves $(QUICK)/certify --out $(QUICK)/figures

test: install
	$(BIN)/pytest

# The lower ends of the dependencies' ranges; their deprecations are not ours to mend.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --requirement requirements-lowest.txt
	.venv-lowest/bin/pip install --quiet --no-deps --editable .
	.venv-lowest/bin/pytest -W ignore

check: install lint types contracts test

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install
	$(BIN)/basedpyright

contracts: install
	$(BIN)/lint-imports

# Resolves the ranges of pyproject.toml afresh and writes them down.
pins:
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/pip install --quiet --editable '.[dev]'
	head -n 3 requirements.txt > .venv-pins/pins
	.venv-pins/bin/pip freeze --exclude-editable \
		| grep -v -i -E '^(nvidia-|cuda-|triton)' >> .venv-pins/pins
	mv .venv-pins/pins requirements.txt

clean:
	rm -rf .venv .venv-pins .venv-lowest runs
