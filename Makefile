# mscflow's two commands are `make demo` and `make test`; each sets up .venv by itself.
# `make help` lists the rest.

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check test-cluster images lock format stop clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml infra/setup.sh
	@bash infra/setup.sh $(VENV)
	@touch $@

setup: $(READY) ## Make .venv with everything that the lock file names (about a minute).

demo: $(READY) ## Simulate cultures, train, release, serve, and ask the endpoint about one image.
	@$(BIN)/mscflow demo

test: $(READY) check ## Lint, types, architecture, and all tests that need no cluster.
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not cluster"

check: $(READY) ## What pre-commit runs: format, lint, types, the arrows between folders.
	@$(BIN)/pre-commit run --all-files

test-cluster: $(READY) ## Tests that need containers, a Kubernetes API or Prometheus; they skip where there is none.
	@bash infra/prometheus.sh $(VENV)
	@$(BIN)/pytest -m cluster

images: ## Build the images for a cluster, with a list of what is in each; infra/images/build.sh tells its options.
	@bash infra/images/build.sh

format: $(READY) ## Rewrite the sources in the project's format.
	@$(BIN)/ruff check --fix --quiet .; $(BIN)/ruff format .

lock: $(READY) ## Resolve pyproject.toml into requirements.lock again.
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes -o requirements.lock --quiet

stop: ## Stop the endpoints that runs and the demo left serving.
	@[ ! -x $(BIN)/mscflow ] || { $(BIN)/mscflow serve --stop; $(BIN)/mscflow --home .mscflow/demo serve --stop; }

clean: stop ## Remove the environment and caches; state in .mscflow stays.
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
