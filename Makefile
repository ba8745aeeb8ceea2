# make quickstart   set up, then run the whole loop on the embedded models (CPU, no network beyond the package index)
# make test         the test suite; ARGS passes options on: make test ARGS="-k mix -x"
# make check        lint + types + tests, as CI does
# make gpu-check    what only a machine with a GPU can show: engines, a training, the quickstart
# make lock         resolve pyproject.toml into requirements/*.txt
.DEFAULT_GOAL := check
.PHONY: setup quickstart test lint format types check gpu-check lock
# One after the other: two cores, and the test suite starts processes of its own.
.NOTPARALLEL:

BIN := .venv/bin
ARGS ?=

setup:
	@scripts/setup.sh

quickstart: setup
	$(BIN)/synthloop run configs/quickstart.yaml

test: setup
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

check: lint types test

gpu-check: setup
	scripts/gpu_check.sh

lock:
	python3.11 scripts/lock_requirements.py
