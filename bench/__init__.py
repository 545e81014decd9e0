"""Benchmarks of mlcore beside its peers; `python -m bench` runs them all."""
