"""The hub in a folder: real forks with shared history, pull requests numbered per base, and its own merge button."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wasteland.dolt import binary
from wasteland.errors import Conflict, NotFound, Refused
from wasteland.hub import CLOSED, MERGED, OPEN, Branch
from wasteland.hub.local import LocalHub

MAIN = Branch("acme", "commons", "main")


@pytest.fixture
def hub(tmp_path: Path) -> LocalHub:
    """A hub with one database of one row on it."""
    home = binary.dolt_home(tmp_path / "data")
    made = LocalHub(tmp_path / "hub", home)
    source = tmp_path / "source"
    source.mkdir()
    env = binary.environment(home)
    for words in (["init"], ["sql", "-q", "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a')"],
                  ["add", "-A"], ["commit", "-m", "one"], ["remote", "add", "origin", made.url("acme", "commons")],
                  ["push", "origin", "main"]):  # fmt: skip
        binary.run(words, cwd=source, env=env)
    return made


def change(hub: LocalHub, folder: Path, owner: str, branch: str, sql: str) -> Branch:
    """A commit on a branch of a fork, made with plain Dolt."""
    env = binary.environment(hub.home)
    clone = folder / f"{owner}-{branch}"
    binary.run(["clone", hub.url(owner, "commons"), str(clone)], cwd=folder, env=env)
    for words in (
        ["checkout", "-b", branch],
        ["sql", "-q", sql],
        ["commit", "-a", "-m", branch],
        ["push", "origin", branch],
    ):
        binary.run(words, cwd=clone, env=env)
    return Branch(owner, "commons", branch)


def test_a_fork_has_the_history_of_its_parent_and_a_second_fork_is_the_first(hub):
    hub.wait(hub.fork("acme", "commons", "bob"))
    assert hub.fork("acme", "commons", "bob").done
    ask = "SELECT message FROM dolt_log() ORDER BY commit_order"
    assert hub.read("bob", "commons", "main", ask) == hub.read("acme", "commons", "main", ask)
    assert hub.exists("bob", "commons")
    assert not hub.exists("eve", "commons")


def test_what_is_not_there_cannot_be_forked_and_what_is_there_not_created(hub):
    with pytest.raises(NotFound):
        hub.fork("acme", "nothing", "bob")
    with pytest.raises(Conflict):
        hub.create("acme", "commons")


def test_a_pull_request_is_opened_once_refreshed_commented_and_closed(hub):
    source = Branch("bob", "commons", "wl/bob/w-1")
    first = hub.open_pull(source, MAIN, "one", "body", "bob")
    again = hub.open_pull(source, MAIN, "two", "newer", "bob")
    assert (first.number, again.number, again.title, again.body) == (1, 1, "two", "newer")
    hub.comment("acme", "commons", 1, "ada", "nice; DROP TABLE pulls --")
    said = [(one.author, one.text) for one in hub.comments("acme", "commons", 1)]
    assert said == [("ada", "nice; DROP TABLE pulls --")]
    hub.close("acme", "commons", 1)
    hub.close("acme", "commons", 1, landed="x")
    assert hub.pull("acme", "commons", 1).state == CLOSED
    assert hub.pulls("acme", "commons") == []
    assert hub.open_pull(source, MAIN, "three", "", "bob").number == 2
    with pytest.raises(NotFound):
        hub.comment("acme", "commons", 9, "ada", "where?")


def test_numbers_are_counted_per_base_also_when_many_open_at_once(hub):
    def opened(index: int) -> int:
        return hub.open_pull(Branch("bob", "commons", f"wl/bob/w-{index}"), MAIN, "t", "", "bob").number

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(pool.map(opened, range(24)))
    assert numbers == list(range(1, 25))
    other = hub.open_pull(Branch("bob", "commons", "x"), Branch("eve", "commons", "main"), "t", "", "bob")
    assert other.number == 1


def test_its_merge_lands_what_merges_and_refuses_what_conflicts(hub, tmp_path):
    for owner in ("bob", "eve"):
        hub.fork("acme", "commons", owner)
    ours = change(hub, tmp_path, "bob", "b", "UPDATE t SET v = 'bob' WHERE id = 1")
    theirs = change(hub, tmp_path, "eve", "e", "UPDATE t SET v = 'eve' WHERE id = 1")
    for source in (ours, theirs):
        hub.open_pull(source, MAIN, source.name, "", source.org)
    assert hub.merge("acme", "commons", 1, "ada <ada@example.com>").done
    assert hub.read("acme", "commons", "main", "SELECT v FROM t") == [{"v": "bob"}]
    assert hub.pull("acme", "commons", 1).state == MERGED
    with pytest.raises(Conflict):
        hub.merge("acme", "commons", 2, "ada <ada@example.com>")
    assert hub.pull("acme", "commons", 2).state == OPEN
    with pytest.raises(Refused):
        hub.merge("acme", "commons", 1, "ada <ada@example.com>")


def test_names_stay_inside_the_folder(hub):
    from wasteland.errors import Usage

    for bad in ("..", "../x", "a/b", "", "-x"):
        with pytest.raises(Usage):
            hub.url(bad, "commons")
