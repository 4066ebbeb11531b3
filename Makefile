# `make demo` and `make test` are all a newcomer needs; each makes what it needs and can be run again.
#
# PYTHON is the interpreter to start from (3.10 to 3.13). If it offers a Detectron2 (conda-forge's, say),
# that one is used together with its PyTorch; otherwise .venv holds everything, as pinned below. To use
# a virtual environment of your own as it is: make demo VENV=/path/to/it CONSTRAINTS=/dev/null

PYTHON ?= python3
VENV ?= .venv
# Exact pins, for Linux x86_64 with Python 3.11. On another platform: make demo CONSTRAINTS=/dev/null
CONSTRAINTS ?= constraints.txt
# Test files that run side by side, each on one thread.
JOBS ?= 2

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.adapruner-det-installed

.PHONY: help install demo test lint clean

help:
	@echo "make demo     prune the demo data with a real detector and retrain on what was kept"
	@echo "make test     run all tests"
	@echo "make lint     ruff and mypy"
	@echo "make install  only the set-up that the others do first"
	@echo "make clean    remove .venv, the demo data, caches and build leftovers"

install: $(READY)

$(READY): setup.py constraints.txt tools/install_detectron2.py tools/detectron2_stub.py
	@$(RUN) -m pip --version >/dev/null 2>&1 || { \
	  echo "Creating $(VENV) ..."; \
	  base=$$($(PYTHON) -c "import sys; print(sys._base_executable)") && \
	  if $$base -c "import detectron2" >/dev/null 2>&1; then share=--system-site-packages; fi && \
	  $$base -m venv $$share $(VENV); }
	@echo "Installing PyTorch and the other libraries (some GB, 2 to 10 minutes) ..."
	@constraints=$(CONSTRAINTS); \
	if grep -qs "include-system-site-packages = true" $(VENV)/pyvenv.cfg; then \
	  echo "Keeping the Detectron2 and PyTorch of $(PYTHON); versions are not pinned."; \
	  constraints=/dev/null; \
	fi; \
	$(PIP) -c $$constraints setuptools wheel && \
	$(PIP) -c $$constraints --no-build-isolation -e ".[dev]"
	@$(RUN) tools/install_detectron2.py
	@touch $@

demo: $(READY)
	@$(RUN) datasets/make_demo.py
	@$(RUN) -W ignore::FutureWarning tools/demo.py

test: $(READY)
	@echo "Running all tests (several minutes) ..."
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist loadfile

lint: $(READY)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

clean:
	rm -rf .venv build dist *.egg-info datasets/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
