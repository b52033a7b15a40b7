# Needs Python 3.11 or newer, pip, git and make; sets up the rest in .venv and .venv-targets.
PYTHON ?= python3
# What `make soak` draws its faults, moments and kills from: a minute or two each.
SEEDS ?= 100-119
# Nothing but errors: pip's remarks on the machine's own configuration are not this project's.
PIP = bin/python -m pip --quiet --quiet --disable-pip-version-check
TARGETS = jsonl duckdb meltano
# What tests/targets-NAME.txt is made from. target-duckdb 0.8.0 loses rows with DuckDB 1.3 and newer.
NEEDED_jsonl = target-jsonl==0.1.4
NEEDED_duckdb = target-duckdb==0.8.0 'duckdb<1.3'
NEEDED_meltano = meltano~=4.4

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak lint format pins clean python

help:
	@echo "make demo    a running pipeline, without a Mixpanel account"
	@echo "make test    all checks and tests"
	@echo "make soak    the tests with random faults and kills, with more seeds: SEEDS=100-119"
	@echo "make lint    ruff and mypy only"
	@echo "make format  let ruff format the code"
	@echo "make pins    renew the pinned lists of packages"
	@echo "make clean   remove what the other commands set up"

# Set-up installs into separate environments, so two at a time do not disturb each other.
demo:
	@$(MAKE) --silent -j2 .venv/tap .venv-targets/duckdb/ready
	@.venv-targets/duckdb/bin/python examples/demo/demo.py

test:
	@$(MAKE) --silent -j2 .venv/ready $(TARGETS:%=.venv-targets/%/ready)
	@$(MAKE) lint
	.venv/bin/python -m pytest

soak: .venv/ready
	.venv/bin/python -m pytest -m seeds --seeds $(SEEDS)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/tap: pyproject.toml constraints.txt | python
	@echo "setting up .venv"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --constraint constraints.txt --editable .
	@touch $@

.venv/ready: .venv/tap
	@echo "adding the tools for tests to .venv"
	@$(@D)/$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-targets/%/ready: tests/targets-%.txt | python
	@echo "setting up $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --requirement $<
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; if it has another name here: make PYTHON=python3.12 …" >&2; exit 1; }

pins: $(TARGETS:%=pin-%)
	@echo "renewing constraints.txt"
	@rm -rf .venv-pins && $(PYTHON) -m venv .venv-pins
	@.venv-pins/$(PIP) install '.[dev]'
	@.venv-pins/$(PIP) freeze | grep -v '^tap-mixpanel-stream' > constraints.txt
	@rm -rf .venv-pins

pin-%: | python
	@echo "renewing tests/targets-$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > tests/targets-$*.txt
	@rm -rf .venv-pins-$*

clean:
	rm -rf .venv .venv-targets .venv-pins* output/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
