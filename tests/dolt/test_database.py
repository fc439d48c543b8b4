"""The store on a real server: one commit or nothing, races, other places in history, remotes, values."""

from __future__ import annotations

import gc
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wasteland.dolt import binary
from wasteland.dolt.changes import NothingChanged
from wasteland.dolt.database import Database, PushRejected
from wasteland.dolt.history import MergeConflict
from wasteland.dolt.server import Server
from wasteland.errors import Conflict, NotFound, Refused, Unreachable, WastelandError

AUTHOR = "Ada <ada@example.com>"
TABLE = "CREATE TABLE item (id VARCHAR(64) PRIMARY KEY, state VARCHAR(16), word LONGTEXT, at TIMESTAMP NULL)"
TIMED = "CREATE TABLE timed (id VARCHAR(64) PRIMARY KEY, title TEXT, who VARCHAR(64), updated_at TIMESTAMP NULL)"
ADD = "INSERT INTO item (id, state, word) VALUES (:id, 'open', :word)"
TAKE = "UPDATE item SET state = :who WHERE id = :id AND state = 'open'"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with one table, a remote in a folder, and its server."""
    folder = tmp_path_factory.mktemp("store")
    clone, home = folder / "org" / "db", binary.dolt_home(folder / "data")
    clone.mkdir(parents=True)
    (folder / "remote").mkdir()
    binary.run(["init"], cwd=clone, env=binary.environment(home))
    db = Database(Server(clone, home, idle=60), author=AUTHOR)
    db.server.prepare()
    db.as_root([TABLE, TIMED])
    with db.founding("tables"):
        db.run(ADD, id="base", word="base")
    db.add_remote("origin", f"file://{folder / 'remote'}")
    db.push("origin", "main")
    yield db
    db.close()
    db.server.stop()


@pytest.fixture
def db(prepared: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh branch, with sessions of its own."""
    name = f"t/{request.node.name.split('[')[0][:60]}-{abs(hash(request.node.name)) % 10**6}"
    mine = another(prepared)
    mine.branch(name, "main")
    yield mine.at(name)
    mine.close()


def another(db: Database) -> Database:
    """The same place through sessions of its own, as another process has them."""
    return Database(Server(db.server.clone, db.server.home, idle=60), author=AUTHOR, revision=db.revision)


def commits(db: Database) -> int:
    return len(db.log(db.revision))


def test_a_change_is_one_commit_by_its_author(db):
    before = commits(db)
    with db.change("wl post: w-1"):
        db.run(ADD, id="a", word="one")
        db.run(ADD, id="b", word="two")
    assert commits(db) == before + 1
    made = db.log(db.revision, limit=1)[0]
    assert (made.message, made.author, made.email) == ("wl post: w-1", "Ada", "ada@example.com")


