"""The one place that starts an agent, and the one that says whether it still lives.

A run folder belongs to the host.  Whoever creates `claim` first owns the run:
the shim, with its own identity, or a later supervisor, with `null`, which
then knows that this run can never start any more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gastown import shim
from gastown.errors import Misconfigured

LOG_CAP = 8 * 1024 * 1024
START_TIMEOUT = 30


@dataclass(frozen=True)
class Identity:
    """A process, for ever: a pid alone may be somebody else's by now."""

    pid: int
    ticks: int
    boot: str

    def alive(self) -> bool:
        """True while exactly this process runs (a zombie does not)."""
        return shim.identity(self.pid) == {"pid": self.pid, "ticks": self.ticks, "boot": self.boot}

    def signal(self, number: int) -> None:
        """Send a signal to this process and no other."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def start(folder: Path, argv: list[str], seconds: int) -> None:
    """Start `argv` under a detached shim that ends it after `seconds`.

    Returns when the shim has claimed the run folder.  Misconfigured where the
    shim cannot start at all.
    """
    shim.write_over(folder / "command.json", {"argv": argv, "seconds": seconds, "cap": LOG_CAP})
    command = [sys.executable, "-I", "-S", str(Path(shim.__file__)), str(folder)]
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    try:
        subprocess.run(
            command,
            check=True,
            cwd="/",
            env=env,
            timeout=START_TIMEOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Misconfigured(f"the agent's shim could not start: {error}") from error


def claimed(folder: Path) -> Identity | None:
    """Who took the run; None when nobody did.  From then on nobody can."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    shim.write_once(folder / "claim", None)
    found = json.loads((folder / "claim").read_text(encoding="utf-8"))
    return None if found is None else Identity(**found)


def ending(folder: Path) -> shim.Ending | None:
    """How the run ended; None while nothing says so."""
    try:
        found: dict[str, Any] = json.loads((folder / "exit.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return shim.Ending(**found)


def end(who: Identity, wait: float = 6.0) -> None:
    """End a run: ask the shim, then kill it; its box dies with it."""
    who.signal(signal.SIGTERM)
    until = time.monotonic() + wait
    while who.alive():
        if time.monotonic() > until:
            who.signal(signal.SIGKILL)
            until += wait
        time.sleep(0.02)


def tail(path: Path, size: int = 2000) -> str:
    """The last `size` bytes of a log of the host, as text; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size))
            return log.read().decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
