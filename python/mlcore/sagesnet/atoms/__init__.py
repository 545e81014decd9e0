"""Atoms on grids of cells."""
