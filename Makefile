# demo and test work on a fresh machine with Python 3.11 and a package index, and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach v,python3.11 python3.12 python3.13 python3,$(shell command -v $(v))) python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help demo test lint bench format audit rehearsal estimate evidence report envs clean

help:  ## Say what the targets do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) workflow/scripts/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==26.3
	@echo "Some 170 packages come into $(VENV): a download of about 600 MB (3 GB where the index has torch for CUDA), then"
	@echo "2.3 GB on the disk (6 GB); the larger ones are named as they come."
	@$(BIN)/python workflow/scripts/install.py
	@touch $@

demo: $(VENV)/.installed  ## Run the default study on this machine, to its figures
	$(BIN)/snakemake $(ARGS) $$(test -t 2 && echo --logger rich)
	@$(BIN)/python workflow/scripts/summarize.py

test: $(VENV)/.installed  ## Run every test (ARGS='-m "not slow"' leaves the long ones out)
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed  ## Check form: ruff, the layers of the library, snakefmt, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

format: $(VENV)/.installed  ## Bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

bench: $(VENV)/.installed  ## Measure the speed comparisons, each a ratio in one run (ARGS=evaluation: an hour, needs ALETHEIA_TEST_DATA; ARGS=start)
	$(BIN)/snakemake results/select/smollm2-135m/ale/seed42.json --quiet all
	$(BIN)/python benchmarks/run.py $(ARGS)

audit: $(VENV)/.installed  ## Say what would be made again, why, and how long that took (ARGS="--configfile F", --json)
	@$(BIN)/python workflow/scripts/audit.py $(ARGS)

rehearsal: $(VENV)/.installed  ## Rehearse the paper's study with stand-ins, on a real SLURM on this machine (as root; ARGS=FOLDER)
	$(BIN)/python tests/cluster/rehearsal.py $(ARGS)

estimate: $(VENV)/.installed  ## Say what the paper's study will cost, and be able to tell (ARGS="--budget 40", --power, --configfile F)
	@$(BIN)/python workflow/scripts/estimate.py $(ARGS)

evidence: $(VENV)/.installed  ## Put the finished study into one archive that can be checked elsewhere
	$(BIN)/snakemake bundle $(ARGS)

report: $(VENV)/.installed  ## Write the finished study's report page, one file that needs no network
	$(BIN)/snakemake $(ARGS) --report results/report.html

envs: $(VENV)/.installed  ## Write envs/ from pyproject.toml and constraints.txt (needs a package index)
	$(BIN)/python workflow/scripts/environments.py $(ARGS)

clean:  ## Remove what the study made here (results, logs); keeps what was staged
	rm -rf results logs .snakemake
