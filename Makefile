# `make` alone lists what there is. Needs Python >= 3.11 with venv, and make; nothing else.
#   make run PYTHON=/usr/bin/python3.13        another Python
#   make run CONFIG=my.yaml                    another configuration
#   make test ARGS="-k sse -x"                 more arguments for pytest
#   make lock ARGS=--upgrade                   newer versions, at least seven days old

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
            "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && exit; \
          done; echo python3)
CONFIG ?= config.yaml
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Wheels only: an sdist runs its own code while it installs. Hashes: what was locked is what arrives. Uncompiled: most
# modules of these packages are never imported, and Python compiles the others by itself; it saves 2.6 of 13 s.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
FROM_LOCK := $(PIP_INSTALL) --require-hashes --only-binary :all: --no-deps --no-compile

# A step is done when a stamp bearing the checksum of what it was made from lies inside .venv: an edited lock means a
# new stamp, and a deleted or half-made .venv has none. Beside a Python that no longer runs (moved, upgraded) they lie.
CLIENTS_VENV := .make/clients
FRAMEWORKS_VENV := .make/frameworks
SITE_VENV := .make/site
DEPLOY_VENV := .make/deploy
OPENWEBUI_VENV := .make/openwebui
NO_LIES := $(shell for venv in $(VENV) $(CLIENTS_VENV) $(FRAMEWORKS_VENV) $(SITE_VENV) $(DEPLOY_VENV) $(OPENWEBUI_VENV); do \
             test ! -d $$venv || $$venv/bin/python -S -c '' 2>/dev/null || rm -f $$venv/.stamp-*; done)
checksum = $(shell cat $(1) 2>/dev/null | cksum | cut -d ' ' -f 1)
# `run` installs the extras, and litellm, which is the large one, only for a config that needs them. All else has them.
LOCK := requirements.lock
ifneq ($(filter run,$(MAKECMDGOALS)),)
LOCK := $(or $(shell "$(PYTHON)" deploy/needs.py "$(CONFIG)" 2>/dev/null),$(LOCK))
endif
FULL := $(VENV)/.stamp-locked-$(call checksum,requirements-build.lock requirements.lock)
RUN_LOCKS := requirements-build.lock $(if $(wildcard $(FULL)),requirements.lock,$(LOCK))
MADE := $(VENV)/.stamp-made-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
LOCKED := $(VENV)/.stamp-locked-$(call checksum,$(RUN_LOCKS))
DEV := $(VENV)/.stamp-dev-$(call checksum,$(RUN_LOCKS) requirements-dev.lock)
CLIENTS := $(CLIENTS_VENV)/.stamp-$(call checksum,tests/clients/requirements.lock)
FRAMEWORKS := $(FRAMEWORKS_VENV)/.stamp-$(call checksum,tests/clients/frameworks.lock)
SITE := $(SITE_VENV)/.stamp-$(call checksum,docs/requirements.lock)
DEPLOY := $(DEPLOY_VENV)/.stamp-$(call checksum,tests/deploy/requirements.lock)
PROJECT := $(VENV)/.stamp-project-$(call checksum,pyproject.toml proxy/__init__.py)

.PHONY: help run venv test check fmt lock docs site pictures chaos test-clients test-agents test-openwebui test-deploy manifests test-image test-real test-heavy bench bench-all bench-compare clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: venv ## set up .venv and serve config.yaml on http://127.0.0.1:8080
	@exec $(BIN)/chat-proxy serve -c $(CONFIG) $(ARGS)

venv: $(MADE) $(LOCKED) $(PROJECT)

# Tests of a group share what is slow to make, such as litellm's import, in one process (`--dist loadgroup`).
# A test that hangs is told by its stack, and fails, instead of holding up all others.
NO_HANGING := -o faulthandler_timeout=180 -o faulthandler_exit_on_timeout=true

USUAL := -m "not heavy and not real and not image and not clients and not agents and not deploy and not openwebui" $(NO_HANGING)

test: venv $(DEV) ## set up the test packages too and run the tests
	@echo "running the tests"
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(USUAL) $(ARGS)

# A test that fails beside thousands of others on a busy machine, and passes alone, is a fault of the test: it is named
# at the end, to be mended, and holds nobody up. One that fails alone too, or a run that broke off, is a failure.
check: venv $(DEV) ## format, lint, types, import layers, tests: all that CI asks for
	@echo "checking format, lint, types and import layers"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@rm -f .pytest_cache/v/cache/lastfailed
	@$(MAKE) --no-print-directory test PYTHON="$(PYTHON)" || { \
		echo "running what failed again, alone: what passes now does not always pass, and is to be mended" && \
		$(BIN)/python -m pytest -n 1 --dist loadgroup -x -v --last-failed --last-failed-no-failures none $(USUAL) $(ARGS); }

fmt: venv $(DEV) ## format the code and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

docs: venv ## write docs/config.md, cli.md, docs/proofs, the dashboard and the alerts anew from the code
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m tests.clients.page
	@$(BIN)/python -m tests.matrix.page
	@$(BIN)/python -m tests.field.page

site: $(SITE) ## build README.md and docs/ as a site into build/site; it asks no other host for anything
	@"$(PYTHON)" docs/pages.py
	@NO_MKDOCS_2_WARNING=1 $(SITE_VENV)/bin/mkdocs build

pictures: venv $(DEV) ## take the pictures of docs/pictures anew (needs bash, curl, Node and Chromium)
	@$(BIN)/python docs/record.py
	@PICTURES=docs/pictures $(BIN)/python -m pytest -q tests/web/test_page.py -k uses_it $(ARGS)

PROPERTIES = $(shell grep -rl --include='test_*.py' '^@given' tests)
test-heavy: venv $(DEV) ## the tests that take minutes or gigabytes, and fifteen times the examples of each property
	@$(BIN)/python -m pytest -m heavy $(ARGS)
	@$(BIN)/python -m pytest -n auto -m "not heavy" --hypothesis-profile=thorough $(PROPERTIES) $(ARGS) || test $$? = 5

chaos: venv $(DEV) ## 2,000 streams while all around them fails; then Redis and Postgres fail under traffic
	@$(BIN)/python -m tests.chaos $(ARGS)

test-clients: venv $(DEV) $(CLIENTS) $(FRAMEWORKS) ## real client libraries of all contracts against the proxy (needs Node; installs the rest)
	@$(BIN)/python -m pytest -n auto -m clients tests/clients $(ARGS)

test-agents: venv $(DEV) ## coding agents from npm (Codex, Claude Code, opencode; 1.2 GB) through the proxy
	@$(BIN)/python -m pytest -m agents -v tests/agents $(ARGS)

# Not from a lock: its packages are no part of ours, and too many to keep a list of.
OPENWEBUI := $(OPENWEBUI_VENV)/.stamp-0.12.4
test-openwebui: venv $(DEV) $(OPENWEBUI) ## Open WebUI before the proxy, used in Chromium (installs 7 GB)
	@$(BIN)/python -m pytest -m openwebui -v tests/openwebui $(ARGS)

$(OPENWEBUI): | $(MADE) $(DEV)
	@echo "installing Open WebUI into $(@D) (minutes, and 7 GB)"
	@rm -rf $(@D) && "$(PYTHON)" -m venv $(@D)
	@$(BIN)/uv pip install --quiet --python $(@D)/bin/python open-webui==$(@:$(@D)/.stamp-%=%)
	@touch $@

test-deploy: venv $(DEV) $(DEPLOY) ## the Helm chart, manifests, Compose and bake files, in their readers' eyes, and Traefik (installs 600 MB)
	@$(BIN)/python -m pytest -m deploy -v tests/deploy tests/e2e/test_fronts.py $(ARGS)

manifests: venv $(DEV) $(DEPLOY) ## write deploy/kubernetes anew from the Helm chart
	@$(BIN)/python -m tests.deploy.chart

test-image: venv $(DEV) ## build the container image without Docker and run it (root on Debian)
	@$(BIN)/python -m pytest -m image -v tests/image $(ARGS)

test-real: venv $(DEV) ## compile llama.cpp (minutes, once) and stream from a real small model
	@$(BIN)/python -m pytest -m real -v tests/real $(ARGS)

