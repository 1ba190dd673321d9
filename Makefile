# make demo       train, compile, serve and ask a small real model
# make test       everything that .ci/run checks
# make test-slow  the tests that take minutes or gigabytes
# make test-cuda  compiling for GPUs, without one: installs JAX's CUDA plugin (gigabytes)
# make check      formatting, lint, types, layers
# make format     rewrite the sources in the house format, and the module lists of the folders
# make clean      remove the environment and what the targets made
#
# All of them make their own environment first: .venv, from PYTHON (3.11 or 3.12).

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
# One environment per Python version: changing PYTHON makes it anew.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.installed-$(VERSION)

.PHONY: demo test test-slow test-cuda check format install clean
.DELETE_ON_ERROR:

demo: install
	$(BIN)/python examples/digits.py demo

test: check
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not cuda"

test-slow: install
	$(BIN)/python -m pytest -q -m "slow and not cuda"

test-cuda: install
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[cuda]'
	$(BIN)/python -m pytest -q -m cuda

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tests/folder_readmes.py

install: $(STAMP)

$(STAMP): pyproject.toml
	@case "$(VERSION)" in 3.11|3.12) ;; *) \
	  echo "make: $(PYTHON) is Python '$(VERSION)', want 3.11 or 3.12: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1;; esac
	@echo "==> $(VENV): Python $(VERSION), jaxrt with TensorFlow and the checks (2 GB, minutes; once)"
	@test "$$(cat $(VENV)/.python 2>/dev/null)" = "$(VERSION)" || { \
	  if test -e $(VENV) -a ! -e $(VENV)/.python; then \
	    echo "make: $(VENV) is there and was not made by this Makefile: remove it, or make VENV=another" >&2; exit 1; fi; \
	  $(PYTHON) -m venv --clear $(VENV) && echo $(VERSION) > $(VENV)/.python; } || { \
	  echo "make: no environment in $(VENV); where $(PYTHON) lacks the venv module: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[convert,dev]'
	@# Keras 2, for tests of its exports. Without dependencies: they would bring a second TensorFlow.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps 'tf-keras>=2.18'
	@rm -f $(VENV)/.installed-* && touch $@
	@echo "==> $(VENV): ready"

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
