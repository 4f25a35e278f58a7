PYTHON ?= python

.PHONY: install format lint test test-all bench docs audit

install:
	$(PYTHON) -m pip install -e ".[dev]"

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n 2

test-all:  # the slow ones, too
	$(PYTHON) -m pytest -n 2 -m ""

audit:  # known vulnerabilities of what is installed
	$(PYTHON) -m pip install --quiet pip-audit
	$(PYTHON) -m pip_audit --skip-editable

docs:  # the site, and its code blocks, links and entries
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	$(PYTHON) -m pytest -q tests/test_docs_site.py tests/test_docs_commands.py

bench:
	@for script in benchmarks/*.py; do $(PYTHON) $$script || exit 1; done
