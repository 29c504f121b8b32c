# make            environment, reproduction at the scale of config/config.yaml, report
# make slurm      the same on a Slurm cluster; make status, make efficiency: its progress, what it used
# make help       this list
# make check      lint, and the quick tests of single functions and exact values: two minutes
# make test       all tests, with whole workflows, faults and a cluster: a quarter of an hour
# make watch      what runs now, in another terminal
# make doctor     what this machine can do for a scale, and what would not work
# make evidence   tables and verdicts of a finished run into docs/evidence; what has moved since
# make clean      delete trained states in results/ that no scale needs any more
# make docs       the documentation as a site with search and a gallery, in site/
# make bench      the benchmarks: results/benchmarks.parquet and its figures
# make profile    where the time of a whole reproduction goes
# make SCALE=smoke    another scale: smoke, laptop, desktop or paper, see config/config.yaml
# make CONFIG='seeds=3'             another setting
# make CONFIG='seeds=3 overrides={low_rank: {fig6: {lr: 0.05}}}'    several; with status, slurm, ... too
# make gpu-check  does the GPU of this machine compute what the processor does? Eight minutes
# make pretrained  the package for pretrained language models, see README.md
# make PYTHON=python3.12            the Python of the environment

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# A misspelt name would otherwise start a run with other settings than the user means.
KNOWN := PYTHON SCALE CONFIG SHELL MAKEFLAGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
ifneq ($(filter-out $(KNOWN),$(GIVEN)),)
$(error make knows no $(filter-out $(KNOWN),$(GIVEN)); there are SCALE, CONFIG and PYTHON, \
	and a setting is given as CONFIG='seeds=3')
endif

# The user's settings pass through the environment, in quotes: neither make nor the shell reads them.
unexport CONFIG SCALE
export REPLICA_SCALE := $(value SCALE)
export REPLICA_SETTINGS := $(value CONFIG)
SETTINGS := $(if $(REPLICA_SCALE),--scale "$$REPLICA_SCALE") --settings "$$REPLICA_SETTINGS"

# What a cluster's modules set for another Python does not reach this one.
export PYTHONPATH := $(CURDIR)/workflow
unexport PYTHONHOME PYTHONPLATLIBDIR PYTHONUSERBASE PYTHONSTARTUP PYTHONINSPECT PYTHONEXECUTABLE
# Compiled once, not by each of hundreds of interpreters.
unexport PYTHONDONTWRITEBYTECODE
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_NO_DEPS PIP_REQUIRE_VIRTUALENV

.PHONY: all help slurm status watch efficiency evidence doctor docs bench profile gpu-check pretrained reliability check test lock lint schema clean

# The same command starts a run and resumes after any crash.
all: .venv/installed
	@python -m replica run $(SETTINGS)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

slurm: .venv/installed
	@python -m replica run --slurm $(SETTINGS)

status efficiency evidence doctor: .venv/installed
	@python -m replica $@ $(SETTINGS)

watch: .venv/installed
	@python -m replica status --watch $(SETTINGS)

.venv/installed: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@$(BIN)/python envs/install.py envs/requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

schema: .venv/installed
	python -m replica schema config/schema

# What only tests need
.venv/tested: envs/requirements-test.txt .venv/installed
	@$(BIN)/python envs/install.py envs/requirements-test.txt
	@touch $@

pretrained: .venv/installed
	@$(BIN)/python envs/install.py envs/requirements-pretrained.txt

.venv/documented: envs/requirements-docs.txt .venv/installed
	@$(BIN)/python envs/install.py envs/requirements-docs.txt
	@touch $@

# The drawings of the gallery, made anew where evidence or the code of drawings has changed
DRAWN := $(patsubst docs/evidence/%,.gallery/%,$(wildcard docs/evidence/*/scorecard.csv))
$(DRAWN): .gallery/%/scorecard.csv: docs/evidence/%/scorecard.csv $(wildcard workflow/replica/studies/*.py) \
		workflow/replica/drawing.py workflow/replica/replica.mplstyle | .venv/installed
	@rm -rf .gallery/$*
	python -m replica redraw --scale $* .gallery/$*

docs: .venv/documented $(DRAWN)
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo "site/index.html; with search: python -m http.server --directory site"

lint: .venv/tested
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/Snakefile workflow/rules
	lint-imports --no-cache
	mypy
	snakemake --lint --config scale=smoke

check: .venv/tested lint
	pytest -n auto -m "not slow" --hypothesis-profile quick tests/unit tests/exact

# A file is one worker's: there is one Slurm. Much of the time of its tests is waiting, so there is
# a worker more than cores. What waits for the smoke scale comes after what does not.
ALL := pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder \
	tests/cluster tests/faults tests/exact tests/workflow tests/unit
test: .venv/tested lint
	$(ALL)

# The locks, with one version of each package for every Python where there is one
lock:
	for name in requirements requirements-pretrained requirements-docs requirements-test requirements-uv; do \
		uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
			--no-header --quiet envs/$$name.in -o envs/$$name.txt || exit 1; done

bench: .venv/installed
	@python benchmarks/bench.py

gpu-check: .venv/installed
	@python -m replica gpu-check

# Half an hour at the laptop scale; in a clone, with nothing else on the machine
profile: .venv/installed
	@python benchmarks/reproduction.py $(if $(REPLICA_SCALE),"$$REPLICA_SCALE")

# All tests; writes down how often those of the cluster and of faults broke what
reliability: .venv/tested
	$(ALL) --reliability docs/reliability.md

# Trained states that no scale needs; rm -rf results deletes all of them.
clean: .venv/installed
	@python -m replica clean --settings "$$REPLICA_SETTINGS"
