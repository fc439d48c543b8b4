"""A hub's remote for tests: a real `dolt sql-server`, the proxy before it, and somebody's computer with Dolt."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from tests.conftest import Done
from wasteland.dolt import binary
from wasteland.errors import NotFound, Refused
from wasteland.hubserver import Holder, dolt_keys
from wasteland.hubserver.remote.proxy import RemoteProxy
from wasteland.hubserver.remote.wire import SERVICE

ROWS = 20_000
SCHEMA = """
CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(64));
CREATE TABLE big (id INT PRIMARY KEY, v VARCHAR(64));
INSERT INTO t VALUES (1, 'one');
"""


@dataclass
class Desk:
    """Who may do what, in this test: alice owns, bob may read the private repository, eve nothing."""

    tokens: dict[str, Holder] = field(default_factory=dict)
    keys: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    readers: dict[str, set[str]] = field(default_factory=dict)
    pushes: list[tuple[str, str, str | None]] = field(default_factory=list)

    def whose_token(self, token: str) -> Holder | None:
        return self.tokens.get(token)

    def whose_key(self, key_id: str) -> tuple[str, bytes] | None:
        return self.keys.get(key_id)

    def resolve(self, owner: str, repo: str, holder: Holder | None, *, write: bool) -> str:
        user = holder.user if holder else None
        private = self.readers.get(f"{owner}/{repo}")
        if f"{owner}__{repo}" not in ("alice__open", "alice__closed", "bob__own"):
            raise NotFound("there is no such repository")
        if private is not None and user not in private | {owner}:
            raise NotFound("there is no such repository")
        if write and user != owner:
            raise Refused("you may not push here")
        return f"{owner}__{repo}"

    def pushed(self, owner: str, repo: str, user: str | None) -> None:
        self.pushes.append((owner, repo, user))


@dataclass
class Machine:
    """Somebody's computer with Dolt on it."""

    home: Path
    base: str

    def dolt(self, *words: str, cwd: Path | None = None, password: str | None = None, **env: str) -> Done:
        made = {**binary.environment(self.home), "HOME": str(self.home), **env}
        if password is not None:
            made["DOLT_REMOTE_PASSWORD"] = password
        done = subprocess.run(
            [binary.find(), *words], cwd=cwd or self.home, env=made, capture_output=True, text=True, timeout=60
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def clone(self, repo: str, *flags: str, password: str | None = None) -> tuple[Done, Path]:
        folder = self.home / f"clone-{len(list(self.home.iterdir()))}"
        return self.dolt("clone", *flags, f"{self.base}/{repo}", str(folder), password=password), folder

    def commit(self, folder: Path, branch: str) -> None:
        for words in (["checkout", "-b", branch], ["sql", "-q", f"INSERT INTO t VALUES ({next_number()}, '{branch}')"],
                      ["commit", "-am", branch]):  # fmt: skip
            self.dolt(*words, cwd=folder).ok()


_numbers = iter(range(100, 10_000))


def next_number() -> int:
    return next(_numbers)


@dataclass
class Place:
    """The hub's side: the database server, the proxy and the server of files."""

    desk: Desk
    proxy: RemoteProxy
    port: int
    files: str

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def home_of(folder: Path, name: str) -> Path:
    home = folder / name
    (home / ".dolt").mkdir(parents=True)
    settings = {"user.name": name, "user.email": f"{name}@example.com", "metrics.disabled": "true",
                "versioncheck.disabled": "true"}  # fmt: skip
    (home / ".dolt" / "config_global.json").write_text(json.dumps(settings))
    return home


@contextlib.contextmanager
def sql_server(home: Path, *words: str, port: int, **env: str) -> Iterator[None]:
    log = (home / f"server-{port}.log").open("wb")
    server = subprocess.Popen(
        [binary.find(), "sql-server", "-H", "127.0.0.1", "-P", str(port), "--socket", str(home / f"{port}.sock"),
         *words], cwd=home, env={**binary.environment(home), "HOME": str(home), **env}, stdin=subprocess.DEVNULL,
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        await_port(port)
        yield
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)


@contextlib.contextmanager
def web(app: Starlette, listening: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


def databases(home: Path) -> Path:
    """The server's databases, as another program made them, and its one account."""
    data = home / "data"
    dolt = Machine(home, "").dolt
    for name in ("alice__open", "alice__closed", "bob__own"):
        (data / name).mkdir(parents=True)
        dolt("init", cwd=data / name).ok()
        rows = ",".join(f"({n},'{n:064x}')" for n in range(ROWS if name == "alice__open" else 3))
        script = f"{SCHEMA}; INSERT INTO big VALUES {rows}; CALL DOLT_COMMIT('-Am', 'made')"
        (home / "made.sql").write_text(script)
        dolt("sql", "-f", str(home / "made.sql"), cwd=data / name).ok()
    account = "CREATE USER 'hub'@'%' IDENTIFIED BY 'pass-word'; GRANT ALL ON *.* TO 'hub'@'%' WITH GRANT OPTION"
    dolt("--data-dir", str(data), "sql", "-q", f"{account}; DROP USER IF EXISTS 'root'@'localhost'").ok()
    return data


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Place]:
    """The whole place: a real database server, the proxy, the server of files."""
    home = home_of(folder, "hub")
    desk = Desk(readers={"alice/closed": {"bob"}})
    desk.tokens = {"alice-token": Holder("alice", True), "alice-reads": Holder("alice", False),
                   "bob-token": Holder("bob", True)}  # fmt: skip
    backend, listening = free_port(), socket.create_server(("127.0.0.1", 0))
    files = f"http://127.0.0.1:{listening.getsockname()[1]}"
    proxy = RemoteProxy(listen="127.0.0.1:0", backend=f"127.0.0.1:{backend}", backend_user="hub",
                        backend_password="pass-word", access=desk, files_base=files)  # fmt: skip
    route = Route(proxy.PREFIX + "{path:path}", proxy.files, methods=["GET", "POST", "PUT"])
    data = databases(home)
    with (
        sql_server(home, "--data-dir", str(data), "--remotesapi-port", str(backend), port=free_port()),
        web(Starlette(routes=[route]), listening),
    ):
        await_port(backend)
        port = proxy.start()
        try:
            yield Place(desk, proxy, port, files)
        finally:
            proxy.stop()


@dataclass
class Credential:
    """A key of `dolt creds`, and what it is made of."""

    id: str
    seed: bytes
    public: bytes


def new_key(machine: Machine) -> Credential:
    """The key that `dolt creds new` makes, selected as the user's."""
    said = machine.dolt("creds", "new").ok().out
    (file,) = (machine.home / ".dolt" / "creds").glob("*.jwk")
    public = dolt_keys.public_key(said.split("pub key: ")[1].strip())
    assert dolt_keys.key_id(public) == file.stem
    # Dolt has the names of the two the wrong way round: `x` is the secret, with the public key behind it.
    secret = base64.urlsafe_b64decode(json.loads(file.read_text())["x"])
    assert secret[32:] == public
    return Credential(file.stem, secret[:32], public)


def call(place: Place, method: str, message: bytes, authorization: str | None = None, service: str = SERVICE) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{place.port}") as channel:
        sent = [("authorization", authorization)] if authorization is not None else []
        found = channel.unary_unary(f"/{service}/{method}")(message, timeout=10, metadata=sent)
        assert isinstance(found, bytes)
        return found
