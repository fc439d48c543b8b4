"""DoltHub's client against a running `wl hub serve`, in both generations of the API, with each fault on."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import Hub
from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.dolt.server import Server
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import CLOSED, MERGED, OPEN, Branch, Operation, credentials
from wasteland.hub.dolthub import DolthubHub, discover
from wasteland.hub.rest import client as rest_module

VERSIONS = ("v1alpha1", "v2")
NUMBERS = itertools.count(1)
ROW = "INSERT INTO t VALUES ({}, '{}')"


@dataclass
class Place:
    """A hub with users, one upstream database of `acme` for one test, and how to see it as somebody."""

    server: Hub
    tokens: dict[str, str]
    db: str
    version: str
    folder: Path

    def as_user(self, user: str, **words: Any) -> DolthubHub:
        site = discover(self.server.api, self.folder / "cache")
        site = type(site)(site.api, site.remote, site.page, (self.version,), site.keys)
        words = {"patience": 4.0} | words
        return DolthubHub(site, self.tokens[user], self.folder / f"cache-{user}", **words)

    def main(self, owner: str = "acme") -> Branch:
        return Branch(owner, self.db, "main")

    def forked(self, user: str = "bob") -> DolthubHub:
        """The hub as `user`, who has a fork."""
        hub = self.as_user(user)
        hub.wait(hub.fork("acme", self.db, user))
        return hub

    def branch(self, hub: DolthubHub, user: str, name: str, sql: str) -> Branch:
        assert hub.write(user, self.db, "main", name, sql) is not None
        return Branch(user, self.db, name)

    def values(self, hub: DolthubHub, owner: str, ref: str = "main") -> dict[str, str]:
        return {row["id"]: row["v"] for row in hub.read(owner, self.db, ref, "SELECT id, v FROM t ORDER BY id")}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[Hub, dict[str, str], Path, Path]]:
    """One hub with three users, and a Dolt database to start from, whose key the hub knows as acme's."""
    folder = tmp_path_factory.mktemp("hub")
    made = Hub.start(folder / "hub")
    try:
        tokens = {user: made.add_user(user) for user in ("acme", "bob", "eve")}
        home = binary.dolt_home(folder / "data")
        acme = DolthubHub(discover(made.api, folder / "cache"), tokens["acme"], folder / "cache")
        assert acme.register_key(credentials.dolt_key(home))
        assert acme.register_key(credentials.dolt_key(home))
        acme.finish()
        source = folder / "source"
        source.mkdir()
        env = binary.environment(home)
        table = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(80)); INSERT INTO t VALUES (1, 'a')"
        for words in (["init"], ["sql", "-q", table], ["add", "-A"], ["commit", "-m", "one"]):
            binary.run(words, cwd=source, env=env)
        yield made, tokens, source, home
    finally:
        made.stop()


@pytest.fixture(params=VERSIONS)
def place(request, server, tmp_path, monkeypatch) -> Iterator[Place]:
    """A fresh upstream `acme/<db>` with one row, pushed with the key that the hub knows."""
    monkeypatch.setattr(rest_module, "FIRST_PAUSE", 0.02)
    hub, tokens, source, home = server
    hub.faults()
    made = Place(hub, tokens, f"db{next(NUMBERS)}", request.param, tmp_path)
    acme = made.as_user("acme")
    acme.create("acme", made.db)
    env = binary.environment(home)
    binary.run(["remote", "add", made.db, acme.url("acme", made.db)], cwd=source, env=env)
    binary.run(["push", made.db, "main"], cwd=source, env=env)
    yield made
    hub.faults()


def test_the_hub_tells_who_we_are_and_refuses_a_token_that_is_none(place):
    assert place.as_user("bob").whoami() == "bob"
    stranger = DolthubHub(place.as_user("bob").site, "wl_nobody", place.folder / "x")
    with pytest.raises(Unauthenticated) as failed:
        stranger.whoami()
    assert failed.value.hint.startswith("wl login --hub http")
    assert "wl_nobody" not in str(failed.value)


