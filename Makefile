# `make run` starts everything, `make test` checks everything. Python 3.11 or newer is all they need.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
WORKERS ?= auto

.PHONY: run test check browser bench lock clean

run: $(VENV)/.run
	@exec $(BIN)/crm serve

test: check browser
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

# One test looks at the API's reference in a browser, and says so where there is none.
browser:
	@if [ ! -x /usr/bin/chromium ] && [ "$$(id -u)" = 0 ] && grep -qsx 'ID=debian' /etc/os-release; then \
		echo "Installing chromium for one of the tests (once) …"; \
		{ timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends chromium; } \
			>/dev/null || echo "chromium could not be installed; its test will be skipped" >&2; \
	fi

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Setia needs Python 3.11 or newer; name yours with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) must be Python 3.11 or newer, with its venv module (Debian: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The locks name every package there is to install. Without --no-deps an older pip looks for newer releases of
# `package[extra]` beside the pinned `package`, and refuses both.
$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing what Setia runs on (once) …"
	$(PIP) install --no-deps --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what the checks need (once) …"
	$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	$(PIP) check
	@touch $@

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' --extra build pyproject.toml

lock: $(VENV)/.dev
	$(COMPILE) --upgrade -o requirements.lock
	$(COMPILE) --extra dev --upgrade -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find crm alembic tests benchmarks -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true
