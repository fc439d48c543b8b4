"""The points at which a crash is interesting: around every write-ahead intent.

A test sets GT_CRASH_AT to a name and the process kills itself there, as
`kill -9` or a power cut would.  GT_STEP_TRACE names a file that gets each
step on a line.  Neither is set in ordinary use.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

STEPS = (
    "request.answered",
    "run.starting",
    "run.prepared",
    "run.spawned",
    "run.working",
    "run.ended",
    "run.bundled",
    "run.taken",
    "run.settled",
    "merge.made",
    "merge.gated",
    "merge.green",
    "merge.landing",
    "merge.pushed",
    "merge.landed",
)


def step(name: str) -> None:
    """Mark that the supervisor came to `name`; kill this process if a test asked for it."""
    trace = os.environ.get("GT_STEP_TRACE")
    if trace:
        with Path(trace).open("a", encoding="utf-8") as out:
            out.write(name + "\n")
    if os.environ.get("GT_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