def test_a_database_is_made_once_and_a_private_one_is_there_for_its_owner_only(place):
    acme, bob = place.as_user("acme"), place.as_user("bob")
    with pytest.raises(Conflict):
        acme.create("acme", place.db)
    acme.create("acme", f"{place.db}-p", private=True, description="ours")
    assert acme.exists("acme", f"{place.db}-p")
    assert not bob.exists("acme", f"{place.db}-p")
    assert not bob.exists("acme", "nothing")
    assert bob.exists("acme", place.db)
    with pytest.raises(WastelandError):
        bob.create("acme", f"{place.db}-x")


def test_a_fork_has_the_history_of_its_parent_and_a_second_fork_is_the_first(place):
    bob = place.forked("bob")
    ask = "SELECT commit_hash FROM dolt_log()"
    assert bob.read("bob", place.db, "main", ask) == bob.read("acme", place.db, "main", ask)
    again = bob.fork("acme", place.db, "bob")
    bob.wait(again)
    assert again.done
    acme = place.as_user("acme")
    acme.wait(acme.fork("acme", place.db, "acme"))


def test_what_is_not_there_or_not_ours_is_not_forked(place):
    bob = place.as_user("bob")
    with pytest.raises(NotFound):
        bob.wait(bob.fork("acme", "nothing", "bob"), timeout=3)
    with pytest.raises(NotFound):
        bob.fork("bob", "nothing", "bob")
    with pytest.raises(WastelandError) as failed:
        bob.wait(bob.fork("acme", place.db, "eve"), timeout=3)
    assert isinstance(failed.value, Refused | Unauthenticated)
    assert not bob.exists("eve", place.db)


def test_a_database_that_only_has_the_name_of_a_fork_is_not_taken_for_one(place, server, tmp_path):
    eve = place.as_user("eve")
    assert eve.register_key(key := _other_key(tmp_path / "home"))
    assert key
    eve.create("eve", place.db)
    other, env = tmp_path / "other", binary.environment(tmp_path / "home")
    other.mkdir()
    for words in (["init"], ["sql", "-q", "CREATE TABLE u (id INT PRIMARY KEY)"], ["add", "-A"], ["commit", "-m", "x"],
                  ["remote", "add", "origin", eve.url("eve", place.db)], ["push", "origin", "main"]):  # fmt: skip
        binary.run(words, cwd=other, env=env)
    with pytest.raises(Conflict, match="not a fork"):
        eve.fork("acme", place.db, "eve")


def _other_key(home: Path) -> str:
    env = binary.environment(home)
    (home / ".dolt").mkdir(parents=True)
    (home / ".dolt" / "config_global.json").write_text('{"user.name":"eve","user.email":"eve@example.com"}')
    binary.run(["creds", "new"], cwd=home, env=env)
    return credentials.dolt_key(home)


def test_an_operation_can_be_waited_for_by_another_process(place):
    bob = place.as_user("bob")
    started = bob.fork("acme", place.db, "bob")
    later = place.as_user("bob")
    later.wait(Operation(started.id, done=False))
    assert later.read("bob", place.db, "main", "SELECT 1 AS one") == [{"one": "1"}]


def test_a_write_is_one_commit_on_its_branch_and_nothing_where_nothing_changes(place):
    bob = place.forked()
    before = bob.branches("bob", place.db)
    made = bob.write("bob", place.db, "main", "wl/bob/w-1", ROW.format(2, "it''s"))
    after = bob.branches("bob", place.db)
    assert after == before | {"wl/bob/w-1": made}
    assert place.values(bob, "bob", "wl/bob/w-1") == {"1": "a", "2": "it's"}
    assert place.values(bob, "bob") == {"1": "a"}
    assert bob.write("bob", place.db, "main", "wl/bob/w-1", "UPDATE t SET v = 'x' WHERE id = 99") is None
    with pytest.raises(WastelandError):
        bob.write("bob", place.db, "main", "wl/bob/w-1", "INSERT INTO nothing VALUES (1)")
    with pytest.raises(WastelandError):
        bob.write("acme", place.db, "main", "wl/bob/w-1", ROW.format(3, "c"))
    with pytest.raises(NotFound):
        bob.write("bob", place.db, "no-such-branch", "b", ROW.format(3, "c"))
    assert bob.branches("bob", place.db) == after


