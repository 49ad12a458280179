# make dev ARGS="--port 9000"   set-up, then Ragline with embedded servers
# make test ARGS="-k sessions"  set-up, then every test with coverage
# make chaos ARGS="--minutes 5"  kill and freeze what runs while people talk, then check every promise
# Needs Python >= 3.11 and make; everything else comes from requirements.lock.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup dev test bench chaos docs lint lock clean

VENV := .venv
RUN := $(VENV)/bin
ALONE := tests/chaos tests/docs
COVERED := --cov --cov-report=term:skip-covered --cov-report=xml

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

setup: ## .venv from the hash-pinned lock; nothing to do if the lock has not changed
	@python=; \
	for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: Ragline needs Python 3.11 or newer (with its venv module); install one and run make again" >&2; \
	  exit 1; \
	fi; \
	exec "$$python" ragline/dev_stack/set_up.py

dev: setup ## run everything on this machine; ARGS are handed on to `ragline dev`
	@exec $(RUN)/ragline dev $(ARGS)

test: setup ## every test, with coverage: most on every core, each process with servers of its own; then the rest
ifeq ($(strip $(ARGS)),)
	@$(RUN)/python -m pytest $(ALONE:%=--ignore=%) --numprocesses=auto --maxprocesses=4 --dist=loadfile --durations=20 --cov --cov-report=
	@exec $(RUN)/python -m pytest $(ALONE) $(COVERED) --cov-append --cov-fail-under=85
else
	@exec $(RUN)/python -m pytest $(COVERED) $(ARGS)
endif

bench: setup ## the performance table
	@exec $(RUN)/python -m bench $(ARGS)

chaos: setup ## conversations while processes are killed and frozen; ARGS="--seed 7 --minutes 30 --streams 40"
	@exec $(RUN)/python -m tests.chaos $(ARGS)

docs: setup ## the documentation as a site, in build/docs
	@exec $(RUN)/python -m sphinx -q -W --keep-going -b html docs build/docs

lint: setup ## style, types, imports
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

lock: ## resolve requirements.lock anew (needs uv)
	@command -v uv >/dev/null || { echo "error: make lock needs uv; install it and run make lock again" >&2; exit 1; }
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras $(ARGS) -o requirements.lock

clean: ## remove what was built; .ragline (the data) stays
	rm -rf $(VENV) build dist .coverage .coverage.* coverage.xml htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
