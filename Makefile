# Everything runs from one virtual environment that the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak lint types bench clean

demo: $(VENV)/run
	$(BIN)/mlops-exporter demo

test: $(VENV)/dev
	tests/setup-debian.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m "not benchmark and not soak"
	$(BIN)/pytest -m benchmark

soak: $(VENV)/dev
	$(BIN)/pytest -m soak

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	tests/setup-venv.sh $(PYTHON) $(VENV)

$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[kafka,parquet,redis] --group dev
	touch $@