def test_a_read_is_whole_or_an_error(place):
    bob = place.forked()
    many = ", ".join(f"({n}, 'x')" for n in range(1000, 2500))
    place.branch(bob, "bob", "many", f"INSERT INTO t VALUES {many}")
    with pytest.raises(WastelandError, match="not complete"):
        bob.read("bob", place.db, "many", "SELECT * FROM t")
    assert bob.read("bob", place.db, "many", "SELECT COUNT(*) AS n FROM t") == [{"n": "1501"}]
    with pytest.raises(NotFound):
        bob.read("bob", place.db, "no/such/branch", "SELECT 1")
    with pytest.raises(WastelandError):
        bob.read("bob", place.db, "main", "SELECT nonsense FROM")
    long = "x" * 3000
    assert bob.read("bob", place.db, "main", f"SELECT '{long}' AS one") == [{"one": long}]


def test_a_pull_request_is_opened_once_refreshed_commented_and_closed(place):
    bob = place.forked()
    source = place.branch(bob, "bob", "wl/bob/w-1", ROW.format(2, "b"))
    first = bob.open_pull(source, place.main(), "one", "body", "bob")
    again = bob.open_pull(source, place.main(), "two", "newer", "bob")
    assert (first.number, again.number, again.title, again.body) == (1, 1, "two", "newer")
    seen = bob.pull("acme", place.db, 1)
    assert (seen.title, seen.body, seen.state, seen.author) == ("two", "newer", OPEN, "bob")
    assert (seen.source, seen.target) == (source, place.main())
    assert seen.created_at.year >= 2026
    assert seen.url == f"{place.server.api}/repositories/acme/{place.db}/pulls/1"
    assert bob.pull_from(source, place.main()) == seen
    assert bob.pull("acme", place.db, 99) is None

    place.as_user("eve").comment("acme", place.db, 1, "eve", "nice; DROP TABLE t --")
    said = bob.comments("acme", place.db, 1)
    assert (
        said is None
        if place.version == "v1alpha1"
        else [(c.author, c.text) for c in said] == [("eve", "nice; DROP TABLE t --")]
    )
    bob.close("acme", place.db, 1)
    bob.close("acme", place.db, 1)
    assert bob.pull("acme", place.db, 1).state == CLOSED
    assert bob.pulls("acme", place.db) == []
    assert [one.number for one in bob.pulls("acme", place.db, state=None)] == [1]
    assert bob.pull_from(source, place.main()) is None
    assert bob.open_pull(source, place.main(), "three", "", "bob").number == 2
    with pytest.raises(NotFound):
        bob.comment("acme", place.db, 9, "bob", "where?")
    with pytest.raises(NotFound):
        bob.close("acme", place.db, 9)


def test_texts_that_are_too_long_are_cut_and_not_sent_again_and_again(place):
    bob = place.forked()
    source = place.branch(bob, "bob", "wl/bob/w-1", ROW.format(2, "b"))
    made = bob.open_pull(source, place.main(), "t" * 1000, "b" * 100_000, "bob")
    assert (len(made.title), len(made.body)) == (255, 60_000)
    calls = bob.calls
    bob.open_pull(source, place.main(), "t" * 1000, "b" * 100_000, "bob")
    assert bob.calls - calls <= 2


def test_many_who_open_the_same_pull_request_open_one(place):
    bob = place.forked()
    source = place.branch(bob, "bob", "wl/bob/w-1", ROW.format(2, "b"))
    with ThreadPoolExecutor(6) as pool:
        hubs = [place.as_user("bob") for _ in range(6)]
        made = list(pool.map(lambda hub: hub.open_pull(source, place.main(), "t", "", "bob").number, hubs))
    assert set(made) == {1}
    assert len(bob.pulls("acme", place.db, state=None)) == 1


