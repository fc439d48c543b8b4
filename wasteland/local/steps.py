"""The places between which `kill -9` must do no harm, named.

    step("signed")     # does nothing, unless a test asked for it

WL_CRASH_AT names a step, as `pushed`, or `pushed:2` for the second time: the
process that reaches it is killed there, as by `kill -9`.  WL_STEP_LOG names a
file that gets a line for each step, with the monotonic time, so that the tests
know where a kill landed.
"""

from __future__ import annotations

import os
import time

from wasteland.local.config import setting

STEPS = (
    "locked", "begun", "signed", "written", "committed", "durable", "merged", "pushing", "pushed",
    "proved", "closed", "offering", "offered", "settled", "acknowledged", "asked", "branched", "sent", "beside",
    "arrived",
)  # fmt: skip
CRASH_AT, _, TIMES = (setting("WL_CRASH_AT") or "").partition(":")
LOG = setting("WL_STEP_LOG")
_left = int(TIMES or 1)


def step(name: str) -> None:
    """Say that this command has come as far as `name`."""
    if LOG is not None:
        line = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(line, f"{name} {time.monotonic():.6f}\n".encode())
        os.close(line)
    if name == CRASH_AT:
        _crash()


def _crash() -> None:
    global _left
    _left -= 1
    if _left == 0:
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
