"""Files written whole or not at all."""

from __future__ import annotations

from mlcore.io.atomic import atomic_directory, atomic_path, write_bytes, write_text

__all__ = ["atomic_directory", "atomic_path", "write_bytes", "write_text"]
