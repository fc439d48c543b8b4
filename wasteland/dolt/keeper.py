"""Keep one `dolt sql-server` alive while it is used, and stop it when it is not.

Run as a program of its own, with nothing but the standard library:

    python -I keeper.py DOLT CONFIG IN_USE STATE IDLE

Clients hold a shared lock on the file IN_USE while they are connected.  The
keeper stops the server when it can take that lock alone and nobody has touched
the file for IDLE seconds; it holds the lock until the server is gone, so a
client never meets a server that is going down.  If the keeper itself is
killed, the kernel ends the server with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(dolt: str, config: str, in_use: str, state: str, seconds: str) -> int:
    """Run the server until it ends or is idle; the server's exit code, or 0."""
    idle = float(seconds)
    server = subprocess.Popen([dolt, "sql-server", "--config", config], preexec_fn=_die_with_parent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())
    _write(state, {"keeper": os.getpid(), "server": server.pid, "started": int(time.time())})
    with open(in_use, "a") as lock:
        while server.poll() is None:
            time.sleep(min(0.5, max(0.05, idle / 4)))
            if time.time() - os.stat(in_use).st_mtime < idle:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.utime(in_use)
                continue
            if time.time() - os.stat(in_use).st_mtime >= idle:
                return _stop(server)
            fcntl.flock(lock, fcntl.LOCK_UN)
    return server.returncode


def _stop(server: subprocess.Popen[bytes]) -> int:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    return 0


def _write(path: str, value: dict[str, int]) -> None:
    with open(path + ".new", "w") as made:
        json.dump(value, made)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:6]))