bench: venv ## what a relayed token costs here, beside nginx and no proxy: two loads, two minutes
	@$(BIN)/python -m bench run $(ARGS)

bench-all: venv ## all loads, all peers (installs them), three rounds: 35 minutes; writes bench/results.md, chart.svg
	@$(BIN)/python -m bench run --loads all --proxies all --rounds 3 --publish $(ARGS)

bench-compare: venv ## CPU per token against another revision: make bench-compare BASE=HEAD~1
	@$(BIN)/python -m bench compare $(or $(BASE),$(error name the revision: make bench-compare BASE=main)) $(ARGS)

# The locks name versions and hashes, never an address: they install from whichever index the machine uses. A version
# must have stood for seven days before it is taken: most poisoned releases are found within hours.
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-build \
             --no-annotate --no-header --exclude-newer "7 days" $(ARGS)
lock: venv $(DEV) ## resolve pyproject.toml into the lock files
	@echo "resolving the dependencies"
	@$(UV_COMPILE) pyproject.toml --extra all -o requirements.lock
	@$(UV_COMPILE) pyproject.toml -c requirements.lock -o requirements-core.lock
	@$(UV_COMPILE) pyproject.toml --extra re2 --extra redis --extra postgres --extra otel -c requirements.lock -o requirements-image.lock
	@$(UV_COMPILE) --group build -c requirements.lock -o requirements-build.lock
	@$(UV_COMPILE) --group dev -c requirements.lock -c requirements-build.lock -o requirements-dev.lock
	@$(UV_COMPILE) --group site -o docs/requirements.lock
	@$(UV_COMPILE) --group clients -o tests/clients/requirements.lock
	@$(UV_COMPILE) --group frameworks -o tests/clients/frameworks.lock
	@$(UV_COMPILE) --group deploy -o tests/deploy/requirements.lock

clean: ## remove .venv and everything else that was made
	@rm -rf $(VENV) .make build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$("$(PYTHON)" --version 2>/dev/null) || found="not a Python that runs"; \
	  echo "chat-proxy needs Python 3.11 or newer; '$(PYTHON)' is $$found." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@wanted=$$("$(PYTHON)" --version); \
	if test "$$($(BIN)/python --version 2>&1)" = "$$wanted" && $(BIN)/python -m pip --version >/dev/null 2>&1; \
	then exit 0; fi; \
	echo "making .venv with $$wanted"; \
	rm -rf $(VENV); \
	"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv .venv' failed: this Python comes without venv or ensurepip." >&2; \
	  echo "On Debian and Ubuntu: sudo apt-get install python3-venv. Then try again." >&2; exit 1; }
	@touch $@

$(LOCKED): | $(MADE)
	@echo "installing the packages of $(lastword $(RUN_LOCKS)) into .venv (up to a minute the first time)"
	@for lock in $(RUN_LOCKS); do $(FROM_LOCK) -r $$lock || exit; done  # the first brings the pip that installs the other
	@rm -f $(VENV)/.stamp-locked-* && touch $@

$(DEV): | $(LOCKED)
	@echo "installing the test packages of requirements-dev.lock into .venv"
	@$(FROM_LOCK) -r requirements-dev.lock
	@rm -f $(VENV)/.stamp-dev-* && touch $@

$(CLIENTS): LOCK := tests/clients/requirements.lock
$(FRAMEWORKS): LOCK := tests/clients/frameworks.lock
$(SITE): LOCK := docs/requirements.lock
$(DEPLOY): LOCK := tests/deploy/requirements.lock
$(CLIENTS) $(FRAMEWORKS) $(SITE) $(DEPLOY): | $(MADE)
	@echo "installing the packages of $(LOCK) into $(@D)"
	@rm -rf $(@D) && "$(PYTHON)" -m venv $(@D) --without-pip
	@$(subst -m pip,-m pip --python $(@D)/bin/python,$(FROM_LOCK)) -r $(LOCK)
	@touch $@

$(PROJECT): | $(LOCKED)
	@echo "installing chat-proxy itself into .venv"
	@$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.stamp-project-* && touch $@