def test_a_second_look_at_many_pull_requests_costs_one_request(place):
    bob = place.forked()
    for number in range(12):
        source = place.branch(bob, "bob", f"wl/bob/w-{number}", ROW.format(10 + number, "b"))
        bob.open_pull(source, place.main(), f"t{number}", "", "bob")
    first, second = place.as_user("eve"), place.as_user("eve")
    assert len(first.pulls("acme", place.db)) == 12
    assert first.calls == (13 if place.version == "v1alpha1" else 1)
    assert [one.source.name for one in second.pulls("acme", place.db)] == [f"wl/bob/w-{n}" for n in range(12)]
    assert second.calls == 1


def test_its_merge_lands_what_merges_and_a_conflict_is_one(place):
    bob, eve, acme = place.forked("bob"), place.forked("eve"), place.as_user("acme")
    ours = place.branch(bob, "bob", "b", "UPDATE t SET v = 'bob' WHERE id = 1")
    theirs = place.branch(eve, "eve", "e", "UPDATE t SET v = 'eve' WHERE id = 1")
    bob.open_pull(ours, place.main(), "ours", "", "bob")
    eve.open_pull(theirs, place.main(), "theirs", "", "eve")
    acme.wait(acme.merge("acme", place.db, 1, "acme"))
    assert place.values(acme, "acme") == {"1": "bob"}
    assert acme.pull("acme", place.db, 1).state == MERGED
    with pytest.raises(Conflict):
        acme.wait(acme.merge("acme", place.db, 2, "acme"))
    assert acme.pull("acme", place.db, 2).state == OPEN
    with pytest.raises(Refused):
        acme.merge("acme", place.db, 1, "acme")
    with pytest.raises(NotFound):
        acme.merge("acme", place.db, 9, "acme")
    with pytest.raises(WastelandError):
        bob.wait(bob.merge("acme", place.db, 2, "bob"), timeout=3)
    bob.close("acme", place.db, 1)
    assert bob.pull("acme", place.db, 1).state == MERGED


def test_a_fork_is_brought_level_without_a_clone(place):
    bob, acme = place.forked("bob"), place.as_user("acme")
    head = acme.write("acme", place.db, "main", "main", ROW.format(5, "new"))
    assert bob.level("acme", place.db, "bob") is not None
    assert place.values(bob, "bob") == {"1": "a", "5": "new"}
    assert {"commit_hash": head} in bob.read("bob", place.db, "main", "SELECT commit_hash FROM dolt_log()")
    calls = bob.calls
    bob.level("acme", place.db, "bob")
    assert bob.calls - calls <= 3
    assert bob.pulls("bob", place.db) == []
    assert acme.level("acme", place.db, "acme") == head


def test_a_fork_with_commits_of_its_own_that_do_not_merge_loses_nothing(place):
    bob, acme = place.forked("bob"), place.as_user("acme")
    bob.write("bob", place.db, "main", "main", "UPDATE t SET v = 'bob' WHERE id = 1")
    acme.write("acme", place.db, "main", "main", "UPDATE t SET v = 'acme' WHERE id = 1")
    with pytest.raises(Conflict):
        bob.level("acme", place.db, "bob")
    assert place.values(bob, "bob") == {"1": "bob"}
    assert bob.pulls("bob", place.db) == []


