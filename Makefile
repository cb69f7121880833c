# Two commands on a fresh machine: `make quickstart` and `make test`.
# `make TASK` runs any task of `make tasks`; options go into ARGS: make run-etl ARGS="--config my.yaml".
# Needs python3 (3.11 or 3.12) and a package index. People with Poetry: poetry install && poetry poe TASK.

VENV := .venv
STAMP := $(VENV)/.installed
ARGS ?=
PYTHON ?= $(firstword $(foreach python,python3 python3.12 python3.11,$(shell \
	$(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(python))))

.PHONY: help setup clean sbom FORCE
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   crawl the sample, build the index, ask one question"
	@echo "make test         the linters, the architecture contract and the tests"
	@echo "make tasks        every task there is; make TASK runs one, with options in ARGS=\"…\""
	@echo "make sbom         what each image installs, with its hashes, as CycloneDX, into dist/sbom"
	@echo "make clean        remove the virtual environment (never your data in .twin)"

setup: $(STAMP)

# The stamp is written last, so an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) (some minutes the first time) …"
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "make: this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group ml --group ui --group dev
	@touch $@

clean:
	rm -rf $(VENV)

# Bills of materials from the same files that the Dockerfile installs; torch is the one thing with an index of its own.
BILL := $(VENV)/sbom/bin/cyclonedx-py requirements --output-reproducible --mc-type application
sbom:
	@$(PYTHON) -m venv $(VENV)/sbom
	@$(VENV)/sbom/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --requirement requirements/sbom.txt
	@mkdir -p dist/sbom
	@cat requirements/main.txt | $(BILL) --output-file dist/sbom/crawl.cdx.json -
	@cat requirements/main.txt requirements/ml.txt | $(BILL) --output-file dist/sbom/features.cdx.json -
	@cat requirements/main.txt requirements/ml.txt requirements/ui.txt | $(BILL) --output-file dist/sbom/serve.cdx.json -
	@cat requirements/torch-cpu.txt | $(BILL) --output-file dist/sbom/torch-of-features-and-serve.cdx.json -
	@ls -l dist/sbom

tasks: $(STAMP)
	@$(VENV)/bin/poe --executor virtualenv --help

%: $(STAMP) FORCE
	@$(VENV)/bin/poe --quiet --executor virtualenv $@ $(ARGS)

FORCE:
# without these the rule above would try to make them
Makefile pyproject.toml constraints.txt: ;
