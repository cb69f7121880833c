# Two commands on a fresh machine: `make quickstart` and `make test`.
# `make TASK` runs any task of `make tasks`; options go into ARGS: make run-etl ARGS="--config my.yaml".
# Needs python3 (3.11 or 3.12) and a package index. People with Poetry: poetry install && poetry poe TASK.

VENV := .venv
STAMP := $(VENV)/.installed
ARGS ?=
PYTHON ?= $(firstword $(foreach python,python3 python3.12 python3.11,$(shell \
	$(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(python))))

.PHONY: help setup clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   crawl the sample, build the index, ask one question"
	@echo "make test         the linters, the architecture contract and the tests"
	@echo "make tasks        every task there is; make TASK runs one, with options in ARGS=\"…\""
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

tasks: $(STAMP)
	@$(VENV)/bin/poe --executor virtualenv --help

%: $(STAMP) FORCE
	@$(VENV)/bin/poe --quiet --executor virtualenv $@ $(ARGS)

FORCE:
# without these the rule above would try to make them
Makefile pyproject.toml constraints.txt: ;
