# Everything below works on a fresh machine that has Python 3.11 or newer, pip and make.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LANG_CODE ?= zh
# What is imported is compiled, once; compiling all that is installed would double the time of installation.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
export PYTHONDONTWRITEBYTECODE =

.NOTPARALLEL:  # two installations into one environment would meet
.PHONY: quickstart test test-more docs reliability check fix clean

quickstart: $(VENV)/.installed  ## teach the embedded world's CLIP a language, score it, search it
	$(BIN)/langadapt quickstart --lang $(LANG_CODE)

test: $(VENV)/.dev  ## the test suite on up to four cores; no network, no GPU
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-more: $(VENV)/.more  ## what takes minutes or more tools: the documentation's blocks, slow tests, browser, site, notebook, databases
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "browser or databases or docs or notebook or site or slow"

docs: $(VENV)/.docs  ## the documentation as a site in site/; no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

reliability: $(VENV)/.dev  ## kill, fill, damage, crowd and fuzz everything, and print one table; minutes, LONG=--long for hours
	$(BIN)/python benchmarks/reliability/run.py $(LONG)

check: $(VENV)/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.dev  ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) quickstart runs dist site

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $(VENV)/.installed $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs]"
	touch $@

$(VENV)/.more: $(VENV)/.dev
	$(INSTALL) -e ".[dev,docs,databases,tensorboard]"
	touch $@

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@
