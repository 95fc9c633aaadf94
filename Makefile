# Two commands: `make demo` and `make test` set everything up themselves (Python 3.11+, pip, gcc, make).

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Three processes of tests for two cores, as many wait for servers and workers; few enough for the
# memory of a small machine.
PROCESSES = $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() * 3 // 2))')
PARALLEL = --numprocesses $(PROCESSES) --dist loadgroup
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all check fmt golden images reference bench clean

# The main job on real data: 32 networks from one SQL statement, then predictions in SQL.
demo: $(VENV)/.demo
	$(BIN)/gradbase demo

# Everything that must hold before a commit: style, types, and the tests (at most 10 minutes).
test: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/pytest -m "not slow" $(PARALLEL)

# The full matrix: every rule off in turn, every configuration, long runs.
test-all: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/pytest $(PARALLEL)

# Format the code.
fmt: $(VENV)/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Rewrite the golden plans; read the difference before you commit it.
golden: $(VENV)/.dev
	GRADBASE_GOLDEN=1 $(BIN)/pytest tests/plans
	git diff --stat tests/plans

# Draw the pictures of docs/pictures.md.
images: $(VENV)/.dev
	$(BIN)/python docs/make_images.py

# Write the pages of docs/reference from the code.
reference: $(VENV)/.dev
	$(BIN)/python -m gradbase.testing.reference docs/reference

# The benchmarks (see benchmarks/README.md); DATA is a Parquet file with a column `y`.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/search.py --data $(DATA)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[bench]'
	touch $@ $(VENV)/.dev $(VENV)/.demo

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .ruff_cache demo-output
