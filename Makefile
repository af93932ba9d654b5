PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
BENCH := loadtest/bench
PEERS := out/peers
DEPLOY := out/deploy
DOCS := out/docs
REAL := out/real
CLIENTS := loadtest/real/clients
PURE_TESTS := $(addprefix tests/,policy shared wire proxy backends telemetry admin config discovery doctor state workers e2e)
# Of the command line those that start nothing.
PURE_TESTS += $(patsubst %,tests/cli/test_%.py,check help tables top watching)
# Of the end-to-end tests `make pure` repeats those of requests, answers and drains: what is compiled runs there in other
# ways when it is not. It leaves out those of the control plane, of supervisors and signals, and of what stands beside the
# gateway (stores, state files, discovery, the dashboard, load tools, clients): they send requests as the others do.
NOT_PURE := alert_restarts canary canary_budget canary_engines canary_stable_away capacity certificates deployments dashboard* \
	discovery* files fleet* from_zero kubernetes locust recorded_cluster report scaler sdks searching signals silent_probes \
	sleeping_engines starting state_files store_faults stored_times suggest systemd upgrades worker*
# Half as many again as there are cores: tests wait for what they started a third of their time.
WORKERS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))
ARGS ?=

# Tests start hundreds of processes; without bytecode on disk each of them compiles the whole gateway again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help compiled pgo check docs manifests image format test pure demo loadtest bench peers scenarios scale soak real real-engine screenshots lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ARGS="..." is handed on to image, test, pure, demo, loadtest, bench, scenarios, scale, soak, real and lock.'

$(STAMP): requirements/dev.txt requirements/install.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; name one with make PYTHON=python3.x' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'This Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) requirements/install.py $(VENV) requirements/dev.txt
	@echo 'Installing tidegate itself, a few seconds'
	@TIDEGATE_PURE=1 $(BIN)/python -m pip install -qq --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@
	@echo 'Installed: $(BIN)/tidegate'

# Does nothing when the sources are those that were compiled.
compiled: $(STAMP)
	@$(BIN)/python hatch_build.py

pgo: $(STAMP) ## compile the data path with a profile of what requests take (gcc, five minutes), for less CPU per request
	@TIDEGATE_PGO=1 $(BIN)/python hatch_build.py

$(DEPLOY)/.stamp: requirements/deploy.txt requirements/install.py
	@$(PYTHON) requirements/install.py $(DEPLOY) requirements/deploy.txt
	@touch $@

$(DOCS)/.stamp: requirements/docs.txt requirements/install.py
	@$(PYTHON) requirements/install.py $(DOCS) requirements/docs.txt
	@touch $@

# mkdocs.yml says strict: a broken link or a page that is missing from the navigation fails.
SITE := NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build

check: $(STAMP) $(DEPLOY)/.stamp $(DOCS)/.stamp ## lint, format, types, layers, file lengths, docs, commit subjects, the files in deploy/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q $(addprefix tests/house/test_,architecture.py commits.py diagrams.py files.py sizes.py words.py)
	$(DEPLOY)/bin/python deploy/validate.py
	$(SITE)

docs: $(STAMP) $(DOCS)/.stamp ## write the reference from the code, and build the documentation as a site in out/site
	$(BIN)/python -m tests.docs.reference
	$(SITE)

manifests: $(DEPLOY)/.stamp ## make the plain manifests in deploy/kubernetes/ from the Helm chart
	$(DEPLOY)/bin/python deploy/charts.py

image: ## run the steps of the Dockerfile on this machine, where no container engine runs (with gcc six minutes; ARGS=--pure two)
	@rm -rf out/image
	$(PYTHON) deploy/image.py $(ARGS) out/image

format: $(STAMP) ## fix what ruff can fix, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: compiled ## the whole suite, with the data path compiled where there is a C compiler
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

pure: $(STAMP) ## the tests of the data path and of what it stands on, with nothing compiled; coverage must not fall (all of gateway/policy, a floor for the rest)
	TIDEGATE_PURE=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal $(PURE_TESTS) $(NOT_PURE:%=--ignore-glob='tests/e2e/test_%.py') $(ARGS) --cov --cov-report= --cov-fail-under=0
	$(BIN)/coverage report --include='gateway/policy/*' --fail-under=100
	$(BIN)/coverage report --format=total

demo: compiled ## a tour on this machine: simulated engines, the gateway, load, and what goes wrong
	$(BIN)/tidegate demo $(ARGS)

