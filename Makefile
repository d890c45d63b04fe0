# Everything one does with a checkout. `make` alone explains.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-some test-all test-timed test-others check bench chaos lock servers clean

help: ## Explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Prepare the virtual environment from the lock (again only when that changed)

demo: $(STAMP) ## Show it: a simulated community, its alarms, the board (SECONDS=150 ends by itself)
	@$(BIN)/anlin demo $(if $(SECONDS),--seconds "$(SECONDS)")

test: $(if $(T),test-some,test-all) ## Check, then run every test against real servers (T=tests/test_x.py: only that)

test-some: servers
	$(BIN)/python -m pytest $(T)

test-all: servers check
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync test-timed test-others

# Two halves side by side: one waits for servers and clocks, the other mostly computes, and gives way.
test-timed:
	$(BIN)/python -m pytest -m timed

test-others:
	nice -n 5 $(BIN)/python -m pytest -m "not timed"

check: $(STAMP) ## Lint, format, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: servers ## Measure; prints JSON lines and writes bench/RESULTS.md
	$(BIN)/python -m bench

chaos: servers ## The whole system under faults, and a ledger that decides (MINUTES=60, SEED=7 repeats a run, ONLY=fault,…)
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes "$(MINUTES)") $(if $(SEED),--seed "$(SEED)") $(if $(ONLY),--only "$(ONLY)")

lock: build/lock/.complete ## Bring requirements.lock up to pyproject.toml (UPGRADE=1: newest versions; needs Python 3.11)
	env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND="make lock" \
	    build/lock/bin/pip-compile --quiet $(if $(UPGRADE),--upgrade) --all-extras --allow-unsafe --generate-hashes --strip-extras \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file=requirements.lock pyproject.toml

clean: ## Remove what was made here: environment, caches, build folder
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# The real servers that tests and bench talk to; quick when they are there.
servers: $(STAMP)
	@$(BIN)/python tools/servers.py

# The stamp comes last, so an interrupted setup is begun anew.
$(STAMP): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Anlin needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Python's venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

build/lock/.complete:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "make lock needs the oldest Python that Anlin runs on: make lock PYTHON=python3.11")'
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet pip-tools
	@touch $@
