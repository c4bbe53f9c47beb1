# The two that matter: `make quickstart` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=

.PHONY: help env quickstart test check quick lint style types format pytest packages constraints clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## the environment in .venv, from pinned versions

$(STAMP): constraints.txt pyproject.toml deploy/environment.sh
	@PYTHON='$(PYTHON)' deploy/environment.sh $(VENV)
	@touch $@

quickstart: $(STAMP)  ## start the local stack, train a VAE through the queue, show what came out
	@PATH="$(CURDIR)/$(BIN):$$PATH" deploy/quickstart.sh

test: $(STAMP) style  ## every check and every test
	@$(MAKE) --no-print-directory --jobs=2 types pytest

pytest: $(STAMP) packages
	@$(BIN)/python -m tests.run $(PYTEST_ARGS)

check: $(STAMP) style  ## what is quick: style, types, unit tests but the slow ones
	@$(MAKE) --no-print-directory --jobs=2 types quick

quick: $(STAMP)
	@$(BIN)/python -m tests.run --quick $(PYTEST_ARGS)

lint: style types  ## ruff, import-linter, bandit, advisories, mypy

style: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml vaesvc service tuning vae_models deploy
	@$(BIN)/python deploy/check_advisories.py

types: $(STAMP)
	@$(BIN)/mypy

format: $(STAMP)  ## format the code and sort its imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

packages:
	@deploy/debian-packages.sh

constraints: $(STAMP)  ## write constraints.txt from the environment, after an upgrade by hand
	@deploy/constraints.sh $(BIN)/python > constraints.txt.new
	@mv constraints.txt.new constraints.txt

clean:  ## remove the environment and caches; the local stack and what it stored stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
