"""Configs of fits: one YAML or JSON file that holds a whole fit, checked field by field."""

from __future__ import annotations

from mlcore.forcefield.config.fit import Config, load, parse, schema

__all__ = ["Config", "load", "parse", "schema"]
