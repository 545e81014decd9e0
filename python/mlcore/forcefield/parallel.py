"""``python -m mlcore.forcefield.parallel``: engines."""

from mlcore.forcefield.entry import run

if __name__ == "__main__":
    raise SystemExit(
        run("mlcore.cli.forcefield.engines", "app", "python -m mlcore.forcefield.parallel")
    )
