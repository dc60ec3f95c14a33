# Everything runs from one virtual environment that the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How long `make soak` lasts, up to 18.
MINUTES ?= 15
# What `make spark` counts, and how often it kills whoever counts.
KILLS ?= 4
ROWS ?= 2000000
# The tests start the product hundreds of times: it is compiled once, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: chart demo test quick unit releases soak lint types bench fuzz rules healthy-month ordinary-quarter newer kafka mlflow ranx river nannyml streams spark dashboards stack clean

demo: $(VENV)/run
	$(BIN)/mlops-exporter demo

test: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 5 --dist worksteal -m "not benchmark and not soak and not apache_kafka and not mlflow and not spark and not releases"
	$(BIN)/pytest -m "benchmark and not soak"

# Linters, types and the unit tests: what to run while working, within a minute.
quick: $(VENV)/dev
	$(MAKE) --jobs 3 --output-sync=target lint types unit

unit: $(VENV)/dev
	$(BIN)/pytest -n 2 -m "not simulation and not slow" tests/unit

releases: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/pytest -s -m releases

soak: $(VENV)/dev
	tests/setup-debian.sh
	tests/setup-streams.sh $(PYTHON) .streams
	$(BIN)/pytest -m soak --timeout 3600
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

rules: $(VENV)/dev
	$(BIN)/python -m alertmanager.stack
	$(BIN)/python -m prometheus.source $(if $(GRAFANA_URL),--grafana=$(GRAFANA_URL)) $(if $(RUNBOOKS_URL),--runbooks=$(RUNBOOKS_URL))

healthy-month: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/python -m tests.simulations.healthy_month

# Thirteen weeks of ordinary life with real rules, and twelve faults: an hour and more of two cores.
ordinary-quarter: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/python -m tests.simulations.ordinary_quarter

newer: $(VENV)/dev
	tests/setup-debian.sh
	tests/setup-newer.sh .newer
	PATH="$(CURDIR)/.newer:$$PATH" $(BIN)/pytest tests/integration/alerting tests/integration/test_prometheus.py

kafka: $(VENV)/dev
	tests/setup-debian.sh
	tests/setup-kafka.sh .kafka
	PATH="$(CURDIR)/.kafka:$$PATH" $(BIN)/pytest tests/integration/sources

mlflow: $(VENV)/dev
	tests/setup-mlflow.sh $(PYTHON) .mlflow
	PATH="$(CURDIR)/.mlflow/bin:$$PATH" $(BIN)/pytest -m mlflow

ranx:
	tests/setup-venv.sh $(PYTHON) .ranx
	.ranx/bin/python -m pip install --quiet ranx
	PYTHONPATH=exporter .ranx/bin/python tests/oracles/ranx_metrics.py

# River's detectors of change, and NannyML, beside what is exported.
river:
	tests/setup-venv.sh $(PYTHON) .river
	.river/bin/python -m pip install --quiet river .
	.river/bin/python -m tests.simulations.sooner

# NannyML imports statsmodels without saying so, and does not know the texts of pandas 3.
nannyml:
	tests/setup-venv.sh $(PYTHON) .nannyml
	.nannyml/bin/python -m pip install --quiet nannyml statsmodels "pandas<3" .[parquet]
	.nannyml/bin/python -m tests.oracles.nannyml_estimates

# Real streams through a running exporter.
streams: $(VENV)/dev
	tests/setup-streams.sh $(PYTHON) .streams
	$(BIN)/python -m tests.simulations.running_streams

# KILLS is how many drivers, and how many executors, are killed; ROWS how many the figures at the end are of.
spark:
	tests/setup-spark.sh $(PYTHON) .spark
	KILLS=$(KILLS) .spark/bin/python -m pytest -s -m spark tests/integration/test_spark.py
	.spark/bin/python -m tests.benchmarks.spark --rows $(ROWS)

bench: $(VENV)/dev
	tests/setup-debian.sh
	tests/setup-peers.sh $(PYTHON) .peers
	$(BIN)/python -m tests.benchmarks

fuzz: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/python -m tests.fuzz --tries 2000000

# The Helm chart and GitHub's workflows with Helm, linters and a Kubernetes without nodes, which tests/setup-chart.sh
# builds with Go into .chart.
chart: $(VENV)/dev
	tests/setup-chart.sh .chart
	$(BIN)/python -m charts.source
	CHART_TOOLS=.chart PATH="$(CURDIR)/.chart:$$PATH" $(BIN)/pytest tests/unit/test_chart.py tests/integration/test_chart.py tests/integration/test_cluster.py tests/integration/test_workflows.py

dashboards: $(VENV)/dev
	$(BIN)/python -m grafana.source

stack: $(VENV)/run
	PYTHON=$(BIN)/python ./stack.sh

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	tests/setup-venv.sh $(PYTHON) $(VENV)

$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'  # --group needs it; also in a .venv made by hand
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[arrow,kafka,parquet,redis,sql,tables] --group dev
	touch $@
