"""Columns and tables that we do not know, as a newer peer makes them, come through our verbs untouched."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.conftest import User, World
from wasteland.dolt import binary

PEER_SQL = """
ALTER TABLE stamps ADD COLUMN stamp_index INT;
ALTER TABLE wanted ADD COLUMN bounty VARCHAR(32);
CREATE TABLE leaderboard (handle VARCHAR(255) PRIMARY KEY, score INT);
INSERT INTO leaderboard VALUES ('worker', 42);
INSERT INTO wanted (id, title, posted_by, status, priority, effort_level, bounty, created_at, updated_at)
    VALUES ('w-peer000001', 'From a peer', 'poster', 'open', 1, 'small', 'ten', '2026-01-01', '2026-01-01');
INSERT INTO completions (id, wanted_id, completed_by, evidence) VALUES ('c-old', 'w-old', 'ada', 'e');
INSERT INTO stamps (id, author, subject, valence, confidence, severity, context_id, context_type, stamp_index)
    VALUES ('s-peer', 'poster', 'ada', '{"quality": 4}', 0.5, 'leaf', 'c-old', 'completion', 7);
"""


def dolt(user: User, *words: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [str(binary.find()), *words], cwd=user.clone(), input=stdin, capture_output=True, text=True, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(user.home), "TZ": "UTC", "DOLT_USE_ADAPTIVE_ENCODING": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    """The poster's clone got a peer's columns and tables before the worker joined."""
    poster = shared_world.create("poster", mode="wild-west")
    poster.stop()
    dolt(poster, "sql", stdin=PEER_SQL)
    dolt(poster, "add", "-A")
    dolt(poster, "commit", "-m", "a newer peer was here")
    dolt(poster, "push", "origin", "main")
    shared_world.join("worker", by=poster)
    return shared_world


def test_what_we_do_not_know_is_shown_and_kept_by_our_verbs(town):
    poster, worker = town.users["poster"], town.users["worker"]
    assert worker.json("status", "w-peer000001")["item"]["bounty"] == "ten"
    made = worker.json("claim", "w-peer000001")
    worker.ok("done", "w-peer000001", "--evidence", "https://example.com/1")
    poster.ok("merge", str(made["pull"]["number"]))
    accepted = poster.json("accept", "w-peer000001", "--quality", "4")
    poster.ok("sync")
    poster.stop()
    found = dolt(poster, "sql", "-r", "csv", "-q", "SELECT id, bounty, status FROM wanted WHERE bounty IS NOT NULL")
    assert found.splitlines()[1:] == ["w-peer000001,ten,completed"]
    found = dolt(poster, "sql", "-r", "csv", "-q", "SELECT id, stamp_index FROM stamps ORDER BY stamp_index IS NULL")
    assert found.splitlines()[1:] == ["s-peer,7", f"{accepted['stamp']['id']},"]
    found = dolt(poster, "sql", "-r", "csv", "-q", "SELECT * FROM leaderboard")
    assert found.splitlines()[1:] == ["worker,42"]
    assert poster.json("verify", "stamp", accepted["stamp"]["id"])["verdict"] == "verified"


def test_a_fork_got_the_same_columns_and_tables(town):
    worker = town.users["worker"]
    worker.ok("sync")
    worker.stop()
    assert "`stamp_index` int" in dolt(worker, "sql", "-r", "csv", "-q", "SHOW CREATE TABLE stamps")
    assert dolt(worker, "sql", "-r", "csv", "-q", "SELECT score FROM leaderboard").split() == ["score", "42"]
