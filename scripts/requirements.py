"""Prints the requirements of pyproject.toml: the project's own, plus the named groups.

usage: requirements.py [build] [EXTRA ...]
"""

import pathlib
import sys
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())
wanted = list(project["project"]["dependencies"])
for group in sys.argv[1:]:
    if group == "build":
        wanted += project["build-system"]["requires"]
    else:
        wanted += project["project"]["optional-dependencies"][group]
print("\n".join(wanted))
