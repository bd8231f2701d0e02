VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

check: $(VENV)/.installed ## install everything, then lint and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

slow: $(VENV)/.installed ## the slow tests: wheel, load, kills
	$(BIN)/python -m pytest -m slow

format: $(VENV)/.installed ## mend what ruff can mend
	$(BIN)/ruff check --fix .

clean: ## remove the virtual environment and build leftovers
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

.PHONY: help check slow format clean
.DEFAULT_GOAL := help
