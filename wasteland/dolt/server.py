"""The `dolt sql-server` of one clone: started on the first need, shared, stopped when idle.

Beside the clone `…/org/db` lies the folder `…/org/.db.node` (mode 0700) with
the server's configuration, its accounts, its locks and its log; the clone
itself holds nothing of ours.  Three accounts, each with what it needs:

    root   adds remotes and creates the tables of a new commons
    node   reads and writes rows, DOLT_COMMIT, DOLT_BRANCH, DOLT_MERGE
    sync   reads, and the procedures DOLT_FETCH and DOLT_PUSH

A database can carry triggers that somebody else wrote; they run with the
rights of the account that fires them, so this list is what they can reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wasteland.dolt.driver import CLIENT, Connection, connect, err
from wasteland.errors import Conflict, Misconfigured

DATA = "data_dir: "  # of the server's configuration, a line
SOCKET_LIMIT = 100  # bytes; a Unix socket's path may have 107
ROOM = 2 << 20  # bytes that must be free before a change begins
LOCK_TIMEOUT = 300.0
IDLE_OWN = 60.0
IDLE_TAKEN_OVER = 2.0
LOGIN_TIMEOUT = 10  # seconds to reach the socket


class Server:
    """One clone's server.  Cheap to make; nothing starts before `connect`."""

    def __init__(self, clone: Path, home: Path, *, idle: float | None = None, extra_env: dict[str, str] | None = None):
        self.clone = clone
        self.home = home
        self.folder = clone.parent / f".{clone.name}.node"
        self.extra_env = extra_env or {}
        self._idle = idle
        self._in_use: int | None = None

    @property
    def database(self) -> str:
        """The name that the server gives the clone's database: its folder's."""
        return self.clone.name

    @property
    def ours(self) -> bool:
        """Whether this node made the clone; a clone taken over also serves a peer's program."""
        return (self.folder / "made-here").exists()

    @property
    def idle(self) -> float:
        """Seconds without a client after which the server stops."""
        return self._idle if self._idle is not None else IDLE_OWN if self.ours else IDLE_TAKEN_OVER

    def socket_path(self) -> Path:
        """Where the server listens: beside the clone, or in /tmp where that path is too long."""
        return socket_in(self.folder)

    def need_room(self) -> None:
        """Misconfigured when the disk is all but full: a write could fail half way then, and so could its undoing."""
        disk = os.statvfs(self.clone)
        if disk.f_bavail * disk.f_frsize < ROOM:
            raise Misconfigured(
                f"the disk is full: less than {ROOM >> 20} MiB are free for {self.clone}",
                about=str(self.clone),
                hint="make room, then try again; nothing was changed",
            )

    def prepare(self) -> None:
        """Make the folder beside a clone that is about to be made, and mark it as being made."""
        private_folder(self.folder)
        (self.folder / "being-made").touch()
        (self.folder / "made-here").touch()
        (self.folder / "dolt-version").unlink(missing_ok=True)  # of another clone in this place

    def made(self) -> None:
        """The clone is complete and its owner knows of it."""
        (self.folder / "being-made").unlink(missing_ok=True)

    @property
    def being_made(self) -> bool:
        """Whether the command that makes the clone has not ended well (yet)."""
        return (self.folder / "being-made").exists()

    def connect(self, account: str = "node") -> Connection[Any]:
        """A session of `account`, with autocommit on and UTC; the server is started if need be.

        Raises Unreachable where the server cannot be started, Misconfigured
        where there is no clone.
        """
        if not (self.clone / ".dolt").is_dir():
            raise Misconfigured(
                f"there is no clone at {self.clone}", about=str(self.clone), hint="join again, or run: wl doctor --fix"
            )
        self._enter()
        try:
            return self.login(account)
        except (OSError, err.OperationalError):
            from wasteland.dolt import starting

            starting.start(self)
        return self.login(account)

    def running(self) -> bool:
        """Whether the server lets one in now."""
        try:
            self.login("root").close()
        except (OSError, err.OperationalError):
            return False
        return True

    def status(self) -> dict[str, Any]:
        """Whether a server runs, its process ids, socket, idle time and the end of its log."""
        from wasteland.dolt import starting

        return starting.status(self)

    def stop(self) -> bool:
        """Stop the server now and wait until it is gone; whether there was one."""
        from wasteland.dolt import starting

        return starting.stop(self)

    def _enter(self) -> None:
        """Say that the server is in use, for as long as this process lives."""
        if self._in_use is None:
            private_folder(self.folder)
            self._in_use = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
        os.utime(self._in_use)

    def leave(self) -> None:
        """Say that this process does not need the server any more."""
        if self._in_use is not None:
            os.utime(self._in_use)
            os.close(self._in_use)
            self._in_use = None

    def login(self, account: str) -> Connection[Any]:
        """A session of a server that runs; OSError or OperationalError where none answers."""
        path = self.socket_path()
        passwords = self.passwords()
        if passwords is None or not path.exists() or self._serves_elsewhere():
            raise FileNotFoundError(path)
        connection: Connection[Any] = connect(
            defer_connect=True,
            unix_socket=str(path),
            user=account,
            password=passwords[account],
            ssl_disabled=True,
            autocommit=True,
            charset="utf8mb4",
            client_flag=CLIENT.FOUND_ROWS,
            init_command="SET time_zone = '+00:00'",
        )
        line = socket.socket(socket.AF_UNIX)
        try:  # PyMySQL would leave a socket that is refused to the garbage collector
            line.settimeout(LOGIN_TIMEOUT)
            line.connect(str(path))
            connection.connect(line)
        except BaseException:
            line.close()
            raise
        return connection

    def _serves_elsewhere(self) -> bool:
        """Whether the server was started where the clone was before it moved: it would look for the files there."""
        try:
            lines = (self.folder / "server.yaml").read_text().splitlines()
            named = next(json.loads(line.removeprefix(DATA)) for line in lines if line.startswith(DATA))
            return named != str(self.clone) and not os.path.samefile(named, self.clone)
        except (OSError, ValueError, StopIteration):
            return True

    def passwords(self) -> dict[str, str] | None:
        """The accounts' passwords; None where there are no accounts yet."""
        try:
            found: dict[str, str] = json.loads((self.folder / "accounts.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    @contextlib.contextmanager
    def lock(self, name: str, patience: float | None = None) -> Iterator[None]:
        """One process at a time; Conflict when it stays taken for `patience` seconds, LOCK_TIMEOUT by default."""
        private_folder(self.folder)
        handle = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(handle, name, LOCK_TIMEOUT if patience is None else patience)
            yield
        finally:
            os.close(handle)


def socket_in(folder: Path) -> Path:
    """The socket of the server whose belongings are in `folder`: there, or in /tmp where that path is too long."""
    beside = folder / "s"
    if len(os.fsencode(beside)) <= SOCKET_LIMIT:
        return beside
    import hashlib

    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(f"/tmp/wl-{os.getuid()}") / digest / "s"  # noqa: S108  (0700 and checked, see private_folder)


def _flock(handle: int, name: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    pause = 0.002
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"another command has held the clone's {name} lock for {patience:.0f} s",
                    hint="wait for it or end it, then try again",
                ) from None
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
        else:
            return


def private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700 and be sure that it is ours alone."""
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid():
        raise Misconfigured(
            f"{folder} belongs to another user (number {found.st_uid}), not to the one who runs this ({os.getuid()})",
            about=str(folder), hint="run the command as that user; with sudo: sudo -u USER -H wl …",
        )  # fmt: skip
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise Misconfigured(
            f"{folder} must be a folder of yours that nobody else can enter",
            about=str(folder),
            hint=f"chmod 700 {folder}",
        )
