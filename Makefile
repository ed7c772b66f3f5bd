# `make serve` and `make test` need Python 3.11+ and nothing else; `make help` lists the rest.

BIN := .venv/bin

# Compiled modules are kept, apart from the sources: else each process of the tests compiles all of them.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.DEFAULT_GOAL := help
.PHONY: help serve services test lint style install docs lock autobahn bench clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## make .venv with the pinned dependencies (the others do it when needed)
	@.ci/install

serve: install ## start a server on this machine; ARGS="--config my.toml" passes arguments on
	@$(BIN)/tchat serve $(ARGS)

services: install ## start PostgreSQL, Redis and Cassandra for development, and say how to use them; Ctrl-C ends them
	@$(BIN)/python -m tests.engines $(ARGS)

# Types take one core for a minute: they are checked beside the tests. Modules that nothing has compiled are compiled once,
# before the tests: else each of their processes does it.
test: style ## format, lint, types, and all tests, in one process more than cores; ARGS="-k name" passes arguments on
	@$(BIN)/mypy > .venv/types.txt & types=$$!; trap 'kill $$types 2>&-; exit 130' INT TERM; \
	[ -e .venv/compiled ] || { $(BIN)/python -m pytest --collect-only -qq > .venv/new && mv .venv/new .venv/compiled; }; \
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup $(ARGS); tests=$$?; \
	wait $$types || tests=1; cat .venv/types.txt; exit $$tests

lint: style ## format, lint and types
	$(BIN)/mypy

style: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check

docs: install ## write what is generated: config.toml, docs/config.md, metrics.md, protocol.md and .json, commerce.json
	$(call generate,config.toml,$(BIN)/tchat config --format toml)
	$(call generate,docs/config.md,$(BIN)/tchat config --format markdown)
	$(call generate,docs/metrics.md,$(BIN)/python -m server.node.metrics_reference)
	$(call generate,docs/protocol.md,$(BIN)/python -m protocol.reference)
	$(call generate,docs/protocol.json,$(BIN)/python -m protocol.reference --json)
	$(call generate,docs/commerce.json,$(BIN)/python -m server.node.commerce_document)

# A file changes only when its generator succeeded.
generate = $(2) > $(1).new && mv $(1).new $(1) || { rm -f $(1).new; exit 1; }

lock: install ## pin the newest allowed dependencies in requirements.lock (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra dev pyproject.toml --output-file requirements.lock

autobahn: install ## Autobahn's fuzzing client against the gateway's frame layer (needs Python 2.7)
	$(BIN)/python -m tests.adversity.autobahn

bench: install ## the targets of performance on this machine, in half an hour; ARGS="--rows 1,2 --rounds 3 --json FILE"
	$(BIN)/python -m loadtest.bench $(ARGS)

clean: ## remove what was made, except data (.tchat)
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
