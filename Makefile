PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

DATA ?= digits
RUN ?= runs/$(notdir $(DATA))
MINUTES ?= 2.5

.PHONY: help setup train test lint verify mutate browser bench
.DEFAULT_GOAL := help

help: ## Say what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

setup: $(INSTALLED) ## Create the virtual environment and install everything, once

# torch comes first, so that its pin decides which build everything else sees.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(INSTALLED)

train: $(INSTALLED) ## Train on real images, draw samples, evaluate (DATA=, RUN=, MINUTES=)
	$(BIN)/ddpm train --run $(RUN) \
	  $(if $(wildcard $(RUN)/config.json),--resume,--data $(DATA) --minutes $(MINUTES))
	$(BIN)/ddpm sample --run $(RUN) --num 64 --seed 1
	$(BIN)/ddpm eval --run $(RUN)

test: $(INSTALLED) ## Run all proofs and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

verify: $(INSTALLED) ## Prove every formula of the papers, refute every misprint, write the page
	$(BIN)/ddpm verify --html formulas.html

mutate: $(INSTALLED) ## Break the reference in thousands of ways and count what the proofs notice
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutate]'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

browser: $(INSTALLED) ## Test the pages in Chromium (apt-get install chromium chromium-driver)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest tests/browser

bench: $(INSTALLED) ## Time every operation beside torch and the peers, on equal results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/ddpm bench --static
	$(BIN)/ddpm bench --out bench
