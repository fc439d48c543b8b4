"""How the server of a clone is started, with a keeper beside it, and stopped."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wasteland.dolt import binary, processes
from wasteland.dolt.driver import ER, err
from wasteland.dolt.server import Server, private_folder
from wasteland.errors import Locked, Misconfigured, Unreachable, WastelandError
from wasteland.local import private
from wasteland.text import reason, show

ACCOUNTS = ("root", "node", "sync")
START_TIMEOUT = 60.0
ORPHAN_TIMEOUT = 10.0
STOP_TIMEOUT = 20.0
LOG = 65_536  # characters of its end that are looked at
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


def start(server: Server) -> None:
    """Start the server, unless another command was first; Unreachable where it does not come up.

    One that runs and cannot be reached any more, because its socket or its
    passwords are gone or its folder has moved, is ended first.
    """
    binary.fit(server.clone)
    with server.lock("start"):
        with contextlib.suppress(OSError, err.OperationalError):
            server.login("root").close()
            if (server.folder / "accounts.ready").exists():
                return
        for _ in range(3):
            _clear(server)
            if server.running() or _launch(server):
                _accounts(server)
                return
    raise _not_started(server)


def _clear(server: Server) -> None:
    """See that no server of ours holds the clone which nobody can reach.

    Unreachable where one is there and only busy, or silent.
    """
    found = processes.serving(server.folder)
    if not found:
        return
    if not processes.is_keeper(found[0]):
        # Its keeper was killed: it is going down and holds the clone until it is gone.
        processes.end(server.folder, patience=ORPHAN_TIMEOUT, gently=False)
        return
    try:
        server.login("root").close()
    except (OSError, err.OperationalError) as error:
        if not _is_lost(error):
            raise Unreachable(
                f"the database server of {server.clone} (process {found[-1]}) does not answer: {show(error.args[-1])}",
                about=str(server.clone),
                hint="try again; wl server stop ends it",
            ) from error
        processes.end(server.folder, patience=ORPHAN_TIMEOUT)


def _is_lost(error: Exception) -> bool:
    """Whether a login failed in a way that waiting does not mend: no socket, nobody behind it, another password."""
    cause = getattr(error, "original_exception", error)
    return isinstance(cause, FileNotFoundError | ConnectionRefusedError) or error.args[:1] == (ER.ACCESS_DENIED_ERROR,)


def _not_started(server: Server) -> WastelandError:
    said = f"the database server of {server.clone} did not start: "
    other = processes.holder(server.clone.resolve() / ".dolt" / "noms" / "LOCK")
    if other is not None:
        pid, name = other
        return Locked(
            f"{said}process {pid} ({show(name)}) has the clone open",
            about=str(server.clone),
            hint="wait until it has ended, or end it, then try again",
        )
    if panicked := broke_down(server):
        return panicked
    return Unreachable(
        said + last_words(server.folder),
        about=str(server.clone),
        hint="wl server status shows its log; another Dolt program may hold the clone",
    )


def _launch(server: Server) -> bool:
    """Start keeper and server; whether a login through the socket succeeded.

    Which Dolt it is, is remembered before it runs, and forgotten where it did not come up.
    """
    program = binary.find()
    before = binary.admit(program, server.clone, server.folder)
    if _comes_up(server, program):
        return True
    binary.remember(server.folder, before)
    return False


def _comes_up(server: Server, program: Path) -> bool:
    path = server.socket_path()
    private_folder(path.parent)
    path.unlink(missing_ok=True)
    if server.passwords() is None or not (server.folder / "privileges.db").exists():
        private.write(
            server.folder / "accounts.json", json.dumps({name: secrets.token_hex(24) for name in ACCOUNTS}).encode()
        )
        (server.folder / "privileges.db").unlink(missing_ok=True)
        (server.folder / "accounts.ready").unlink(missing_ok=True)
    passwords = server.passwords() or {}
    config = CONFIG.format(
        port=_free_port(),
        socket=json.dumps(str(path)),
        data=json.dumps(str(server.clone)),
        cfg=json.dumps(str(server.folder / "cfg")),
        privileges=json.dumps(str(server.folder / "privileges.db")),
        branches=json.dumps(str(server.folder / "branch_control.db")),
    )
    private.write(server.folder / "server.yaml", config.encode())
    environment = binary.environment(server.home) | server.extra_env
    environment |= {"DOLT_ROOT_PASSWORD": passwords["root"], "DOLT_ROOT_HOST": "localhost"}
    keeper = _keeper(server, program, environment)
    deadline = time.monotonic() + START_TIMEOUT
    pause = 0.01
    while time.monotonic() < deadline:
        if path.exists() and server.running():
            return True
        if keeper.poll() is not None:
            return False
        time.sleep(pause)
        pause = min(0.1, pause * 1.3)
    keeper.terminate()
    return False


def _keeper(server: Server, program: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    log = server.folder / "server.log"
    KEEPERS[:] = [one for one in KEEPERS if one.poll() is None]
    with log.open("wb") as out:
        keeper = subprocess.Popen(
            [
                sys.executable, "-I", str(Path(__file__).with_name("keeper.py")),
                str(program), str(server.folder / "server.yaml"),
                str(server.folder / "in-use"), str(server.folder / "server.json"), str(server.idle),
            ],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=environment, start_new_session=True, cwd=server.folder,
        )  # fmt: skip
    KEEPERS.append(keeper)
    return keeper


def _accounts(server: Server) -> None:
    """Create the two lesser accounts, once."""
    ready = server.folder / "accounts.ready"
    if ready.exists():
        return
    passwords = server.passwords() or {}
    connection = server.login("root")
    try:
        with connection.cursor() as cursor:
            for statement in GRANTS:
                cursor.execute(statement.format(db=server.database), passwords)
    except err.Error as error:
        raise Unreachable(f"the database server refused to make its accounts: {error}") from error
    finally:
        connection.close()
    ready.touch()


def status(server: Server) -> dict[str, Any]:
    """Whether a server runs, its process ids, socket, idle time and the end of its log."""
    found = processes.serving(server.folder)
    return {
        "running": server.running(),
        "keeper_pid": next((one for one in found if processes.is_keeper(one)), None),
        "server_pid": next((one for one in found if not processes.is_keeper(one)), None),
        "socket": str(server.socket_path()),
        "idle_seconds": server.idle,
        "clone": str(server.clone),
        "log": last_words(server.folder) if (server.folder / "server.log").exists() else "",
    }


def stop(server: Server) -> bool:
    """Stop the server now, reached or not, and wait until it is gone; whether there was one."""
    server.leave()
    if not server.folder.exists():
        return processes.end(server.folder, patience=STOP_TIMEOUT)
    with server.lock("start"):
        return processes.end(server.folder, patience=STOP_TIMEOUT)


@contextlib.contextmanager
def at_rest(server: Server, *, gently: bool = True) -> Iterator[None]:
    """No server runs, and none is started, meanwhile; one that runs is killed where that is not done `gently`."""
    server.leave()
    with server.lock("start"):
        processes.end(server.folder, patience=STOP_TIMEOUT if gently else 0, gently=gently)
        yield


def last_words(folder: Path) -> str:
    """What a server's log says of why it ended."""
    return reason(server_log(folder), newest=True)


def broke_down(server: Server) -> Misconfigured | None:
    """What is said of a server that panicked; None where its log tells of no panic."""
    return binary.broke_down(server_log(server.folder), binary.find(), server.clone)


def server_log(folder: Path) -> str:
    """The end of what a server and its keeper said since it was started; empty where there is none."""
    try:
        return (folder / "server.log").read_text(errors="replace")[-LOG:]
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
