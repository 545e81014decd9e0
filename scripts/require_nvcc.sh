#!/bin/sh
# CUDA sources always compile in the tests: take the compiler of PyPI where there is no toolkit.
command -v nvcc >/dev/null && exit 0
here=$(dirname "$0")
"$1" "$here/requirements.py" cuda-build | "$1" -m pip install --quiet --requirement /dev/stdin --constraint "$here/../constraints.txt"