def everything(place: Place) -> None:
    """What a rig does with a hub, from fork to merge; each effect is there once at the end, whatever was lost."""
    bob, acme = place.as_user("bob"), place.as_user("acme")
    bob.wait(bob.fork("acme", place.db, "bob"))
    for number in range(2):
        assert bob.write("bob", place.db, "main", "wl/bob/w-1", ROW.format(20 + number, f"n{number}"))
    source = Branch("bob", place.db, "wl/bob/w-1")
    opened = bob.open_pull(source, place.main(), "one", "text", "bob")
    bob.open_pull(source, place.main(), "two", "text", "bob")
    acme.wait(acme.merge("acme", place.db, opened.number, "acme"))
    place.server.faults()

    truth = place.as_user("acme")
    log = truth.read("bob", place.db, "wl/bob/w-1", "SELECT commit_hash FROM dolt_log('main..wl/bob/w-1')")
    assert len(log) == 2
    assert [row["id"] for row in truth.read("acme", place.db, "main", "SELECT id FROM t ORDER BY id")] == [
        "1", "20", "21",
    ]  # fmt: skip
    pulls = truth.pulls("acme", place.db, state=None)
    assert [one.state for one in pulls if one.source == source].count(MERGED) == 1
    assert truth.pulls("acme", place.db) == []
    assert truth.pull("acme", place.db, opened.number).title == "two"


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("v1alpha1", {"error_after": 1}), ("v1alpha1", {"drop_after": 2}), ("v1alpha1", {"error_before": 4}),
    ("v1alpha1", {"lost_poll": "404"}), ("v1alpha1", {"spelling": "old"}), ("v1alpha1", {"spelling": "new"}),
    ("v1alpha1", {"stale": 1}), ("v1alpha1", {"token_header_case": True}),
    ("v2", {"error_after": 2}), ("v2", {"drop_after": 1}), ("v2", {"lost_poll": "never"}), ("v2", {"rate_limit": 9}),
    ("v2", {"fork_lag": 1}), ("v2", {"error_after": 3, "error_before": 5, "stale": 0.5, "delay": 0.01}),
]  # fmt: skip


@pytest.mark.parametrize(("place", "fault"), FAULTS, ids=str, indirect=["place"])
def test_nothing_is_lost_or_done_twice_whatever_the_hub_does(place, fault):
    place.server.faults(**fault)
    everything(place)


def test_a_merge_that_lies_is_an_error(place):
    bob, acme = place.forked(), place.as_user("acme", patience=1.0)
    source = place.branch(bob, "bob", "b", ROW.format(2, "b"))
    bob.open_pull(source, place.main(), "t", "", "bob")
    place.server.faults(merge_lies=True)
    with pytest.raises(WastelandError, match="it is not"):
        acme.wait(acme.merge("acme", place.db, 1, "acme"), timeout=10)
    place.server.faults()
    assert place.values(acme, "acme") == {"1": "a"}


@pytest.mark.parametrize("fault", [{"error_after": 1}, {"drop_after": 1}, {"error_before": 3}], ids=str)
def test_a_comment_is_made_once_or_said_to_be_unknown(place, fault):
    bob = place.forked()
    bob.open_pull(place.branch(bob, "bob", "b", ROW.format(2, "b")), place.main(), "t", "", "bob")
    place.server.faults(**fault)
    try:
        bob.comment("acme", place.db, 1, "bob", "hello")
        known = True
    except Unreachable:
        known = False
    place.server.faults()
    site = bob.site
    reader = DolthubHub(type(site)(site.api, site.remote, site.page, ("v2",), True), place.tokens["eve"], place.folder)
    texts = [one.text for one in reader.comments("acme", place.db, 1)]
    assert texts == ["hello"] if known else texts in ([], ["hello"])
    assert known or place.version == "v1alpha1"


def test_a_database_whose_creation_was_not_answered_is_there_once(place):
    place.server.faults(error_after=1)
    place.as_user("bob").create("bob", f"{place.db}-n")
    place.server.faults()
    assert place.as_user("bob").exists("bob", f"{place.db}-n")


def test_the_fork_is_brought_level_also_where_answers_are_lost(place):
    bob, acme = place.forked("bob"), place.as_user("acme")
    acme.write("acme", place.db, "main", "main", ROW.format(5, "new"))
    place.server.faults(error_after=1, lost_poll="404")
    bob.level("acme", place.db, "bob")
    place.server.faults()
    assert place.values(bob, "bob") == {"1": "a", "5": "new"}
    assert bob.pulls("bob", place.db) == []


