# The commands of appfn. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTEST := $(PY) -m pytest -q

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: ## A Kubernetes, appfn on it, two sample functions; prints an answer
	@python3 -m localcluster quickstart

.PHONY: down
down: ## Remove all that `make up` made
	@python3 -m localcluster down

.PHONY: test
test: lint types unit integration conformance e2e ## Every test there is, from nothing

.PHONY: lint
lint: $(STAMP) ## Style, formatting and the direction of imports
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@PYTHONPATH=operator $(VENV)/bin/lint-imports --no-logo

.PHONY: types
types: $(STAMP) ## mypy --strict
	@$(VENV)/bin/mypy operator/appfn localcluster tests bench

.PHONY: unit
unit: $(STAMP) ## Pure code, seconds
	@$(PYTEST) tests/unit

.PHONY: integration
integration: $(STAMP) ## A real kube-apiserver and etcd, a real PostgreSQL
	@tests/prerequisites
	@python3 -m localcluster helm-path >/dev/null
	@$(PYTEST) -n 2 tests/integration

.PHONY: conformance
conformance: $(STAMP) ## Every runtime against one table of cases
	@tests/prerequisites
	@$(PYTEST) tests/conformance

.PHONY: e2e
e2e: $(STAMP) ## Real pods; takes the cluster of `make up`, or one of its own for the while
	@python3 -m localcluster session -- $(PYTEST) --timeout 420 tests/e2e

.PHONY: hotpath
hotpath: $(STAMP) ## What a call costs in the shim itself, beside a bare aiohttp handler
	@PYTHONPATH=operator $(PY) -m bench.hotpath $(ARGS)

.PHONY: bench
bench: $(STAMP) ## Benchmarks, some named by BENCH="warm_c1 …", flags by BENCH_FLAGS="--short --write-docs"
	@bench/prerequisites
	@PYTHONPATH=operator:tests python3 -m localcluster session -- $(PY) -m bench.run $(BENCH_FLAGS) $(BENCH)

.PHONY: lock
lock: $(STAMP) ## Pin the dependencies anew
	@$(VENV)/bin/uv pip compile -q pyproject.toml --generate-hashes --no-emit-index-url --universal \
	    --python-version 3.11 -o requirements.lock
	@$(VENV)/bin/uv pip compile -q pyproject.toml --group dev --generate-hashes --no-emit-index-url --universal \
	    --python-version 3.11 -o requirements-dev.lock

.PHONY: format
format: $(STAMP) ## Format and fix what can be fixed
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

$(STAMP): requirements-dev.lock
	@tests/prerequisites --venv
	@python3 -m venv --clear $(VENV)
	@$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
