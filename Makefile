# make demo | test | test-fast | lint | dist | clean. Everything is installed into .venv, never outside it.
# PYTHON=/path/to/python3.12 chooses the interpreter, PYTEST_ARGS="-k convert" what is tested.

FITS = 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))'
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 python3.10; do \
	$$p -c $(FITS) 2>/dev/null && echo $$p && break; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-fast lint dist clean

demo: .venv/installed
	.venv/bin/python tools/demo.py

test: .venv/installed-test
	.venv/bin/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

# The quick ones, for every day: nothing is trained, searched for or measured on the whole way.
test-fast: .venv/installed-test
	.venv/bin/python -m pytest -n 2 --dist worksteal @tests/fast.txt $(PYTEST_ARGS)

lint: .venv/installed-test
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

# What is left of an earlier build would get into the wheel.
dist: .venv/installed-test
	rm -rf dist build
	.venv/bin/python -m build --quiet
	@ls dist

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find amc_tf models tests tools -type d -name __pycache__ -prune -exec rm -rf {} +

# A half-made .venv would look complete to the next run, so a failure takes it away.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: found no Python 3.10 to 3.13: install one or name it with PYTHON=/path/to/python3.12." >&2; exit 1; }
	@$(PYTHON) -c $(FITS) || { echo "make: PYTHON=$(PYTHON) is not a working Python 3.10 to 3.13: name one that is." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# The stamps: as long as they are newer than what they depend on, nothing is installed again.
.venv/installed: setup.py constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e .
	@touch $@

.venv/installed-test: setup.py constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e '.[test]'
	.venv/bin/python -m pip check
	@touch $@ .venv/installed