def test_a_hub_that_is_gone_is_unreachable_and_the_token_is_in_no_message_and_no_log(place, caplog):
    caplog.set_level(logging.DEBUG)
    bob = place.as_user("bob")
    bob.whoami()
    gone = type(bob.site)("http://127.0.0.1:9", bob.site.remote, bob.site.page, (place.version,), True)
    with pytest.raises(Unreachable) as failed:
        DolthubHub(gone, place.tokens["bob"], place.folder).whoami()
    with pytest.raises(WastelandError) as refused:
        bob.create("acme", f"{place.db}-x")
    for text in (str(failed.value), repr(failed.value.__cause__), str(refused.value), caplog.text):
        assert place.tokens["bob"] not in text


LOGIN = (
    "import sys; from wasteland import cli; cli.COMMANDS |= {'login': ('account', ''), 'logout': ('account', '')}; "
    "sys.exit(cli.run(sys.argv[1:]))"
)


def run(home: Path, *words: str, stdin: str = "") -> tuple[int, dict[str, Any], str]:
    """A command of the user whose HOME this is; its exit code, its JSON and all its words."""
    env = {name: os.environ[name] for name in ("PATH", "WL_DOLT", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", LOGIN, *words, "--json"], input=stdin, capture_output=True, text=True, timeout=60,
        env=env | {"HOME": str(home), "WL_KEYSTORE": "file", "TZ": "UTC"},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stdout + done.stderr


def test_after_a_login_the_server_of_a_clone_can_push(server, tmp_path):
    hub, tokens, *_ = server
    hub.faults()
    place = Place(hub, tokens, f"db{next(NUMBERS)}", "v2", tmp_path)
    bob, user = place.as_user("bob"), tmp_path / "user"
    bob.create("bob", place.db)
    mine, clone = user / ".local" / "share", user / ".local" / "share" / "wasteland" / "bob" / place.db
    clone.mkdir(parents=True)
    dolt = binary.dolt_home(mine)
    env = binary.environment(dolt)
    table = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(80)); INSERT INTO t VALUES (1, 'a')"
    for words in (["init"], ["sql", "-q", table], ["add", "-A"], ["commit", "-m", "one"],
                  ["remote", "add", "origin", bob.url("bob", place.db)]):  # fmt: skip
        binary.run(words, cwd=clone, env=env)
    config = user / ".config" / "wasteland" / "wastelands" / "bob" / f"{place.db}.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"upstream": f"bob/{place.db}", "rig_handle": "bob", "local_dir": str(clone)}))
    before = Database(Server(clone, dolt), author="bob <bob@example.com>")
    with pytest.raises(WastelandError):
        before.push("origin", "main")
    before.close()

    code, wrong, words = run(user, "login", "--hub", hub.api, stdin="wl_nobody\n")
    assert (code, wrong["error"]["code"]) == (7, "Unauthenticated")
    code, made, words = run(user, "login", "--hub", hub.api, stdin=tokens["bob"] + "\n")
    assert code == 0, words
    assert (made["user"], made["store"], made["key_registered"]) == ("bob", "file", True)
    assert tokens["bob"] not in words
    after = Database(Server(clone, dolt), author="bob <bob@example.com>")
    try:
        after.push("origin", "main")
        assert place.values(bob, "bob") == {"1": "a"}
    finally:
        after.close()
        Server(clone, dolt).stop()
    assert run(user, "logout", "--hub", hub.api)[1]["forgotten"] is True
    assert run(user, "logout", "--hub", hub.api)[1]["forgotten"] is False


def test_a_login_says_in_a_sentence_what_it_misses(tmp_path):
    assert run(tmp_path, "login", stdin="")[1]["error"]["code"] == "Usage"
    code, said, words = run(tmp_path, "login", "--hub", "https://ada:hush-hush@hub.example", stdin="t\n")
    assert (code, said["error"]["code"]) == (64, "Usage")
    assert "hush-hush" not in words
    code, said, _ = run(tmp_path, "login", "--hub", "http://127.0.0.1:9", stdin="t\n")
    assert (code, said["error"]["code"]) == (8, "Unreachable")
