# make            environment, reproduction at the scale of config/config.yaml, report
# make test       the tests
# make SCALE=smoke / SCALE=paper    another scale

PYTHON ?= python3
SCALE ?= $(shell sed -n 's/^scale: *//p' config/config.yaml)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all reproduce test lint schema clean

all: reproduce
	@python -m replica scorecard $(SCALE)

reproduce: .venv/installed
	@test -d .snakemake/metadata || python -m replica adopt --scale $(SCALE)
	@snakemake --config scale=$(SCALE)
	@test results/$(SCALE)/report.html -nt results/$(SCALE)/scorecard.parquet || \
		snakemake --config scale=$(SCALE) --report results/$(SCALE)/report.html

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

clean:
	rm -rf results .snakemake