def test_an_exception_inside_leaves_nothing(db):
    before = commits(db)
    with pytest.raises(ZeroDivisionError), db.change("broken"):
        db.run(ADD, id="a", word=str(1 // (db.run(ADD, id="z", word="zero") - 1)))
    assert (commits(db), db.value("SELECT COUNT(*) FROM item")) == (before, 1)
    with db.change("works again"):
        db.run(ADD, id="a", word="one")


def test_a_change_of_nothing_is_no_commit(db):
    before = commits(db)
    with pytest.raises(NothingChanged), db.change("nothing"):
        db.run("UPDATE item SET word = word")
    assert commits(db) == before


def test_rows_are_changed_inside_a_change_only(db):
    with pytest.raises(WastelandError, match="outside of a change"):
        db.run(ADD, id="a", word="one")


def test_rows_that_somebody_left_uncommitted_are_refused_and_kept(db):
    careless = another(db)
    careless._session.ask(db.revision, "INSERT INTO item (id) VALUES ('left')")
    with pytest.raises(Refused, match="item"), db.change("mine"):
        db.run(ADD, id="a", word="one")
    assert db.value("SELECT COUNT(*) FROM item WHERE id = 'left'") == 1
    assert db.value("SELECT COUNT(*) FROM item WHERE id = 'a'") == 0
    careless.close()


def test_the_second_of_two_changes_finds_the_row_taken(db):
    with db.change("first"):
        assert db.run(TAKE, id="base", who="ada") == 1
    other = another(db)
    with pytest.raises(NothingChanged), other.change("second"):
        assert other.run(TAKE, id="base", who="bob") == 0
    assert db.value("SELECT state FROM item WHERE id = 'base'") == "ada"
    other.close()


def test_two_open_transactions_on_one_row_have_one_winner(db):
    """Past the clone's lock, as a peer's program would be: the loser meets the serialisation error as Conflict."""
    sessions = [another(db), another(db)]
    for one, who in zip(sessions, ("ada", "bob"), strict=True):
        one._procedure("START TRANSACTION")
        assert one._session.ask(one.revision, TAKE.replace(":who", "%s").replace(":id", "%s"), (who, "base"))[0] == 1
    sessions[0]._procedure("COMMIT")
    with pytest.raises(Conflict):
        sessions[1]._procedure("COMMIT")
    assert db.value("SELECT state FROM item WHERE id = 'base'") == "ada"
    sessions[0].reset(db.hash_of(db.revision))
    for one in sessions:
        one.close()


WRITER = """
import sys
from pathlib import Path
from wasteland.dolt.database import Database
from wasteland.dolt.server import Server
clone, home, revision, who = sys.argv[1:]
db = Database(Server(Path(clone), Path(home), idle=60), author="P <p@example.com>", revision=revision)
for n in range(5):
    with db.change(f"{who} {n}"):
        db.run("INSERT INTO item (id, word) VALUES (:id, :word)", id=f"{who}-{n}", word=who)
db.close()
"""


def test_two_processes_lose_no_change(db):
    before = commits(db)
    words = [str(db.server.clone), str(db.server.home), db.revision]
    running = [subprocess.Popen([sys.executable, "-c", WRITER, *words, who]) for who in ("one", "two")]
    assert [process.wait(60) for process in running] == [0, 0]
    assert commits(db) == before + 10
    assert db.value("SELECT COUNT(*) FROM item WHERE word IN ('one', 'two')") == 10


def test_two_threads_of_a_process_are_kept_apart_by_the_lock(db):
    other, order = another(db), []

    def second() -> None:
        with other.locked():
            order.append("second")

    with db.locked():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    other.close()


def test_the_tables_are_read_at_branches_commits_and_remote_branches(db):
    old = db.hash_of(db.revision)
    with db.change("more"):
        db.run(ADD, id="a", word="one")
    count = "SELECT COUNT(*) FROM item"
    assert [db.at(where).value(count) for where in (db.revision, "main", old, "origin/main")] == [2, 1, 1, 1]
    for missing in ("no-such-branch", "0" * 32, "origin/none", "a`; DROP TABLE item", "../x", "-x"):
        with pytest.raises(NotFound):
            db.at(missing).rows(count)


def test_a_commit_is_read_only(db):
    old = db.hash_of(db.revision)
    at = db.at(old)
    with pytest.raises(WastelandError), at.change("into the past"):
        at.run(ADD, id="a", word="one")
    assert db.hash_of(db.revision) == old


def test_a_merge_brings_the_other_side_and_says_the_new_head(db):
    side = f"{db.revision}-side"
    db.branch(side, db.revision)
    with db.at(side).change("theirs"):
        db.at(side).run(ADD, id="theirs", word="t")
    with db.change("ours"):
        db.run(ADD, id="ours", word="o")
    head = db.merge(side, "Merge")
    assert head == db.hash_of(db.revision)
    assert db.is_ancestor(db.hash_of(side), head)
    assert db.value("SELECT COUNT(*) FROM item") == 3


def test_a_conflict_leaves_the_branch_as_it_was_and_names_the_tables(db):
    side = f"{db.revision}-side"
    db.branch(side, db.revision)
    with db.at(side).change("theirs"):
        db.at(side).run(TAKE, id="base", who="bob")
    with db.change("ours"):
        db.run(TAKE, id="base", who="ada")
    before = db.hash_of(db.revision)
    with pytest.raises(MergeConflict) as found:
        db.merge(side, "Merge")
    assert [(r.table, r.key) for r in found.value.rows] == [("item", "base")]
    assert (db.hash_of(db.revision), db.value("SELECT state FROM item")) == (before, "ada")
    db.refuse_dirty()


def test_times_that_both_sides_set_are_no_conflict_and_the_later_one_stays(db):
    side = f"{db.revision}-side"
    with db.change("an item"):
        db.run("INSERT INTO timed VALUES ('t', 'old', NULL, '2026-01-01')")
    db.branch(side, db.revision)
    with db.at(side).change("theirs"):
        db.at(side).run("UPDATE timed SET who = 'bob', updated_at = '2026-01-03' WHERE id = 't'")
    with db.change("ours"):
        db.run("UPDATE timed SET title = 'new', updated_at = '2026-01-02' WHERE id = 't'")
    assert not db.conflicts(db.revision, side)
    head = db.merge(side, "Merge")
    row = db.row("SELECT title, who, updated_at FROM timed WHERE id = 't'")
    assert (row["title"], row["who"], row["updated_at"].day) == ("new", "bob", 3)
    assert db.is_ancestor(db.hash_of(side), head)
    db.refuse_dirty()
    with db.change("autocommit is back"):
        db.run("UPDATE timed SET who = 'eve' WHERE id = 't'")


def test_a_difference_is_rows_before_and_after(db):
    old = db.hash_of(db.revision)
    with db.change("several"):
        db.run(ADD, id="new", word="n")
        db.run("UPDATE item SET word = 'changed', at = :at WHERE id = 'base'", at="2026-01-02 03:04:05")
    found = {row.row["id"]: row for row in db.diff_all(old, db.hash_of(db.revision))}
    assert {name: row.kind for name, row in found.items()} == {"new": "added", "base": "modified"}
    assert found["base"].columns == {"word", "at"}
    assert found["base"].new["at"] == datetime(2026, 1, 2, 3, 4, 5)
    assert found["new"].old is None
    (table,) = db.diff_tables(old, db.hash_of(db.revision))
    assert (table.table, table.data, table.schema) == ("item", True, False)


def test_rows_that_differ_are_counted_and_asked_for_what_they_mention(db):
    old = db.hash_of(db.revision)
    with db.change("three things"):
        db.run(ADD, id="new", word="x")
        db.run(ADD, id="other", word="x")
        db.run("UPDATE item SET state = 'gone' WHERE id = 'base'")
    with db.change("one less"):
        db.run("DELETE FROM item WHERE id = 'other'")
    new = db.hash_of(db.revision)
    assert db.tally(old, new) == {"item": {"added": 1, "modified": 1, "removed": 0}}
    assert db.tally(new, old) == {"item": {"added": 0, "modified": 1, "removed": 1}}
    assert db.count_diff(old, new) == 2
    places = {"item": "id", "timed": "id", "nowhere": "id"}
    assert db.mentioned(old, new, places, ["base", "new", "other", "' OR 1=1 --"]) == {"base", "new"}
    assert db.mentioned(new, old, places, ["new"]) == {"new"}
    assert db.mentioned(old, new, places, []) == set()
    assert len(db.diff(old, new, "item", limit=1)) == 1


def test_a_push_that_is_behind_is_rejected_and_one_without_an_answer_is_unreachable(db, tmp_path):
    name = db.revision
    with db.change("first"):
        db.run(ADD, id="a", word="one")
    first = db.hash_of(name)
    db.push("origin", name)
    assert db.find(f"origin/{name}") == first
    db.push("origin", name)
    with db.change("second"):
        db.run(ADD, id="b", word="two")
    db.push("origin", name)
    db.reset(first)
    with db.change("another second"):
        db.run(ADD, id="c", word="three")
    with pytest.raises(PushRejected):
        db.push("origin", name)
    db.push("origin", name, force=True)
    db.push("origin", f":{name}")
    db.fetch("origin")
    assert db.find(f"origin/{name}") is None
    remote = f"gone-{tmp_path.name}"
    db.add_remote(remote, f"file://{tmp_path}/none/at/all")
    shutil.rmtree(tmp_path / "none")
    (tmp_path / "none").write_text("a file where the folder was")
    with pytest.raises(Unreachable) as lost:
        db.push(remote, name)
    assert not isinstance(lost.value, Conflict)
    with pytest.raises(Unreachable):
        db.fetch(remote)


@pytest.mark.parametrize(
    "text",
    ["it's", 'a "b"', "back\\slash", "100%s %(id)s %", "nul\0in", "\U0001f600 é ﬁ", "a\nb\r\tc",
     "'; DROP TABLE item; --", ":id :word", "", "x" * 70000],
    ids=["quote", "double", "backslash", "percent", "nul", "emoji", "lines", "sql", "colon", "empty", "long"],
)  # fmt: skip
def test_values_come_back_as_they_went(db, text):
    with db.change("value"):
        db.run(ADD, id="v", word=text)
    assert db.value("SELECT word FROM item WHERE id = 'v' AND word = :word", word=text) == text


def test_times_are_utc(db):
    with db.change("time"):
        db.run("INSERT INTO item (id, at) VALUES ('t', :at)", at="2026-07-01 12:00:00")
    assert db.value("SELECT at FROM item WHERE id = 't'") == datetime(2026, 7, 1, 12)
    assert abs((db.log(db.revision, limit=1)[0].date - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize(
    "sql",
    ["CREATE TABLE evil (id INT PRIMARY KEY)", "DROP TABLE item", "ALTER TABLE item ADD COLUMN x INT",
     "CREATE TRIGGER evil BEFORE INSERT ON item FOR EACH ROW SET NEW.word = 'x'", "CALL DOLT_FETCH('origin')",
     "CALL DOLT_PUSH('origin', 'main')", "CALL DOLT_REMOTE('add', 'x', 'file:///tmp/x')",
     "CALL DOLT_CLONE('file:///tmp/x')", "CALL DOLT_GC()", "CREATE USER eve", "SELECT * FROM mysql.user",
     "SELECT * FROM item INTO OUTFILE '/tmp/wl-outfile'"],
)  # fmt: skip
def test_the_node_account_cannot(db, sql):
    with pytest.raises(WastelandError):
        db._session.ask(None, sql)
    assert not Path("/tmp/wl-outfile").exists()


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO item (id) VALUES ('s')", "UPDATE item SET word = 's'", "DELETE FROM item",
     "CALL DOLT_COMMIT('-am', 's')", "CALL DOLT_RESET('--hard')", "CALL DOLT_BRANCH('s')",
     "CREATE TABLE evil (id INT PRIMARY KEY)"],
)  # fmt: skip
def test_the_sync_account_cannot(db, sql):
    db.fetch("origin")
    with pytest.raises(WastelandError):
        db._sync.ask(None, sql)


def test_no_account_reads_files_and_no_event_runs(db):
    assert db.value("SELECT load_file('/etc/passwd')") is None
    assert db._plain("SELECT @@secure_file_priv AS v")[0]["v"] in ("NULL", None)
    assert db._plain("SELECT @@event_scheduler AS v")[0]["v"] == "OFF"


def test_a_refused_connection_leaves_no_socket_behind(db, tmp_path, monkeypatch):
    gone = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(gone))
    monkeypatch.setattr(db.server, "socket_path", lambda: gone)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="refused"):
            db.server.login("node")
        gc.collect()
    assert [str(one.message) for one in said if "socket" in str(one.message)] == []