loadtest: compiled ## locust against a demo, and a report; ARGS="--url http://..." against a gateway that runs
	$(BIN)/python -m loadtest.users $(ARGS)

bench: compiled $(BENCH)/mockvllm $(BENCH)/sseload ## CPU, memory and latency beside nginx; ARGS=--peers beside others too, ARGS="--against COMMIT" beside that commit
	$(BIN)/python -m loadtest.bench $(ARGS)

$(PEERS)/.stamp: requirements/peers.txt requirements/install.py
	@$(PYTHON) requirements/install.py $(PEERS) requirements/peers.txt
	@touch $@

peers: $(PEERS)/.stamp ## install the gateways from PyPI that are measured beside this one, apart from .venv

scenarios: compiled $(PEERS)/.stamp ## faults and loads through several gateways side by side, about 2 h 40 min; goes on where it stopped; writes docs/benchmarks.md
	$(BIN)/python -m loadtest.scenarios --docs docs $(ARGS)

scale: compiled $(BENCH)/mockvllm $(BENCH)/sseload ## what many backends, models, tenants and streams cost at rest, how late they make the event loop; workers and replicas beside one process
	$(BIN)/python -m loadtest.scale idle
	$(BIN)/python -m loadtest.scale fleet
	$(BIN)/python -m loadtest.scale loop $(ARGS)

soak: compiled $(BENCH)/mockvllm ## ten minutes of flapping engines, hang-ups and reloads, then upgrades and killed workers under load; fails when anything piles up or is lost
	$(BIN)/python -m loadtest.soak $(ARGS)
	$(BIN)/python -m loadtest.upgrades
	$(BIN)/python -m loadtest.upgrades --kill --requests 200000
	$(BIN)/python -m loadtest.upgrades.metrics

screenshots: compiled ## take the screenshots in docs/images anew, from a demo in Chromium (two minutes)
	$(BIN)/python -m tests.screenshots

real-engine: compiled
	@$(BIN)/python -m loadtest.real.engine

$(REAL)/py/.stamp: requirements/real.txt requirements/install.py
	@$(PYTHON) requirements/install.py $(REAL)/py requirements/real.txt
	@touch $@

$(REAL)/node/.stamp: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	@command -v npm >/dev/null || { echo 'make real needs Node.js 20 or newer with npm' >&2; exit 1; }
	@mkdir -p $(@D) && cp $^ $(@D) && cd $(@D) && npm ci --no-audit --no-fund
	@touch $@

real: real-engine $(REAL)/py/.stamp $(REAL)/node/.stamp ## clients and faults at a real vLLM and through the gateway (docs/real-engines.md)
	$(BIN)/python -m loadtest.real $(ARGS)

$(BENCH)/%: $(BENCH)/%.c
	$(CC) -O2 -Wall -Wextra -o $@ $< -lm

# The oldest supported Python needs the most backports, so its lock serves the newer ones too. Resolved against the
# public index alone, whatever else pip is told on this machine: the lock must not depend on who made it.
LOCK := CUSTOM_COMPILE_COMMAND='make lock' PIP_CONFIG_FILE=/dev/null env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL \
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

lock: $(STAMP) ## pin requirements/*.txt again; ARGS=--upgrade moves to the newest versions
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo 'Lock with Python 3.11, the oldest supported one: make clean, then make lock PYTHON=python3.11' >&2; exit 1; }
	$(LOCK) $(ARGS) -o requirements/runtime.txt pyproject.toml
	$(LOCK) $(ARGS) -o requirements/grpc.txt -c requirements/runtime.txt --extra grpc pyproject.toml
	$(LOCK) $(ARGS) -o requirements/dev.txt -c requirements/grpc.txt --extra grpc pyproject.toml requirements/dev.in
	$(LOCK) $(ARGS) -o requirements/build.txt -c requirements/dev.txt requirements/build.in
	$(LOCK) $(ARGS) -o requirements/deploy.txt -c requirements/dev.txt requirements/deploy.in
	$(LOCK) $(ARGS) -o requirements/docs.txt -c requirements/dev.txt requirements/docs.in
	$(LOCK) $(ARGS) -o requirements/peers.txt requirements/peers.in
	$(LOCK) $(ARGS) -o requirements/real.txt requirements/real.in

clean: ## remove everything that make made
	rm -rf $(VENV) out gateway/_compiled .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -f $(BENCH)/mockvllm $(BENCH)/sseload
	find gateway loadtest tests -name __pycache__ -type d -exec rm -rf {} +
