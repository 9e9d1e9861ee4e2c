# The two commands of a newcomer are `make demo` and `make test`; the rest is for development.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60
READY := $(VENV)/.ready
# A broker that lives for a minute does not earn what its second compiler takes.
BROKERS := JDK_JAVA_OPTIONS="$(or $(JDK_JAVA_OPTIONS),-XX:TieredStopAtLevel=1)"
# Side by side; what shares fixtures stays together, in the order of tests/order.py.
PYTEST := $(BIN)/pytest -n $(or $(JOBS),4) --dist loadgroup --no-loadscope-reorder

.PHONY: help demo stop test test-quick test-kube kube check docs screenshots generate format simulate faults dist image bench bench-quick clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@echo "==> installing into $(VENV) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@for try in 1 2 3; do $(INSTALL) --require-hashes -r requirements.lock && break; \
	  [ $$try = 3 ] && { echo "the packages could not be downloaded; look at the line above, then repeat the command"; exit 1; }; \
	  echo "==> download failed, trying again"; done
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## start the local stack and watch a day of three tenants go through it
	@$(BIN)/core-tables demo

stop: $(READY)  ## stop the local stack (its data stays in .core-tables/)
	@$(BIN)/core-tables stack down

test: $(READY)  ## all tests, on the real Kafka, Postgres and Redis: JOBS processes (4), each with a stack of its own
	@command -v pgbouncer >/dev/null || echo "==> PgBouncer is not installed, so tests/test_pooler.py is skipped (apt-get install pgbouncer)"
	@command -v chromium >/dev/null || echo "==> Chromium is not installed, so tests/test_console_browser.py is skipped (apt-get install chromium)"
	@command -v promtool >/dev/null || echo "==> promtool is not installed, so tests of alerts are skipped (apt-get install prometheus)"
	@$(BROKERS) $(PYTEST) -m "not alone" $(ARGS) || [ $$? = 5 ]
	@echo "==> the tests that a busy machine would disturb, two at a time"
	@$(BROKERS) $(BIN)/pytest -n 2 --dist load -m alone $(ARGS) || [ $$? = 5 ]

test-quick: $(READY)  ## the tests that need no stack and take a moment each: the inner loop, under two minutes
	@$(PYTEST) --quick $(ARGS)

simulate: $(READY)  ## many more schedules of the real worker: make simulate SEEDS=100000 (FIRST_SEED=n to continue from n)
	@SEEDS=$(or $(SEEDS),20000) FIRST_SEED=$(or $(FIRST_SEED),0) $(BIN)/pytest -q tests/simulation -k "schedule"

faults: $(READY)  ## the fault suite ROUNDS times (5), a storm of STORM_S seconds (300) in each, and how long recovery took
	@FAULT_ROUNDS=$(or $(ROUNDS),5) STORM_S=$(or $(STORM_S),300) FAULT_REPORT=$(or $(REPORT),fault-report.json) $(BIN)/pytest tests/faults $(ARGS)

test-kube: $(READY)  ## the tests in the cluster of kubectl's current context (CONTRIBUTING.md says what that needs)
	@CORE_TABLES_TEST_KUBE=1 $(BIN)/pytest -rs tests/kubernetes $(ARGS)

kube: $(READY)  ## install everything in that cluster, watch it being scaled, killed, evicted and replaced, and take it down
	@$(BIN)/python -m tests.kubernetes

$(VENV)/.bench: $(READY) peers/requirements.txt peers/requirements-quix.txt setup.py
	@echo "==> installing what the benchmark compares with (once)"
	@$(INSTALL) --require-hashes -r peers/requirements.txt
	@test -x .venv-quix/bin/python || $(PYTHON) -m venv .venv-quix
	@.venv-quix/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes -r peers/requirements-quix.txt
	@touch $@

build/compiled: $(READY) setup.py $(wildcard schemas/*.py kafka/*.py projection/*.py projection/*/* projection/*/*/* settings/*.py producer/*.py consumer/*.py console/*.py console/*/* cli/*.py deploy/*.py src/core_tables/*.py)
	@if command -v cc >/dev/null; then echo "==> compiling the hot modules"; rm -rf build; \
	  CORE_TABLES_COMPILED=1 $(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >/dev/null 2>&1 \
	  && $(BIN)/python -m zipfile -e build/wheel/*.whl $@; else echo "no C compiler: the compiled build is left out"; fi

dist: $(READY)  ## build the wheels into build/dist: the compiled one for this machine's Python, and a pure one
	@command -v cc >/dev/null || { echo "a C compiler is needed for the compiled wheel: apt-get install gcc libc6-dev"; exit 1; }
	@for compiled in 0 1; do rm -rf build/lib* build/bdist*; \
	  CORE_TABLES_COMPILED=$$compiled $(BIN)/python -m build --wheel --no-isolation --outdir build/dist . >build/dist.log 2>&1 \
	    || { tail -20 build/dist.log; exit 1; }; done
	@ls -1 build/dist/*.whl

image:  ## build the image (IMAGE) on a base with a digest: make image BASE=python:3.13-slim@sha256:... (docs/PRODUCTION.md)
	@case "$(BASE)" in *@sha256:*) ;; *) [ "$(ALLOW_TAG)" = 1 ] || { \
	  echo "BASE needs a digest, so that everybody builds on the same base: docs/PRODUCTION.md says how to find it;"; \
	  echo "to try something on this machine: make image ALLOW_TAG=1"; exit 1; }; esac
	@base="$(or $(BASE),python:3.13-slim)"; case "$$base" in *@*) digest="$${base#*@}" ;; *) digest=none ;; esac; \
	  docker build --file deploy/Dockerfile --build-arg BASE="$$base" --build-arg REVISION="$$(git rev-parse HEAD)" \
	    --label org.opencontainers.image.base.digest="$$digest" --tag "$(or $(IMAGE),core-tables:local)" .

bench: $(VENV)/.bench build/compiled  ## the whole benchmark (over an hour): docs/BENCHMARKS.md, results.json, plots
	@PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python -m peers $(ARGS)

bench-quick: $(VENV)/.bench build/compiled  ## every section at a small size (some minutes), into build/
	@PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python -m peers --quick --into build/bench-quick $(ARGS)

check: $(READY)  ## lint, format, strict types, and the rules of the code base (imports, statements, language)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p core_tables
	@$(BIN)/mypy tests
	@$(BIN)/mypy bench peers examples
	@$(BIN)/pytest -q tests/test_house.py tests/test_documents.py tests/test_language.py -k "not wheel"

.venv-docs/.ready: docs/requirements.txt
	@echo "==> installing what the documentation needs (once)"
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes -r docs/requirements.txt
	@touch $@

docs: .venv-docs/.ready  ## build the documentation site into build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "the site is in build/site; open build/site/index.html"

screenshots: $(READY)  ## make the pictures of the console in docs/console/, in Chromium
	@$(BIN)/python -m tests.screenshots

generate: $(READY)  ## write decoders and encoders from the Avro schemas, the column lists of the statements, and the image's lock file
	@$(BIN)/python -m core_tables.schemas.generate
	@$(BIN)/python -m core_tables.projection.postgres.generate
	@$(BIN)/python -m core_tables.deploy.image_lock
	@$(BIN)/python -m core_tables.deploy.observability.committed
	@$(BIN)/ruff format --quiet schemas

format: $(READY)  ## let the formatter and the linter's fixes run
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: stop  ## remove the environment and the local stack with its data
	@rm -rf $(VENV) .venv-quix .venv-docs build .core-tables
