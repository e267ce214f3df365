# The developer's interface: `make help` lists it. Every verb sets up what it needs.

SHELL := /bin/sh
.DEFAULT_GOAL := help
export SIGHTLINE_DATA_DIR ?= $(CURDIR)/.sightline
BIN := .venv/bin
export RUNTIME ?= onnx

.PHONY: help setup ready demo test faults check serve bench clean

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: SIGHTLINE_DATA_DIR (models and data), PYTHON (3.11 or newer), EXTRAS and TORCH (what is installed),\nRUNTIME (for demo: onnx, or triton for a real tritonserver),\nARGS (for serve, bench and the tests: make test ARGS="tests/gateway -x").\n'

setup: ## Virtual environment, packages, default models; does nothing when nothing has changed
	@scripts/setup.sh

ready: # the same without what only tests need
	@scripts/setup.sh run

demo: ready ## Start the platform, ask it about real photos, check the answers, stop it; also RUNTIME=triton
	@$(BIN)/python -m sightline.demo --runtime $(RUNTIME)

test: setup check ## Everything that CI runs: checks and the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

faults: setup ## Only the tests that kill everything that can be killed, among hundreds of jobs
	@$(BIN)/python -m pytest tests/faults $(ARGS)

check: ready ## Lint, format, types, and the rules between the floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

serve: ready ## Serve on this machine: make serve ARGS="--port 8001"
	@exec $(BIN)/sightline serve $(ARGS)

bench: ready ## Compare serving speed with other frameworks, side by side: make bench ARGS=--quick
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	@$(BIN)/python -m speed.serving $(ARGS)
	@$(BIN)/python -m speed.triton $(ARGS)

clean: ## Remove the virtual environment and caches; models and data stay
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
	@echo "Models and data stay in $(SIGHTLINE_DATA_DIR)"
