"""Processes whose clock is wrong: the wall clock of everything in them, while time goes by as ever.

Not with libfaketime (0.9.10): under it a Python since 3.11 cannot sleep, as it takes the monotonic deadline of
`clock_nanosleep` for a wall clock's, and fails or waits for ten minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: All that a Python process and its libraries learn the time of day from.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew(void) { const char *s = getenv("SKEW_SECONDS"); return s ? atol(s) : 0; }

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += skew();
    return r;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def environment(folder: Path, seconds: int) -> dict[str, str]:
    """What makes a process's clock wrong; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc or gcc) to give a process a wrong clock")
    library = folder / "skew.so"
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=SHIM.encode(), check=True)
    skewed = {"LD_PRELOAD": str(library), "SKEW_SECONDS": str(seconds)}
    assert abs(_skew_of(skewed) - seconds) < 60, "the clock is right"
    return skewed


def _skew_of(skewed: dict[str, str]) -> float:
    """By how much a Python's clock is wrong."""
    program = [sys.executable, "-c", "import time; print(time.time())"]
    answer = subprocess.run(
        program, env={**os.environ, **skewed}, stdout=subprocess.PIPE, check=True
    )
    return float(answer.stdout) - time.time()
