"""Where the installed C++ library is, for those who build against it."""

from __future__ import annotations

from pathlib import Path

from mlcore import _core

__all__ = ["get_cmake_dir", "get_include", "get_library"]


def _root() -> Path:
    return Path(_core.__file__).resolve().parent


def get_cmake_dir() -> Path:
    """Folder of mlcore-config.cmake: ``cmake -Dmlcore_DIR=$(python -c ...)``."""
    return _root() / "lib" / "cmake" / "mlcore"


def get_include() -> Path:
    """Folder that holds the ``mlcore/*.hpp`` headers."""
    return _root() / "include"


def get_library() -> Path:
    """The shared library libmlcore itself."""
    return _root() / "lib" / "libmlcore.so"
