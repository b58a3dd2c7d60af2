# Everything that a person or CI runs; `make` alone lists it. Needs make and Python 3.11 or later, nothing else.
PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Each environment is a stamp as old as the lock it was installed from, so a changed lock is installed at the next call.
SERVER := $(VENV)/.server-installed
ALL := $(VENV)/.all-installed

.DEFAULT_GOAL := help
.PHONY: help serve test test-compose test-clients check format-check lint types contracts drift format kernels openapi signatures demo screenshots bench lock clean

help:  ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

serve: $(SERVER)  ## run the service on 127.0.0.1:8000
	$(PYTHON) -m service

test: $(ALL)  ## run the tests, but for the slow ones, which `make check` runs too
	$(PYTHON) -m pytest -n auto --dist loadgroup -m "not slow"

test-compose: $(ALL)  ## build and run docker-compose.yml for real; needs a Docker engine
	$(PYTHON) -m pytest tests/compose

test-clients: $(ALL)  ## test with MLServer, Lightning, MLflow and Weights and Biases, installed beside
	$(PYTHON) -m benchmarks.environments
	$(PYTHON) -m pytest tests/service/test_kserve_mlserver.py tests/xent/test_lightning.py tests/demo/test_trackers.py

check: format-check lint types contracts drift  ## everything CI insists on; last every test, with coverage and more examples of each law
	$(PYTHON) -m pytest -n auto --dist loadgroup --hypothesis-profile=ci --cov --cov-report=term

format-check: $(ALL)  ## fail where `make format` would change layout
	$(PYTHON) -m ruff format --check

lint: $(ALL)  ## ruff's rules
	$(PYTHON) -m ruff check

types: $(ALL)  ## mypy, strict
	$(PYTHON) -m mypy

contracts: $(ALL)  ## which package and module may import which
	$(VENV)/bin/lint-imports

drift: $(ALL)  ## fail where openapi/openapi.json is not what the service says, or xent/variants.py not what that says
	$(PYTHON) -m service openapi | diff -u openapi/openapi.json -
	$(PYTHON) -m openapi.signatures | diff -u xent/variants.py -

format: $(ALL)  ## lay out the code and mend what ruff can mend
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

kernels: $(SERVER)  ## compile the passes for this machine; needs a C++ compiler
	$(PYTHON) -m xentcore.kernels build

openapi: $(ALL)  ## write openapi/openapi.json, and the client's signatures
	mkdir -p openapi
	$(PYTHON) -m service openapi >openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json
	$(MAKE) signatures

signatures: $(ALL)  ## write xent/variants.py, what the client's types know of the variants
	$(PYTHON) -m openapi.signatures >xent/variants.py.new
	mv xent/variants.py.new xent/variants.py

demo: $(ALL)  ## train two small classifiers and ask the service about their losses
	$(PYTHON) -m demo

screenshots: $(ALL)  ## take the pictures of the dashboard in demo/screenshots; needs Chromium
	$(PYTHON) -m demo.screenshots

bench: $(ALL)  ## measure side by side; ARGUMENTS=--quick for a smoke run
	$(PYTHON) -m benchmarks $(ARGUMENTS)

lock: $(ALL)  ## pin what pyproject.toml names; UPGRADE=--upgrade takes the newest of everything
	$(VENV)/bin/uv pip compile --quiet $(UPGRADE) pyproject.toml --extra server --group demo --group test --group check -o requirements.lock
	$(VENV)/bin/uv pip compile --quiet pyproject.toml --extra server -c requirements.lock -o requirements-server.lock
	for group in plots litserve mlserver pytriton bentoml; do \
	  $(VENV)/bin/uv pip compile --quiet $(UPGRADE) --prerelease if-necessary --group $$group -o benchmarks/locks/$$group.lock || exit; done
	$(VENV)/bin/uv pip compile --quiet $(UPGRADE) --prerelease if-necessary pyproject.toml --group trackers -o benchmarks/locks/trackers.lock
	for group in liger lightning; do \
	  $(VENV)/bin/uv pip compile --quiet $(UPGRADE) --no-deps --group $$group -o benchmarks/locks/$$group.lock || exit; done

clean:  ## remove the environment and everything generated that git ignores, caches included
	rm -rf $(VENV) benchmarks/.environments .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Xent needs Python 3.11 or later, and $(PYTHON3) is not: name one with make PYTHON3=/path/to/python3.12"; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON3) cannot make virtual environments: install python3-venv (Debian, Ubuntu)," \
	    "or name another Python with make PYTHON3=/path/to/python3.12"; exit 1; }
	$(PYTHON3) -m venv $(VENV)

$(SERVER): requirements-server.lock | $(PYTHON)
	$(PYTHON) -m pip install --quiet -r $<
	touch $@

$(ALL): requirements.lock | $(PYTHON)
	$(PYTHON) -m pip install --quiet -r $<
	touch $@ $(SERVER)
