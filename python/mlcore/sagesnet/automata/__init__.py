"""Cellular automata: rules, states to test with, cells."""
