"""Prints the requirements of pyproject.toml: the project's own, plus the named groups.

usage: requirements.py [build] [EXTRA ...]
"""

import pathlib
import re
import sys
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
extras = project["project"]["optional-dependencies"]


def group(name: str) -> list[str]:
    if name == "build":
        return list(project["build-system"]["requires"])
    wanted = []
    for one in extras[name]:
        inner = re.fullmatch(r"mlcore\[(\w+)\]", one)
        wanted += group(inner[1]) if inner else [one]
    return wanted


wanted = list(project["project"]["dependencies"])
for name in sys.argv[1:]:
    wanted += group(name)
print("\n".join(dict.fromkeys(wanted)))
