"""Processes of `wl` that are forked from one that has imported all its modules, so that a test does not wait for that.

What runs is the program's own `main`, in a process of its own with its own
environment, streams, folder and exit code; only the interpreter's start is
left out.  A call whose environment changes how the interpreter itself starts
is run from nothing, and so is every call where FROM_NOTHING is set in the environment.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEFT_OUT = ("wasteland.hubserver", "wasteland.dolt.keeper")  # programs of their own, with threads or much to import
MAIN = "from wasteland.cli import main; main()"
STREAMS = 3
WHOLE = "FROM_NOTHING" in os.environ


class ForkServer:
    """The process that forks, started at the first call."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wl-fork-")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._started_with: dict[str, str] = {}

    @property
    def _address(self) -> str:
        return str(Path(self._folder.name) / "s")

    def stop(self) -> None:
        """End the process; its children go on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(10)
        self._folder.cleanup()

    def _start(self) -> None:
        with self._lock:
            if self._process is not None:
                return
            self._started_with = dict(os.environ)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver", self._address],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
            )  # fmt: skip
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == b"ready\n"
            self._process.stdout.close()

    def _can(self, env: dict[str, str]) -> bool:
        """Whether a process with this environment starts as the one that forks did."""
        if WHOLE:
            return False
        self._start()
        early = {name for name in {*env, *self._started_with} if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}
        return all(env.get(name) == self._started_with.get(name) for name in early)

    def run(
        self, argv: Sequence[str], env: dict[str, str], text: str | None = None, timeout: float = 120, code: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of `wl` with these words, or of some Python, with `capture_output` and text."""
        if not self._can(env):
            words = [sys.executable, "-c", code or MAIN, *argv]
            return subprocess.run(words, env=env, capture_output=True, text=True, input=text, timeout=timeout)
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as given:
            given.write((text or "").encode())
            given.seek(0)
            files = (given, said, told)
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(timeout)
                line.connect(self._address)
                words = json.dumps({"argv": list(argv), "env": env, "cwd": str(Path.cwd()), "code": code}).encode()
                socket.send_fds(line, [len(words).to_bytes(4)], [file.fileno() for file in files])
                line.sendall(words)
                with line.makefile("r") as answers:
                    pid = int(answers.readline())
                    try:
                        code = int(answers.readline())
                    except TimeoutError:
                        os.kill(pid, signal.SIGKILL)
                        raise subprocess.TimeoutExpired(["wl", *argv], timeout) from None
            out, err = (_read(file) for file in (said, told))
        return subprocess.CompletedProcess(["wl", *argv], code, out, err)


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n").replace("\r", "\n")


def _modules() -> list[str]:
    root = Path(__file__).parents[1]
    names = (".".join(path.relative_to(root).with_suffix("").parts) for path in (root / "wasteland").rglob("*.py"))
    found = sorted(name.removesuffix(".__init__") for name in names)
    return [name for name in found if not name.startswith(LEFT_OUT) and not name.endswith("__main__")]


def serve(address: str) -> str:
    """Fork until standard input ends; returns only in a child, which is then to run the code that is returned."""
    for name in _modules():
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    lines: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, listener, awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _answer(lines)
        if listener in ready:
            line, _ = listener.accept()
            try:
                asked, streams = _request(line)
            except EOFError:
                line.close()
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (line, listener, *lines.values()):
                    one.close()
                os.close(awake)
                os.close(wake)
                _become(asked, streams)
                return str(asked["code"])
            for stream in streams:
                os.close(stream)
            lines[pid] = line
            line.sendall(f"{pid}\n".encode())
        if 0 in ready:
            os._exit(0)


def _answer(lines: dict[int, socket.socket]) -> None:
    while lines:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with lines.pop(pid) as line:
            try:
                line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            except BrokenPipeError:  # who asked has given up
                continue


def _request(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, streams, _, _ = socket.recv_fds(line, 4, STREAMS)
    left, words = int.from_bytes(head), b""
    while len(words) < left:
        if not (more := line.recv(left - len(words))):
            raise EOFError("who asked has gone")
        words += more
    return json.loads(words), streams


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Take over streams, environment, folder and words."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    os.chdir(asked["cwd"])
    importlib.reload(importlib.import_module("wasteland.local.steps"))  # it reads the environment as it is imported
    sys.argv = ["wl", *asked["argv"]]
    sys.path[0] = ""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.stderr.reconfigure(line_buffering=True)


if __name__ == "__main__":
    exec(serve(sys.argv[1]) or MAIN, {"__name__": "__main__"})
