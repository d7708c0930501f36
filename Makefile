# Two commands: `make run` shows a recorded day end to end, `make test` proves everything that needs no Docker.
# Needed: make and python3 >= 3.11 with venv. Everything else is installed into .venv, in pinned versions.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test chaos browser image manifests bench fuzz lint mutation lock clean check-python

help:
	@echo "make run    a recorded day through the whole fleet, with a summary at the end (under a minute)"
	@echo "make test   lint, types, layers and every test that needs no Docker"
	@echo "make chaos  SIGKILL at every call of every process, 10,000 legs; outages, poison, soak; sabotage (SEED=n)"
	@echo "make browser  the dashboard in headless Chromium (Debian: sudo apt-get install chromium fonts-dejavu-core)"
	@echo "make image  the steps of the image without Docker: its size, its processes as another user, read-only"
	@echo "make manifests  docker-compose.yml and the Kubernetes manifests against their schemas"
	@echo "make bench  every promise of speed, each beside a reference of the same round, as one table (ten minutes)"
	@echo "make fuzz   the property tests with tens of thousands of examples (hours)"
	@echo "make lint   lint, types and layers only"
	@echo "make mutation  break the money rules one by one and count what the tests notice (a quarter of an hour)"
	@echo "make lock   resolve and pin the dependencies again (needs uv)"
	@echo "make clean  remove .venv and caches"

run: $(VENV)/run.stamp
	$(BIN)/fleet run --demo

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --ignore tests/integration/test_forked.py
	$(BIN)/python -m pytest tests/integration/test_forked.py

SEED ?= 20141122
chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos --seed $(SEED) --page docs/reliability.md
	$(BIN)/python -m tests.chaos --seed $(SEED) --only all --page docs/reliability.md
	$(BIN)/python -m tests.chaos --seed $(SEED) --sabotage all
	$(BIN)/python -m pytest tests/properties/test_input.py --hypothesis-profile=chaos --timeout=0

browser: $(VENV)/dev.stamp
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		echo "chromium is missing. Debian/Ubuntu: sudo apt-get install chromium fonts-dejavu-core" >&2; exit 1; }
	$(BIN)/python -m pytest tests/browser

image: check-python
	$(PYTHON) tests/tools/image.py

manifests: $(VENV)/manifests.stamp
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/kubernetes-validate --strict docker/kubernetes/*.yaml

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.benchmarks --page docs/performance.md --json .fleet/bench.json

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/properties --hypothesis-profile=chaos --timeout=0

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutation: $(VENV)/mutation.stamp
	$(BIN)/python -m tests.tools.mutation

check-python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "$(PYTHON) is missing. Debian/Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is `$(PYTHON) -V 2>&1`; valid: Python >= 3.11." \
			"Try: make PYTHON=python3.12 (Debian/Ubuntu: sudo apt-get install python3.12 python3.12-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		version=`$(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'`; \
		echo "$(PYTHON) cannot make virtual environments: the package python$$version-venv is missing." \
			"Debian/Ubuntu: sudo apt-get install python$$version-venv" >&2; exit 1; }

$(VENV)/made.stamp: | check-python
	@echo "making $(VENV) with `$(PYTHON) -V`"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/run.stamp: $(VENV)/made.stamp requirements.lock pyproject.toml
	@echo "installing pinned packages (once)"
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "installing pinned tools for tests (once)"
	@$(PIP) install --requirement requirements-dev.lock
	@touch $@

$(VENV)/mutation.stamp: $(VENV)/dev.stamp requirements-mutation.lock
	@echo "installing the pinned mutation tool (once)"
	@$(PIP) install --requirement requirements-mutation.lock
	@touch $@

$(VENV)/manifests.stamp: $(VENV)/dev.stamp requirements-manifests.lock
	@echo "installing the pinned schemas (once)"
	@$(PIP) install --requirement requirements-manifests.lock
	@touch $@

UV_COMPILE := uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --extra dashboard --extra notify --no-header --no-annotate
lock:
	$(UV_COMPILE) --group build --upgrade --output-file requirements.lock
	$(UV_COMPILE) --group build --group dev --constraints requirements.lock --upgrade --output-file requirements-dev.lock
	$(UV_COMPILE) --group build --group dev --group mutation --constraints requirements-dev.lock --upgrade --output-file requirements-mutation.lock
	$(UV_COMPILE) --group build --group dev --group manifests --constraints requirements-dev.lock --upgrade --output-file requirements-manifests.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants
