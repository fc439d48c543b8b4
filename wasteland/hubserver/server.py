"""The one `dolt sql-server` of a hub: its folder, its accounts' passwords, its start and its end.

    <folder>/.hub/data/r<id>      the repositories' databases
    <folder>/.hub/accounts.json   random passwords, mode 0600
    <folder>/.hub/server.json     the processes, for a hub that comes after a kill

SQL is spoken over a Unix socket and loopback.  The remotesapi listens on all
addresses whatever it is told, so it too is closed by a password.  The keeper
of `wasteland.dolt` stops the server when the hub is gone, however it went.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from wasteland.dolt import binary, keeper, processes
from wasteland.dolt.server import socket_in
from wasteland.dolt.starting import last_words, server_log
from wasteland.errors import Misconfigured, Unreachable
from wasteland.local import private

START_TIMEOUT = 60.0
END_TIMEOUT = 15.0
KEEP = 2.0  # seconds that the server outlives a hub that was killed
REMOTE_ACCOUNT = "hub"
CONFIG = """\
log_level: warning
behavior: {{event_scheduler: "OFF"}}
listener: {{host: 127.0.0.1, port: {port}, socket: {socket}, max_connections: 400}}
data_dir: {data}
cfg_dir: {cfg}
privilege_file: {privileges}
branch_control_file: {branches}
remotesapi: {{port: {remote}}}
system_variables: {{secure_file_priv: "NULL"}}
"""


class DoltServer:
    """The process; `answers` is asked whether it is ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.remote_port = 0
        self._keeper: subprocess.Popen[bytes] | None = None
        self._in_use: int | None = None
        self._lock: int | None = None

    @property
    def socket(self) -> Path:
        """Where SQL is spoken."""
        return socket_in(self.folder)

    def password(self, account: str) -> str:
        """The password of an account, made from one secret that never leaves this machine."""
        file = self.folder / "accounts.json"
        secret = str(json.loads(file.read_text())["secret"])
        return hmac.new(secret.encode(), account.encode(), hashlib.sha256).hexdigest()

    def start(self, answers: Callable[[], bool]) -> None:
        """Take the folder and start the server; Misconfigured where another hub has it."""
        self._prepare()
        self._end_previous()
        self._in_use = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._in_use, fcntl.LOCK_SH)
        for _ in range(3):
            if self._launch(answers):
                return
        self.stop()
        if panicked := binary.broke_down(server_log(self.folder), binary.find(), self.data, hint=""):
            raise panicked
        raise Unreachable(f"the database server of {self.folder} did not start: {last_words(self.folder)}")

    def _prepare(self) -> None:
        binary.fit(self.data, remote=True)  # forks are cloned from there
        for made in (self.folder, self.data, self.folder / "home" / ".dolt", self.socket.parent):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise Misconfigured(
                f"another hub serves {self.folder.parent}", about=str(self.folder.parent), hint="stop that one first"
            ) from None
        if not (self.folder / "accounts.json").exists():
            private.write(self.folder / "accounts.json", json.dumps({"secret": secrets.token_hex(32)}).encode())
        settings = {"user.name": "hub", "user.email": "hub@wasteland.invalid", "metrics.disabled": "true",
                    "versioncheck.disabled": "true", "init.defaultbranch": "main"}  # fmt: skip
        private.write(self.folder / "home" / ".dolt" / "config_global.json", json.dumps(settings).encode())

    def _end_previous(self) -> None:
        """End what a hub that was killed has left, and wait until it holds the data no more."""
        processes.end(self.folder, patience=END_TIMEOUT)

    def _launch(self, answers: Callable[[], bool]) -> bool:
        """Start the server; whether it answers.  Which Dolt it is, is remembered as beside a clone."""
        program = binary.find()
        before = binary.admit(program, self.data, self.folder, hint="")
        if self._comes_up(program, answers):
            return True
        binary.remember(self.folder, before)
        return False

    def _comes_up(self, program: Path, answers: Callable[[], bool]) -> bool:
        self.socket.unlink(missing_ok=True)
        port, self.remote_port = _free_ports(2)
        config = CONFIG.format(
            port=port, remote=self.remote_port, socket=json.dumps(str(self.socket)), data=json.dumps(str(self.data)),
            cfg=json.dumps(str(self.folder / "cfg")), privileges=json.dumps(str(self.folder / "privileges.db")),
            branches=json.dumps(str(self.folder / "branch_control.db")),
        )  # fmt: skip
        private.write(self.folder / "server.yaml", config.encode())
        environment = binary.environment(self.folder / "home") | {
            "DOLT_ROOT_PASSWORD": self.password("root"), "DOLT_ROOT_HOST": "localhost",
            # With this the server fetches from itself; procedures take a remote's password from nowhere else.
            "DOLT_REMOTE_PASSWORD": self.password(REMOTE_ACCOUNT),
        }  # fmt: skip
        with (self.folder / "server.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(keeper.__file__), str(program), str(self.folder / "server.yaml"),
                 str(self.folder / "in-use"), str(self.folder / "server.json"), str(KEEP)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._keeper.poll() is None:
            if self.socket.exists() and answers():
                return True
            time.sleep(0.02)
        self._end_keeper()
        return False

    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def _end_keeper(self) -> None:
        if self._keeper is None:
            return
        self._keeper.terminate()
        try:
            self._keeper.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._keeper = None

    def stop(self) -> None:
        """Stop the server, wait until it is gone, and leave the folder."""
        self._end_keeper()
        for handle in (self._in_use, self._lock):
            if handle is not None:
                os.close(handle)
        self._in_use = self._lock = None


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
