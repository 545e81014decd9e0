"""``python -m mlcore.forcefield.learn``: fits."""

from mlcore.forcefield.entry import run

if __name__ == "__main__":
    raise SystemExit(run("mlcore.cli.forcefield", "learn", "python -m mlcore.forcefield.learn"))
