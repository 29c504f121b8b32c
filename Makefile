# make            environment, reproduction at the scale of config/config.yaml, report
# make test       the tests
# make slurm      the same on a Slurm cluster; make status, make efficiency: how it goes, what it used
# make bench      the benchmarks: results/benchmarks.parquet and its figures
# make profile    where the time of a whole reproduction goes
# make SCALE=smoke / SCALE=paper    another scale;  make CONFIG='seeds=3'    another setting

PYTHON ?= python3
SCALE ?= $(shell sed -n 's/^scale: *//p' config/config.yaml)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all slurm status efficiency bench profile reliability test lint schema clean

# The same command starts a run and goes on after a crash of whatever kind.
all: .venv/installed
	@python -m replica launch --scale $(SCALE) $(if $(CONFIG),--config $(CONFIG))
	@python -m replica scorecard $(SCALE)

slurm: .venv/installed
	@python -m replica launch --slurm --scale $(SCALE) $(if $(CONFIG),--config $(CONFIG))
	@python -m replica scorecard $(SCALE)

status efficiency: .venv/installed
	@python -m replica $@ --scale $(SCALE)

.venv/installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r envs/requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

schema: .venv/installed
	python -m replica schema config/schema

lint: .venv/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	lint-imports --no-cache
	snakemake --lint --config scale=smoke

test: .venv/installed lint
	pytest

bench: .venv/installed
	@python benchmarks/bench.py

# Half an hour at the laptop scale; in a clone, with nothing else on the machine
profile: .venv/installed
	@python benchmarks/reproduction.py $(SCALE)

# Breaks everything on purpose and writes what was tried
reliability: .venv/installed
	pytest tests/cluster tests/faults --reliability docs/reliability.md

clean:
	rm -rf results .snakemake
