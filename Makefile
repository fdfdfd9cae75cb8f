# Every target works from a clean clone with Python 3.11 to 3.13, make and git; as root or not.
# Nothing needs to be activated: the environment is .venv, used by path.

SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/installed
TRELLIS := $(PYTHON) -P -m trellis.cli

# Extra arguments, e.g. make dev ARGS="--port 3000", make test ARGS="-k resume".
ARGS ?=
# Processes that share the tests, the long files first. They mostly wait, so there are more than cores.
JOBS ?= 3
SEEDS ?= 20
RUNS ?= 10000
STREAMS ?= 4000

.DEFAULT_GOAL := help
.PHONY: help install dev demo test browser check bench bench-streams plans chaos soak clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*##\(.*\)/  make \1 \2/p' Makefile | awk '{ printf "  make %-14s", $$2; $$1 = $$2 = ""; print }'

install: $(STAMP)  ## Make .venv with the pinned versions
	@echo "Installed in $(VENV). Next: make dev, make demo, make test"

dev: $(STAMP)  ## Serve the demo graphs: database, broker, API, worker
	@exec $(TRELLIS) dev $(ARGS)

demo: $(STAMP)  ## Watch an agent stream, ask for approval and resume
	@exec $(TRELLIS) demo $(ARGS)

test: $(STAMP)  ## Run every test
	@$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

browser: $(STAMP)  ## Run the React pages in Chromium (needs Node, npm, Chromium)
	@TRELLIS_TEST_BROWSER=required $(PYTHON) -m pytest tests/acceptance/test_browser.py -m long $(ARGS)

check: $(STAMP)  ## Lint, types, import rules, unit tests
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports
	@$(PYTHON) -m pytest -q tests/unit $(ARGS)

bench: $(STAMP)  ## Measure, and print one table
	@$(PYTHON) tests/benchmarks/bench.py $(ARGS)

bench-streams: $(STAMP)  ## Measure the streams only (STREAMS=4000)
	@$(PYTHON) tests/benchmarks/bench.py --scenario first-event,burst,tokens,open \
	  --streams $(STREAMS) $(ARGS)

chaos: $(STAMP)  ## Kill processes and cut connections while runs go on (SEEDS=20 RUNS=10000)
	@SEEDS=$(SEEDS) RUNS=$(RUNS) $(PYTHON) -m pytest tests/chaos \
	  tests/acceptance/test_crashes.py tests/acceptance/test_quarantine.py \
	  tests/acceptance/test_worker_stop.py -m "long or not long" \
	  -o python_files="test_*.py measure_*.py" $(ARGS)

plans: $(STAMP)  ## Measure the queries on a million threads (about 5 minutes, 10 GB)
	@PYTHONPATH=tests $(PYTHON) -m benchmarks.plans $(ARGS)

soak: $(STAMP)  ## Watch the memory over many runs (RUNS=10000)
	@$(PYTHON) tests/benchmarks/bench.py --scenario memory --memory-runs $(RUNS) $(ARGS)

clean:  ## Remove .venv and caches; the data in .trellis stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Installed anew when what is to be installed changed, or when the interpreter is gone.
$(STAMP): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory venv
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[dev,test]'
	@touch $(STAMP)

ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell $(PYTHON) -c 'print(1)' 2>/dev/null),1)
.PHONY: $(STAMP)
endif
endif

# A name on PATH may be a shim that finds no version to run (pyenv and the .python-version file,
# when that version is missing here), so each candidate must prove itself. Then pyenv's own are tried.
.PHONY: venv
venv:
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then exit 0; fi; \
	rm -rf $(VENV); \
	for candidate in python3 python3.12 python3.13 python3.11 python /usr/bin/python3 \
	    "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[123].*/bin/python3; do \
	  real=$$("$$candidate" -c 'import ensurepip, sys, venv; ok = (3, 11) <= sys.version_info < (3, 14); print(sys.executable if ok else "")' 2>/dev/null) || continue; \
	  if [ -n "$$real" ]; then \
	    echo "Making $(VENV) with $$("$$real" --version) ($$real)"; \
	    exec "$$real" -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python between 3.11 and 3.13 with venv found. Install one (on Debian: python3 and python3-venv)." >&2; exit 1
