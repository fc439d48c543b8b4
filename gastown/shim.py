"""The small process between the town and an agent; also runs as a script of its own.

It outlives the supervisor, holds the run to its budget, keeps the output and
writes how it ended.  Standard library only: it starts with `python -I -S`.

    shim.py RUN    reads RUN/command.json {argv, seconds, cap};
                   writes RUN/claim {pid, ticks, boot}, RUN/log, RUN/exit.json
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

GRACE = 2.0
POLL = 0.2


class Ending(NamedTuple):
    """How a command ended: exit code (128 + signal), why it was ended ("" by itself), seconds."""

    exit: int
    why: str
    seconds: float


def identity(pid: int) -> dict[str, Any] | None:
    """What names the process `pid` for ever: pid, start ticks, boot id; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return {"pid": pid, "ticks": int(fields[19]), "boot": boot}


def write_once(path: Path, value: object) -> bool:
    """Create `path` whole with `value` as JSON; False when somebody else was first."""
    made = _written(path, value)
    try:
        os.link(made, path)
    except FileExistsError:
        return False
    finally:
        made.unlink()
    return True


def write_over(path: Path, value: object) -> None:
    """Replace `path` with `value` as JSON, whole or not at all."""
    _written(path, value).rename(path)


def _written(path: Path, value: object) -> Path:
    made = path.with_name(f".{path.name}.{os.getpid()}")
    with made.open("w", encoding="utf-8") as out:
        json.dump(value, out)
        out.flush()
        os.fsync(out.fileno())
    return made


def supervise(argv: list[str], log: int, *, cap: int, seconds: float, stop: Callable[[], bool]) -> Ending:
    """Run `argv` in a process group of its own for at most `seconds`.

    Output goes to the descriptor `log`, at most `cap` bytes of it.  On expiry,
    or when `stop` says so, the whole group gets SIGTERM and then SIGKILL; a box
    dies with its first process.
    """
    began = time.monotonic()
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        os.write(log, f"{argv[0]}: {error.strerror}\n".encode())
        return Ending(127, "", 0.0)
    why = ""
    with child:
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        os.set_blocking(pipe, False)
        watched = [pipe, os.pidfd_open(child.pid)]
        try:
            while child.poll() is None and not why:
                left = began + seconds - time.monotonic()
                why = "budget" if left <= 0 else "stopped" if stop() else ""
                select.select(watched, [], [], max(0.0, min(POLL, left)))
                cap -= _copy(pipe, log, cap, watched)
            _end(child)
            _copy(pipe, log, cap, watched)
        finally:
            os.close(watched[-1])
    code = child.returncode
    return Ending(128 - code if code < 0 else code, why, round(time.monotonic() - began, 3))


def _copy(pipe: int, log: int, cap: int, watched: list[int]) -> int:
    """Move what is in the pipe to the log; what is over the cap is read and dropped."""
    kept = 0
    while True:
        try:
            data = os.read(pipe, 65536)
        except BlockingIOError:
            return kept
        if not data:
            if pipe in watched:
                watched.remove(pipe)
            return kept
        kept += os.write(log, data[: max(0, cap - kept)])
        if len(data) < 65536:
            return kept


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the group alive."""
    if child.poll() is None:
        _kill(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    _kill(child.pid, signal.SIGKILL)
    child.wait()


def _kill(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main(folder: Path) -> None:
    """Detach, take the run, run its command, write how it ended."""
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(ready, 1)
        os._exit(0)
    os.setsid()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    command = json.loads((folder / "command.json").read_text(encoding="utf-8"))
    mine = write_once(folder / "claim", identity(os.getpid()))
    os.close(told)
    if not mine:
        os._exit(0)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    ending = supervise(command["argv"], log, cap=command["cap"], seconds=command["seconds"], stop=lambda: bool(stopped))
    os.fsync(log)
    write_over(folder / "exit.json", ending._asdict())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
