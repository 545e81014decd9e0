"""Runs all benchmarks: a table, a JSON file and a chart.

    python -m bench [--threads 1,2] [--quick] [--only TEXT] [--scripts neighbors,voxels] [--out DIR]

Writes DIR/bench.json (rows, machine, versions) and DIR/bench.png. Compare two such files with
`python -m bench.compare OLD.json NEW.json`. Peers come with `pip install 'mlcore[bench]'`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from chart import draw
from harness import Row, print_table, run_script, write_json
from host import describe
from scaling import print_scaling
from verdicts import print_verdicts

FOLDER = Path(__file__).parent


def scripts() -> dict[str, Path]:
    """The benchmarks that use the harness, by name."""
    return {
        path.stem: path
        for path in sorted(FOLDER.glob("*.py"))
        if "main(cases" in path.read_text() and path.stem not in ("harness", "__main__")
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", default="1", help="numbers of threads, e.g. 1,2")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--scripts", default="", help="names of scripts, e.g. neighbors,voxels")
    parser.add_argument("--quick", action="store_true", help="small workloads alone")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds per call")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of the results")
    return parser.parse_args()


def chosen(names: str) -> dict[str, Path]:
    """The scripts of a comma-separated list; all when it is empty."""
    known = scripts()
    wanted = [name for name in names.split(",") if name] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"no benchmark named {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in wanted}


def measure(options: argparse.Namespace) -> list[Row]:
    passed = ["--only", options.only, "--budget", str(options.budget)]
    passed += ["--quick"] if options.quick else []
    rows: list[Row] = []
    for name, path in chosen(options.scripts).items():
        for threads in map(int, options.threads.split(",")):
            start = time.perf_counter()
            print(f"{name}, {threads} thread(s)", file=sys.stderr, flush=True)
            rows += run_script(path, threads, passed)
            print(f"  took {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    options = arguments()
    start, machine = time.perf_counter(), describe(options.threads)
    rows = measure(options)
    machine["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print_table(rows)
    print_scaling(rows)
    print_verdicts(rows)
    write_json(
        {"machine": machine, "rows": [asdict(row) for row in rows]}, options.out / "bench.json"
    )
    if draw(rows, options.out / "bench.png", str(machine["cpu"])):
        print(f"{options.out / 'bench.json'} and bench.png after {machine['minutes']} min")


if __name__ == "__main__":
    main()
