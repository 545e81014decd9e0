"""What this machine can do at most: the rates the benchmarks compare times with.

    python bench/limits.py [--threads 1,2]     measures anew and prints

Rates are per second: operations (fma, gemm), bytes (dram, l2, l3, first_touch), records (gather).
They are measured once and kept in the user's cache folder, by CPU model and number of threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GEMM = """
import json, os, sys, time
import numpy as np
threads, n, rates = int(sys.argv[1]), 2000, {}
clock = time.process_time if threads == 1 else time.perf_counter
def rate(call):
    call()
    best = 1e9
    for _ in range(5):
        start = clock()
        call()
        best = min(best, clock() - start)
    return 2 * n**3 / best
rng = np.random.default_rng(0)
for name, dtype in (("gemm32", np.float32), ("gemm64", np.float64)):
    a = rng.random((n, n)).astype(dtype)
    b, c = a.copy(), np.empty_like(a)
    rates[name + "_numpy"] = rate(lambda: np.matmul(a, b, out=c))
    try:
        import torch
    except ImportError:
        continue
    torch.set_num_threads(threads)
    ta, tb, tc = map(torch.from_numpy, (a, b, c))
    rates[name + "_torch"] = rate(lambda: torch.mm(ta, tb, out=tc))
print(json.dumps(rates))
"""


def cpu_model() -> str:
    """Name, family and model of the processor; clouds hide the name but not the numbers."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name, family, model = (
        found[1].strip() if (found := re.search(rf"^{key}\s*: (.*)", text, re.MULTILINE)) else ""
        for key in ("model name", "cpu family", "model")
    )
    return f"{name} (family {family}, model {model})" if name else platform.machine()


def cache_file(threads: int) -> Path:
    """Where the rates are kept."""
    from mlcore._core import simd_level

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlcore"
    key = re.sub(r"\W+", "-", f"{cpu_model()} {simd_level()} {os.cpu_count()} {threads}")
    return folder / f"limits-{key}.json"


def gemm_rates(threads: int) -> dict[str, float]:
    """GEMM rates of NumPy and torch, in a process of their own: pools are pinned at its start."""
    from harness import environment

    done = subprocess.run(
        [sys.executable, "-c", GEMM, str(threads)],
        env=environment(threads),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    for name in ("gemm32", "gemm64"):
        rates[name] = max(rate for key, rate in rates.items() if key.startswith(name))
    return rates


def measure(threads: int) -> dict[str, float]:
    """Measures all rates; takes some seconds."""
    from mlcore import machine

    def stream(use: Any, size: int) -> float:
        return machine.stream_rate(use, size, num_threads=threads)

    rates = {
        "fma64": machine.fma_rate(num_threads=threads),
        "fma32": machine.fma_rate(single_precision=True, num_threads=threads),
        "dram_copy": stream("copy", 1 << 28),
        "dram_read": stream("read", 1 << 27),
        "dram_write": stream("write", 1 << 27),
        "l2_copy": stream("copy", threads << 18),
        "l3_copy": stream("copy", 1 << 23),
        "gather32B_8MiB": machine.gather_rate(1 << 23, num_threads=threads),
        "gather32B_64MiB": machine.gather_rate(1 << 26, num_threads=threads),
        "first_touch_4k": machine.first_touch_rate(1 << 28, num_threads=threads),
        "first_touch_thp": machine.first_touch_rate(1 << 28, huge_pages=True, num_threads=threads),
    }
    return rates | gemm_rates(threads)


def measured(
    threads: int, measure: Callable[[int], dict[str, float]] = measure
) -> dict[str, float]:
    """The rates with so many threads, measured when nobody has yet."""
    path = cache_file(threads)
    if path.is_file():
        kept: dict[str, float] = json.loads(path.read_text())
        return kept
    return remeasured(threads, measure)


def remeasured(
    threads: int, measure: Callable[[int], dict[str, float]] = measure
) -> dict[str, float]:
    """Measures and keeps; the file is whole or not there."""
    rates = measure(threads)
    path = cache_file(threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(rates, indent=1) + "\n")
    part.replace(path)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", default="1", help="numbers of threads, e.g. 1,2")
    for threads in map(int, parser.parse_args().threads.split(",")):
        print(f"{cpu_model()}, {threads} thread(s), load {os.getloadavg()[0]:.1f}")
        for name, rate in remeasured(threads).items():
            print(f"  {name:18} {rate / 1e9:10.3f} G/s")


if __name__ == "__main__":
    main()
