# Everything that a person types. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
CLIPS := 1600

# One folder for all of Dagster's state, wherever a command is started from.
export DAGSTER_HOME := $(CURDIR)/.dagster

.PHONY: help setup demo test lint ui clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

setup: .venv/.installed .dagster/dagster.yaml ## virtual environment in .venv with the pinned packages

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Reelhouse needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.dagster/dagster.yaml: | dagster.yaml
	@mkdir -p .dagster
	@ln -sf ../dagster.yaml $@

demo: setup ## embedded corpus, the whole staged run on it, and what came out; again: only what is not done
	$(BIN)/python -m warehouse.corpus .reelhouse/demo/corpus --clips $(CLIPS)
	$(BIN)/dagster job execute -m pipelines -j full_run
	$(BIN)/python -m pipelines summary

test: setup lint ## ruff, mypy and the tests
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

ui: setup ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/dagster dev -m pipelines -h 127.0.0.1 -p 3000

clean: ## remove .venv, Dagster's state and the demo's data (other data roots stay)
	rm -rf .venv .dagster .reelhouse/demo .pytest_cache .ruff_cache .mypy_cache *.egg-info
