"""What strangers offer is fetched within limits, and leaves nothing where it is too much."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.dolt.fetching import Limits, OverLimit, TooSlow, fetch_within
from wasteland.dolt.server import Server
from wasteland.errors import Unreachable, WastelandError

MIB = 1 << 20
# PyMySQL leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A clone with the remotes `small` and `large`, which hold a branch of their names."""
    folder = tmp_path_factory.mktemp("fetching")
    home = binary.dolt_home(folder / "data")
    env = binary.environment(home)

    def dolt(*words: str, at: str, text: str | None = None) -> None:
        binary.run(words, cwd=folder / at, env=env, input=text)

    for name in ("maker", "small", "large", "gone"):
        (folder / name).mkdir()
    dolt("init", at="maker")
    dolt("sql", "-q", "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT); CALL DOLT_COMMIT('-Am', 't')", at="maker")
    for name in ("small", "large"):
        dolt("remote", "add", name, f"file://{folder / name}", at="maker")
        dolt("push", name, "main", at="maker")
    dolt("clone", f"file://{folder / 'small'}", "db", at=".")
    for name, count, length in (("small", 1, 1000), ("large", 5, MIB)):
        dolt("checkout", "-b", name, at="maker")
        rows = ", ".join(f"({count + k}, '{os.urandom(length).hex()}')" for k in range(count))
        dolt("sql", at="maker", text=f"INSERT INTO t VALUES {rows}; CALL DOLT_COMMIT('-am', 'more');")
        dolt("push", name, name, at="maker")
        dolt("checkout", "main", at="maker")
    made = Database(Server(folder / "db", home, idle=60), author="a <a@b.invalid>")
    made.server.prepare()
    made.server.made()
    for name in ("small", "large", "gone"):
        made.add_remote(name, f"file://{folder / name}")
    yield made
    made.close()
    made.server.stop()


def size(db: Database) -> int:
    return sum(file.stat().st_size for file in (db.server.clone / ".dolt").rglob("*") if file.is_file())


def test_a_fetch_that_takes_too_long_is_stopped_and_leaves_nothing(db):
    before = size(db)
    failed = fetch_within(db, {"large": ["large"]}, Limits(seconds=0))
    assert isinstance(failed["large"], Unreachable)
    assert "within 0 s" in failed["large"].message
    assert db.remote_branches("large") == {}
    assert size(db) < before + MIB


def test_of_several_only_the_one_that_is_too_large_is_refused(db):
    before = size(db)
    asked = {"large": ["large"], "small": ["small", "nosuch"], "gone": ["main"]}
    failed = fetch_within(db, asked, Limits(size=2 * MIB))
    assert {remote: type(error) for remote, error in failed.items()} == {"large": OverLimit, "gone": Unreachable}
    assert set(db.remote_branches("small")) == {"small"}
    assert db.remote_branches("large") == {}
    assert size(db) < before + 2 * MIB
    assert db.hash_of("main")


def test_what_came_whole_before_it_could_be_stopped_is_given_back(db, monkeypatch):
    before = size(db)
    monkeypatch.setattr("wasteland.dolt.fetching.LOOK", 30.0)
    failed = fetch_within(db, {"large": ["large"]}, Limits(size=2 * MIB))
    assert isinstance(failed["large"], OverLimit)
    assert db.remote_branches("large") == {}
    assert size(db) < before + 2 * MIB
    assert db.hash_of("main")


def test_of_several_that_ended_before_they_were_looked_at_the_large_one_is_given_back(db, monkeypatch):
    before = size(db)
    monkeypatch.setattr("wasteland.dolt.fetching.LOOK", 30.0)
    monkeypatch.setattr("wasteland.dolt.fetching.AT_A_TIME", 1)
    failed = fetch_within(db, {"small": ["small"], "large": ["large"]}, Limits(size=2 * MIB))
    assert {remote: type(error) for remote, error in failed.items()} == {"large": OverLimit}
    assert db.remote_branches("large") == {}
    assert set(db.remote_branches("small")) == {"small"}
    assert size(db) < before + 2 * MIB


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fetch_that_broke_off_has_failed(db, monkeypatch):
    fetch = Database.fetch

    def breaks(self: Database, remote: str, *refs: str) -> None:
        if remote == "gone":
            raise RuntimeError("no error of ours")
        fetch(self, remote, *refs)

    monkeypatch.setattr(Database, "fetch", breaks)
    failed = fetch_within(db, {"gone": ["main"], "small": ["small"]}, Limits())
    assert {remote: error.message for remote, error in failed.items()} == {
        "gone": "could not fetch from gone: the fetch broke off"
    }


def test_several_that_are_too_slow_are_waited_for_once(db):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        names = [f"silent{k}" for k in range(4)]
        for name in names:
            db.add_remote(name, f"http://127.0.0.1:{silent.getsockname()[1]}/org/{name}")
        began = time.monotonic()
        failed = fetch_within(db, {name: ["main"] for name in names} | {"small": ["small"]}, Limits(seconds=2))
        took = time.monotonic() - began
    assert {remote: type(error) for remote, error in failed.items()} == dict.fromkeys(names, TooSlow)
    assert took < 8
    assert db.remote_branches("small")


def test_a_command_that_writes_is_let_end_before_the_server_is_killed(db):
    failed: dict[str, WastelandError] = {}
    writer = Database(Server(db.server.clone, db.server.home, idle=60), author="b <b@b.invalid>")
    fetch = threading.Thread(target=lambda: failed.update(fetch_within(db, {"large": ["large"]}, Limits(2 * MIB))))
    with writer.change("while a fetch is stopped"):
        writer.run("INSERT INTO t VALUES (100, 'kept')")
        fetch.start()
        fetch.join(1.5)
        assert fetch.is_alive(), "it waits for the writer"
    writer.close()
    fetch.join(30)
    assert isinstance(failed["large"], OverLimit)
    assert db.value("SELECT v FROM t WHERE id = 100") == "kept"
    assert db.remote_branches("large") == {}


def test_a_command_that_writes_for_long_is_not_waited_for(db, monkeypatch):
    monkeypatch.setattr("wasteland.dolt.fetching.PATIENCE", 0.1)
    writer = Server(db.server.clone, db.server.home, idle=60)
    with writer.lock("write"):
        failed = fetch_within(db, {"large": ["large"]}, Limits(2 * MIB))
    assert isinstance(failed["large"], OverLimit)


def test_a_large_one_is_fetched_where_the_limit_lets_it(db):
    assert fetch_within(db, {"large": ["large"]}, Limits(size=64 * MIB)) == {}
    assert set(db.remote_branches("large")) == {"large"}
