"""Benchmarks of mlcore beside its peers; `python -m bench` runs them all."""

import sys
from pathlib import Path

# The scripts are programs, too (`python bench/neighbors.py`), and import each other by bare name.
sys.path.insert(0, str(Path(__file__).parent))
