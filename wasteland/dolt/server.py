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
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from wasteland.dolt import binary
from wasteland.errors import Conflict, Misconfigured, Unreachable, WastelandError

ACCOUNTS = ("root", "node", "sync")
SOCKET_LIMIT = 100  # bytes; a Unix socket's path may have 107
START_TIMEOUT = 60.0
ROOM = 2 << 20  # bytes that must be free before a change begins
LOCK_TIMEOUT = 300.0
ORPHAN_TIMEOUT = 10.0
IDLE_OWN = 60.0
IDLE_TAKEN_OVER = 2.0
KEEPERS: list[subprocess.Popen[bytes]] = []  # started by this process and left running; the ended ones are reaped

CONFIG = """\
log_level: warning
behavior: {{event_scheduler: "OFF"}}
listener: {{host: 127.0.0.1, port: {port}, socket: {socket}, max_connections: 200}}
data_dir: {data}
cfg_dir: {cfg}
privilege_file: {privileges}
branch_control_file: {branches}
system_variables: {{secure_file_priv: "NULL"}}
"""

GRANTS = (
    "CREATE USER IF NOT EXISTS 'node'@'localhost' IDENTIFIED BY %(node)s",
    "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `{db}`.* TO 'node'@'localhost'",
    "CREATE USER IF NOT EXISTS 'sync'@'localhost' IDENTIFIED BY %(sync)s",
    "GRANT SELECT ON `{db}`.* TO 'sync'@'localhost'",
    "GRANT EXECUTE ON PROCEDURE `{db}`.dolt_fetch TO 'sync'@'localhost'",
    "GRANT EXECUTE ON PROCEDURE `{db}`.dolt_push TO 'sync'@'localhost'",
)


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
        if shutil.disk_usage(self.clone).free < ROOM:
            raise Misconfigured(
                f"the disk is full: less than {ROOM >> 20} MiB are free for {self.clone}",
                about=str(self.clone),
                hint="make room, then try again; nothing was changed",
            )

    def prepare(self) -> None:
        """Make the folder beside a clone that is about to be made, and mark it as being made."""
        _private(self.folder)
        (self.folder / "being-made").touch()
        (self.folder / "made-here").touch()

    def made(self) -> None:
        """The clone is complete and its owner knows of it."""
        (self.folder / "being-made").unlink(missing_ok=True)

    @property
    def being_made(self) -> bool:
        """Whether the command that makes the clone has not ended well (yet)."""
        return (self.folder / "being-made").exists()

    def connect(self, account: str = "node") -> pymysql.Connection[Any]:
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
            return self._login(account)
        except (OSError, pymysql.err.OperationalError):
            self._start()
        return self._login(account)

    def _enter(self) -> None:
        """Say that the server is in use, for as long as this process lives."""
        if self._in_use is None:
            _private(self.folder)
            self._in_use = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
        os.utime(self._in_use)

    def leave(self) -> None:
        """Say that this process does not need the server any more."""
        if self._in_use is not None:
            os.utime(self._in_use)
            os.close(self._in_use)
            self._in_use = None

    def _login(self, account: str) -> pymysql.Connection[Any]:
        path = self.socket_path()
        passwords = self._passwords()
        if passwords is None or not path.exists():
            raise FileNotFoundError(path)
        connection: pymysql.Connection[Any] = pymysql.connect(
            unix_socket=str(path),
            user=account,
            password=passwords[account],
            ssl_disabled=True,
            autocommit=True,
            charset="utf8mb4",
            client_flag=CLIENT.FOUND_ROWS,
            connect_timeout=10,
            init_command="SET time_zone = '+00:00'",
        )
        return connection

    def _passwords(self) -> dict[str, str] | None:
        try:
            found: dict[str, str] = json.loads((self.folder / "accounts.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One process at a time; Conflict when it stays taken for LOCK_TIMEOUT seconds."""
        _private(self.folder)
        handle = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(handle, name)
            yield
        finally:
            os.close(handle)

    def _start(self) -> None:
        with self.lock("start"):
            with contextlib.suppress(OSError, pymysql.err.OperationalError):
                self._login("root").close()
                if (self.folder / "accounts.ready").exists():
                    return
            for _ in range(3):
                self._await_orphan()
                if self._running() or self._launch():
                    self._accounts()
                    return
        raise Unreachable(
            f"the database server of {self.clone} did not start: {last_words(self.folder)}",
            about=str(self.clone),
            hint="wl server status shows its log; another Dolt program may hold the clone",
        )

    def _running(self) -> bool:
        try:
            self._login("root").close()
        except (OSError, pymysql.err.OperationalError):
            return False
        return True

    def _await_orphan(self) -> None:
        """Wait for a server whose keeper was killed: it is going down and holds the clone until it is gone."""
        state = self._state()
        server = state.get("server", 0)
        if _alive(state.get("keeper", 0)) or not self._is_server(server):
            return
        deadline = time.monotonic() + ORPHAN_TIMEOUT
        while self._is_server(server):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGKILL)
                deadline += ORPHAN_TIMEOUT
            time.sleep(0.01)

    def _is_server(self, pid: int) -> bool:
        return serves(pid, self.folder)

    def _launch(self) -> bool:
        """Start keeper and server; whether a login through the socket succeeded."""
        path = self.socket_path()
        _private(path.parent)
        path.unlink(missing_ok=True)
        if self._passwords() is None or not (self.folder / "privileges.db").exists():
            write(self.folder / "accounts.json", json.dumps({name: secrets.token_hex(24) for name in ACCOUNTS}))
            (self.folder / "privileges.db").unlink(missing_ok=True)
            (self.folder / "accounts.ready").unlink(missing_ok=True)
        passwords = self._passwords() or {}
        config = CONFIG.format(
            port=_free_port(),
            socket=json.dumps(str(path)),
            data=json.dumps(str(self.clone)),
            cfg=json.dumps(str(self.folder / "cfg")),
            privileges=json.dumps(str(self.folder / "privileges.db")),
            branches=json.dumps(str(self.folder / "branch_control.db")),
        )
        write(self.folder / "server.yaml", config)
        environment = binary.environment(self.home) | self.extra_env
        environment |= {"DOLT_ROOT_PASSWORD": passwords["root"], "DOLT_ROOT_HOST": "localhost"}
        keeper = self._keeper(environment)
        deadline = time.monotonic() + START_TIMEOUT
        pause = 0.01
        while time.monotonic() < deadline:
            if path.exists() and self._running():
                return True
            if keeper.poll() is not None:
                return False
            time.sleep(pause)
            pause = min(0.1, pause * 1.3)
        keeper.terminate()
        return False

    def _keeper(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = self.folder / "server.log"
        KEEPERS[:] = [one for one in KEEPERS if one.poll() is None]
        with log.open("wb") as out:
            keeper = subprocess.Popen(
                [
                    sys.executable, "-I", str(Path(__file__).with_name("keeper.py")),
                    str(binary.find()), str(self.folder / "server.yaml"),
                    str(self.folder / "in-use"), str(self.folder / "server.json"), str(self.idle),
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=environment, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        KEEPERS.append(keeper)
        return keeper

    def _accounts(self) -> None:
        """Create the two lesser accounts, once."""
        ready = self.folder / "accounts.ready"
        if ready.exists():
            return
        passwords = self._passwords() or {}
        connection = self._login("root")
        try:
            with connection.cursor() as cursor:
                for statement in GRANTS:
                    cursor.execute(statement.format(db=self.database), passwords)
        except pymysql.err.Error as error:
            raise Unreachable(f"the database server refused to make its accounts: {error}") from error
        finally:
            connection.close()
        ready.touch()

    def status(self) -> dict[str, Any]:
        """Whether a server runs, its process ids, socket, idle time and the end of its log."""
        state = self._state()
        return {
            "running": self._running(),
            "keeper_pid": state.get("keeper"),
            "server_pid": state.get("server"),
            "socket": str(self.socket_path()),
            "idle_seconds": self.idle,
            "clone": str(self.clone),
            "log": last_words(self.folder) if (self.folder / "server.log").exists() else "",
        }

    def _state(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.folder / "server.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def stop(self) -> bool:
        """Stop the server now and wait until it is gone; whether there was one."""
        self.leave()
        if not self.folder.exists():
            return False
        with self.lock("start"):
            if not self._running():
                return False
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.kill(self._state()["keeper"], signal.SIGTERM)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                if not self._running() and not _alive(self._state().get("server", 0)):
                    return True
                time.sleep(0.02)
        raise WastelandError(f"the database server of {self.clone} does not stop", about=str(self.clone))


def socket_in(folder: Path) -> Path:
    """The socket of the server whose belongings are in `folder`: there, or in /tmp where that path is too long."""
    beside = folder / "s"
    if len(os.fsencode(beside)) <= SOCKET_LIMIT:
        return beside
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(f"/tmp/wl-{os.getuid()}") / digest / "s"  # noqa: S108  (0700 and checked, see _private)


def serves(pid: int, folder: Path) -> bool:
    """Whether a process is a server, or keeper, of `folder`, and not one that got its number later."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder / "server.yaml") in words and _alive(pid)


def last_words(folder: Path) -> str:
    """The end of a server's log."""
    try:
        lines = (folder / "server.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as found:
            return found.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _flock(handle: int, name: str) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.002
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"another command has held the clone's {name} lock for {LOCK_TIMEOUT:.0f} s",
                    hint="wait for it or end it, then try again",
                ) from None
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
        else:
            return


def _private(folder: Path) -> None:
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def write(path: Path, text: str) -> None:
    """A file of mode 0600: whole or not at all."""
    made = path.with_name(path.name + ".new")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(made, path)
