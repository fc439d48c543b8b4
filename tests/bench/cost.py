"""What one run of `wl` costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import User


@dataclass(frozen=True)
class Cost:
    """What one command took: seconds of wall clock and of CPU, the most memory it held, in MiB; and what it said."""

    wall: float
    cpu: float
    memory: float
    said: str


def cost_of(user: User, *words: str) -> Cost:
    """Run `wl`, which must succeed."""
    wl = str(Path(sys.executable).with_name("wl"))
    began = time.perf_counter()
    child = subprocess.Popen([wl, *words], env=user.environment(), stdout=subprocess.PIPE, text=True)
    said = child.stdout.read() if child.stdout else ""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.stdout:
        child.stdout.close()
    if child.returncode:
        raise SystemExit(f"wl {' '.join(words)} ended with {child.returncode}: {said}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said)
