# One command for each habit. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The distribution's Python, as in the images, is built with profile-guided optimization: imports take a fifth less than in pyenv's.
ifndef PYTHON
PYTHON := $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo /usr/bin/python3 || echo python3)
endif
VENV := .venv
READY := $(VENV)/.ready
LOCALCLUSTER := PYTHONPATH=tools $(PYTHON) -m localcluster
DEMO := PYTHONPATH=tools $(PYTHON) -m demo
# Without kept bytecode every process compiles all that it imports. Mypy's results are valid in every checkout: it compares contents.
export PYTHONDONTWRITEBYTECODE :=
export MYPY_CACHE_DIR ?= $(or $(FLOWSESSION_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flowsession)/mypy

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo deploy cluster-up cluster-down cluster-status images run
demo: $(READY) ## a cluster, the operator, a real flow: start, run, end when idle
	@$(DEMO) run

deploy: ## build and load the images, install or upgrade the operator on the current cluster
	@$(DEMO) deploy

cluster-up: ## a real Kubernetes on this machine, without Docker (root; the first time about 15 minutes)
	@$(LOCALCLUSTER) up

cluster-down: ## end it and leave nothing behind
	@$(LOCALCLUSTER) down

cluster-status: ## what of it runs
	@$(LOCALCLUSTER) status

images: ## build the operator's and the runtime image, with Docker or else buildah
	@$(DEMO) images

run: $(READY) $(VENV)/agent.pyz ## the operator from this checkout, against KUBECONFIG
	@PYTHONPATH=tools $(VENV)/bin/python -m demo operator --agent $(VENV)/agent.pyz

.PHONY: packages
packages: ## install the Debian packages that the tests start programs of
	@$(LOCALCLUSTER) packages tests

.PHONY: test test-unit coverage test-agent test-corpus test-run-cases test-apiserver test-chart test-e2e test-scale lint fmt crds docs cli bench bench-cli bench-idle bench-install bench-placement bench-runs
PYTEST := $(VENV)/bin/pytest --maxfail=5 --durations=25
test: packages lint test-unit ## everything: lint and types, unit, then end to end beside API server, agent and chart
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-e2e test-below

# What waits most comes first. So tests/e2e get a core before these, and the agent's tests, which compute most, are run while the last of
# tests/e2e wait for a cluster of their own.
.PHONY: test-below
test-below: packages $(READY)
	@nice -n 5 $(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder tests/apiserver tests/chart tests/agent

test-unit: $(READY) ## decisions and other pure parts, in about a minute
	@$(VENV)/bin/pytest -q -n 2 --dist worksteal tests/unit tests/scale/test_checker.py

coverage: $(READY) ## which lines and branches the unit tests don't reach
	@$(VENV)/bin/pytest -q --cov --cov-report=term tests/unit

test-agent: packages $(READY) ## the agent, with real pip and uv
	@$(PYTEST) -n 2 tests/agent

test-run-cases: $(READY) ## every flow of the comparison of FlowRuns with `pf run create` (a quarter of an hour)
	@EVERY_RUN_CASE=1 $(PYTEST) -n 2 tests/agent/test_run_oracle.py

test-corpus: $(READY) ## 120 made-up requirements files, installed and imported in the runtime image's layout (an hour)
	@PYTHONPATH=operator:tools:tests $(VENV)/bin/python -m agent.corpus

test-apiserver: packages $(READY) ## the operator against a real etcd and kube-apiserver
	@$(PYTEST) -n 2 --dist loadfile tests/apiserver

test-chart: $(READY) ## helm lint and template
	@$(PYTEST) tests/chart

test-e2e: packages $(READY) ## the whole thing on real kubelets
	@$(PYTEST) -n 3 --dist loadgroup --no-loadscope-reorder tests/e2e

test-scale: $(READY) ## 500 played nodes, 1,000 sessions, a real autoscaler; prints its figures (the first time 10 minutes of building)
	@$(VENV)/bin/pytest -s tests/scale

# Without a cache: a new module can change the right order of imports in files that stay as they are.
lint: $(READY) ## style, types, import direction, stale generated files
	@$(VENV)/bin/ruff check --no-cache .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy --python-version 3.10 operator/flowsession_agent operator/flowsession_protocol
	@$(VENV)/bin/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(VENV)/bin/python -m flowsession.api.crds --check
	@PYTHONPATH=tools $(VENV)/bin/python -m release.reference --check
	@$(LOCALCLUSTER) programs

fmt: $(READY) ## format the code and sort its imports
	@$(VENV)/bin/ruff check --no-cache --fix --exit-zero -q .
	@$(VENV)/bin/ruff format -q .

crds: $(READY) ## write crds/ and the chart's copy from the models
	@$(VENV)/bin/python -m flowsession.api.crds

docs: $(READY) ## write docs/kubectl-flow-reference.md from the program
	@PYTHONPATH=tools $(VENV)/bin/python -m release.reference

ADDRESS ?= https://releases.example.com/flowsession
cli: $(READY) ## kubectl flow as one file in dist/, with krew's manifest and the k9s plugin file; ADDRESS=... where releases lie
	@PYTHONPATH=tools $(VENV)/bin/python -m release dist $(ADDRESS)

bench: $(READY) ## measure start times against bare pods on the current cluster; prints what docs/figures.md holds
	@PYTHONPATH=tools $(VENV)/bin/python bench/start.py

bench-cli: $(READY) ## measure how fast kubectl flow starts and lists beside kubectl, on the current cluster
	@PYTHONPATH=tools $(VENV)/bin/python bench/cli.py

bench-idle: $(READY) ## measure how exact the idle end is: 200 sessions with mixed work, 1,000 with short commands and edits
	@PYTHONPATH=tools $(VENV)/bin/python bench/idle.py
	@PYTHONPATH=tools:tests $(VENV)/bin/python bench/idle_commands.py

bench-install: $(READY) ## measure how long 70 packages take, by pip, in a session, and through the package cache
	@PYTHONPATH=operator:tools:tests $(VENV)/bin/python bench/install.py

bench-runs: $(READY) ## measure runs of 3 and of 1,000 lines beside prompt flow's own command
	@PYTHONPATH=tools $(VENV)/bin/python bench/runs.py

bench-placement: $(READY) ## measure what keeping users apart costs the scheduler
	@PYTHONPATH=operator:tools:tests $(VENV)/bin/python bench/placement.py

.PHONY: mutants
N ?= 300
SEED ?= 1
mutants: $(VENV)/.mutation ## a sample of N=300 small changes to decisions and engine that unit tests should notice; tells which they don't (an hour)
	@PYTHONPATH=tools nice $(VENV)/bin/python -m mutants --sample $(N) --seed $(SEED) $(if $(SLOW),--slow)

$(VENV)/.mutation: $(READY)
	@$(VENV)/bin/uv pip install -q --python $(VENV)/bin/python --group mutation
	@touch $@

$(VENV)/agent.pyz: $(READY) $(shell find operator/flowsession_agent operator/flowsession_protocol -name '*.py')
	@$(VENV)/bin/python -m flowsession_agent.build $@

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; " + sys.executable + " is " + sys.version.split()[0] + ". Set PYTHON=...")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -q --upgrade pip uv
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(VENV)/bin/uv sync -q --frozen --inexact
	@touch $@
