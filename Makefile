# Everything here needs Python 3.11 to 3.13 and make; Go too, where no Pulumi command line is installed.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
STAGE ?= cutover
PYTEST ?=
# Test files that run at the same time; each worker has servers of its own. Much of the time is waiting, so there is one more than CI has cores.
WORKERS ?= 3

.PHONY: help up preview down smoke traffic clean test bench bench-cutover faults lint docs

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 - \2/p' Makefile | awk -F' - ' '{ printf "%-14s %s\n", $$1, $$2 }'

up: $(VENV)/.installed ## Move a real database on this machine, stage by stage (STAGE=copy stops earlier)
	@$(RUN) -m sandbox up --stage $(STAGE)

preview: $(VENV)/.installed ## Show what the next `make up` would do, and change nothing
	@$(RUN) -m sandbox preview

down: $(VENV)/.installed ## Go back: pulumi destroy
	@$(RUN) -m sandbox down

smoke: $(VENV)/.installed ## Try the application where it is now (URL=https://... SMOKE="--path /health": a deployed one, which is only read)
	@$(RUN) -m sandbox smoke $(if $(URL),--url "$(URL)") $(SMOKE)

traffic: $(VENV)/.installed ## Send requests to the application while something else is done in another shell (TRAFFIC="--seconds 120")
	@$(RUN) -m sandbox traffic $(TRAFFIC)

clean: ## Stop the sandbox and remove it (the tools stay)
	@if [ -d .sandbox ]; then $(MAKE) --no-print-directory --silent $(VENV)/.installed && $(RUN) -m sandbox clean; fi

test: $(VENV)/.installed ## Run every test (PYTEST="-k name" for some)
	@PULUMI_CLI="$$($(RUN) -m sandbox cli)" && export PULUMI_CLI && $(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

bench: $(VENV)/.installed ## Compare the copy's speed with other tools (BENCH="--megabytes 700")
	@$(RUN) -m sandbox.bench $(BENCH)

bench-cutover: $(VENV)/.installed ## Measure how long writers wait for a cut-over and back (BENCH="--rows 10000")
	@$(RUN) -m tests.cutover.bench $(BENCH)

faults: $(VENV)/.installed ## Break everything that can break, at every step (FAULTS="--only network")
	@$(RUN) -m tests.faults $(FAULTS)

lint: $(VENV)/.installed ## Check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

docs: $(VENV)/.installed ## Write the configuration reference anew
	@$(RUN) scripts/configuration_reference.py

$(VENV)/.installed: requirements.txt requirements-dev.txt policy/requirements.txt toolchain/make-venv
	@PYTHON="$(PYTHON)" toolchain/make-venv $(VENV)
