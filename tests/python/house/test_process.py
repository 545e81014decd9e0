"""What the project promises of its history and versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KINDS = "build|ci|docs|feat|fix|perf|refactor|style|test|bench|chore|revert"
CONVENTIONAL = re.compile(rf"^(?:{KINDS})(?:\([a-z0-9_,. -]+\))?!?: \S.*$")
SEMANTIC = re.compile(r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?$")


def test_the_version_is_semantic() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert SEMANTIC.match(told["project"]["version"])
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_commits_are_conventional() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    words = ["git", "-C", str(ROOT), "log", "-50", "--no-merges", "--format=%s"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"git does not tell its history here: {done.stderr.strip()}")
    odd = [line for line in done.stdout.splitlines() if not CONVENTIONAL.match(line)]
    assert odd == []
