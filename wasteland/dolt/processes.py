"""The processes that serve a clone: found by what they are, whatever files say of them, or are gone.

A keeper and its server name the configuration that they were started with, and
work in its folder.  So they are found when the socket, the note of their
numbers or the whole folder was removed, and when the folder has moved since.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

CONFIG = "server.yaml"
KEEPER = b"keeper.py"


def serves(pid: int, folder: Path) -> bool:
    """Whether a process of ours is a server, or keeper, of `folder`, and not one that got its number later."""
    place = Path(f"/proc/{pid}")
    try:
        words = (place / "cmdline").read_bytes().split(b"\0")
        if place.stat().st_uid != os.getuid() or not (_is_server(words) or is_keeper(pid)):
            return False
        if os.fsencode(folder / CONFIG) not in words:
            configured = any(word.endswith(b"/" + CONFIG.encode()) for word in words)
            if not configured or not os.path.samefile(place / "cwd", folder):
                return False
    except OSError:
        return False
    return alive(pid)


def _is_server(words: list[bytes]) -> bool:
    return words[1:3] == [b"sql-server", b"--config"]


def is_keeper(pid: int) -> bool:
    """Whether a process is a keeper, by the program that it runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return len(words) > 3 and words[1] == b"-I" and os.path.basename(words[2]) == KEEPER


def serving(folder: Path) -> list[int]:
    """The processes of ours that serve `folder` now, keepers first."""
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return sorted((one for one in numbers if serves(one, folder)), key=lambda one: not is_keeper(one))


def end(folder: Path, *, patience: float, gently: bool = True) -> bool:
    """End the processes that serve `folder` and wait until they are gone; whether there were any.

    They are asked, unless they are going down already (not `gently`), and
    killed after `patience` seconds.  One that ends has no command line any
    more while it still holds its files, so they are told by when they began.
    """
    found = {pid: began for pid in serving(folder) if (began := _began(pid))}
    if found and gently:
        _send(list(found)[:1], signal.SIGTERM)  # a keeper ends its server
    deadline = time.monotonic() + patience
    left = found
    while left := {pid: began for pid, began in left.items() if _began(pid) == began}:
        if time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
            deadline += patience
        time.sleep(0.01)
    return bool(found)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether a process runs, and has not only not been waited for."""
    return _began(pid) is not None


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where none of its threads runs any more."""
    try:
        with open(f"/proc/{pid}/stat") as found:
            words = found.read().rpartition(")")[2].split()
    except OSError:
        return None
    state, threads, began = words[0], int(words[17]), words[19]
    return None if state in "ZX" and threads <= 1 else began


def holder(file: Path) -> tuple[int, str] | None:
    """A process that has `file` open, as far as this user may look: its number and its program's name."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_names(place / "fd" / one, file) for one in os.listdir(place / "fd")):
                return int(place.name), (place / "comm").read_text().strip()
    return None


def _names(link: Path, file: Path) -> bool:
    try:
        return os.readlink(link) == str(file)
    except OSError:
        return False
