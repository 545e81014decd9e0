"""Memory a call needs, measured in a fresh process.

size = peak_extra("mlcore.neighbor_list('ijS', x, 2.5, cell, True)", setup)  # bytes, resident
size = requested("mobility.apply(x, f, out=v)", setup)                       # bytes, malloc
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# The high-water mark of the resident set is set back to what is resident now. Where the kernel does
# not allow it, the mark so far serves: the call then shows only what it needs above that.
PEAK = """
import gc, resource
def resident(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
{setup}
gc.collect()
try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmRSS:")
except OSError:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
kept = ({call})
print("measured", max(resident("VmHWM:") - before, 0))
"""

REQUESTED = """
import ctypes, gc
total = ctypes.CDLL(None).bytes_requested
total.restype = ctypes.c_long
{setup}
def run():
    {call}
run()
gc.collect()
total()
before = total()
for _ in range(10):
    run()
print("measured", (total() - before) // 10)
"""

# glibc's own names of the functions below; everything else of it stays.
COUNTER = """
#include <errno.h>
#include <stddef.h>
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
static long total;
static void count(size_t n) { __atomic_add_fetch(&total, (long)n, __ATOMIC_RELAXED); }
long bytes_requested(void) { return __atomic_load_n(&total, __ATOMIC_RELAXED); }
void* malloc(size_t n) { count(n); return __libc_malloc(n); }
void* calloc(size_t k, size_t n) { count(k * n); return __libc_calloc(k, n); }
void* realloc(void* p, size_t n) { count(n); return __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { count(n); return __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { count(n); return __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) {
  count(n);
  *p = __libc_memalign(a, n);
  return *p ? 0 : ENOMEM;
}
"""


def peak_extra(call: str, setup: str = "", threads: int = 1) -> int:
    """Bytes by which a call raises the resident memory, its result included.

    Args:
        call: an expression; its value is kept until memory was read.
        setup: statements run before; warm up there what is not to be counted. Blocks in the buffer
            pool are resident already, so those a call reuses count zero.
        threads: CPU threads of the core.

    Memory counts when it is touched, in pages that may be huge (2 MiB), and kernels sum up what their
    processors count only now and then: take results of 20 MB, and nothing below 2 MB for a difference.
    """
    return measured(PEAK.format(call=call, setup=setup), threads)


def requested(call: str, setup: str = "", threads: int = 1) -> int:
    """Bytes a call asks malloc for, whether or not it gives them back: the mean of ten calls.

    Blocks reused from the buffer pool are not asked for. Python's own small objects live in arenas
    and hardly count, but allow some hundred bytes.

    Args:
        call: a statement; it is run once before counting.
        setup: statements run before.
        threads: CPU threads of the core.
    """
    return measured(REQUESTED.format(call=call, setup=setup), threads, str(counter()))


def measured(script: str, threads: int, preload: str = "") -> int:
    """What a script prints after "measured"."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLCORE_NUM_THREADS": str(threads)}
    if preload:
        environment["LD_PRELOAD"] = preload
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("measured", 1)[1])


@functools.cache
def counter() -> Path:
    """Library that counts what malloc and its kin are asked for."""
    compiler = next(c for c in ("cc", "gcc", "clang", "g++") if shutil.which(c))
    library = Path(tempfile.mkdtemp(prefix="mlcore-counter-")) / "counter.so"
    command = [compiler, "-x", "c", "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, "-"], input=COUNTER, text=True, check=True)
    return library
