"""`wl watch`: what two looks mean, and a watch over real wastelands, in a folder and over HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import User, World
from tests.hubs import Hub
from wasteland.errors import Conflict, Misconfigured, Usage
from wasteland.hub import Comment
from wasteland.hub.receiver import genuine, listening, secret_of
from wasteland.models import RowDiff, Wanted
from wasteland.node.proposals import CONFLICTS, GONE, LANDED, NOTHING, READY, Change, Proposal
from wasteland.rules.lease import Lease
from wasteland.watch.events import (
    Event,
    Search,
    Seen,
    board_events,
    comment_events,
    digest,
    ended_event,
    lease_events,
    pull_events,
    seen_now,
)
from wasteland.watch.memory import Memory, Store
from wasteland.watch.telling import Program
from wasteland.watch.waiting import LONGEST, Stop, Wake, paused

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HEAD, NEXT = "h" * 32, "n" * 32
SECRET = "0123456789abcdef0123456789abcdef"
HOSTILE = "x\n2026-11-21T07:47:10Z  pull-merged \x1b[31m‮$(touch pwned); rm -rf ."

Row = dict[str, Any]


def changed(old: Row | None, new: Row | None, table: str = "wanted") -> RowDiff:
    return RowDiff(table, old, new)


def told(events: list[Event]) -> list[tuple[str, Any]]:
    return [(one.event, one.fields.get("rig")) for one in events]


@pytest.mark.parametrize(
    ("search", "changes", "matches"),
    [
        ({}, {}, True),
        ({"project": "core"}, {"project": "core"}, True),
        ({"project": "core"}, {"project": "Core"}, False),
        ({"type": "bug"}, {"type": None}, False),
        ({"priority": 0}, {"priority": 0}, True),
        ({"priority": 0}, {"priority": 1}, False),
        ({"priority_at_most": 1}, {"priority": 0}, True),
        ({"priority_at_most": 1}, {"priority": 2}, False),
        ({"priority_at_most": 4}, {"priority": None}, False),
        ({"search": "FIX"}, {"title": "please fix"}, True),
        ({"search": "%"}, {"title": "please fix"}, False),
        ({"tag": "go"}, {"tags": '["go","sql"]'}, True),
        ({"tag": "go"}, {"tags": '["golang"]'}, False),
        ({"tag": "go"}, {"tags": '"go"'}, False),
        ({"tag": "go"}, {"tags": "not json, but go"}, False),
        ({"project": "core", "tag": "go"}, {"project": "core"}, False),
    ],
)
def test_a_search_takes_what_every_filter_takes(a_wanted, search, changes, matches):
    assert Search(**search).matches(Wanted.of(a_wanted(**changes))) is matches


OPEN: Row = {"status": "open", "claimed_by": None}
TAKEN: Row = {"status": "claimed", "claimed_by": "ada"}
DONE: Row = {"status": "in_review", "claimed_by": "ada"}
OVER: Row = {"status": "completed", "claimed_by": "ada"}


@pytest.mark.parametrize(
    ("me", "old", "new", "event"),
    [
        ("bob", None, OPEN, "item-new"),
        ("poster", None, OPEN, "item-new"),
        ("bob", TAKEN, OPEN, "item-open"),
        ("bob", OPEN, OPEN, None),
        ("bob", OPEN, TAKEN, None),
        ("poster", OPEN, TAKEN, "item-claimed"),
        ("poster", None, TAKEN, "item-claimed"),
        ("ada", OPEN, TAKEN, None),
        ("ada", TAKEN, {"status": "claimed", "claimed_by": "bob"}, "item-claimed"),
        ("poster", TAKEN, DONE, "item-in-review"),
        ("ada", TAKEN, DONE, None),
        ("ada", DONE, TAKEN, "item-returned"),
        ("poster", DONE, TAKEN, None),
        ("bob", DONE, TAKEN, None),
        ("ada", DONE, OVER, "item-completed"),
        ("poster", DONE, OVER, None),
        ("bob", DONE, OVER, None),
        ("poster", OPEN, {"status": "withdrawn", "claimed_by": None}, None),
        ("poster", OPEN, None, None),
        ("poster", OVER, OVER, None),
    ],
)
def test_a_change_of_an_item_is_told_to_whom_it_concerns(a_wanted, me, old, new, event):
    row = changed(a_wanted(**old) if old else None, a_wanted(**new) if new else None)
    found = board_events([row], me, Search())
    assert [one.event for one in found] == ([event] if event else [])
    assert all(one.fields["item"] == "w-1" for one in found)


def test_an_open_item_that_comes_to_match_is_told_and_one_that_matched_is_not(a_wanted):
    search = Search(priority_at_most=1)
    raised = changed(a_wanted(priority=3), a_wanted(priority=1))
    assert told(board_events([raised], "bob", search)) == [("item-open", "poster")]
    assert not board_events([changed(a_wanted(priority=0), a_wanted(priority=1))], "bob", search)
    assert not board_events([changed(None, a_wanted(priority=2))], "bob", search)


def test_who_validated_a_completion_is_named_and_not_told_of_it(a_wanted):
    rows = [
        changed(a_wanted(**DONE), a_wanted(**OVER)),
        changed(None, {"id": "c-1", "wanted_id": "w-1", "validated_by": "val"}, "completions"),
        changed(None, {"id": "s-1", "author": "val", "subject": "ada", "context_id": "c-1", "message": "ok"}, "stamps"),
    ]
    assert told(board_events(rows, "ada", Search())) == [("item-completed", "val"), ("item-stamped", "val")]
    assert told(board_events(rows, "poster", Search())) == [("item-completed", "val"), ("item-stamped", "val")]
    assert board_events(rows, "val", Search()) == []
    assert board_events(rows, "bob", Search()) == []


def test_a_stamp_is_told_once_and_names_its_item_where_that_is_known(a_wanted):
    stamp = {"id": "s-1", "author": "val", "subject": "ada", "context_id": "c-9"}
    assert board_events([changed(stamp, stamp | {"message": "x"}, "stamps")], "ada", Search()) == []
    (one,) = board_events([changed(None, stamp, "stamps")], "ada", Search())
    assert "item" not in one.to_json()
    assert board_events([changed(None, stamp | {"author": "ada"}, "stamps")], "ada", Search()) == []


def a_lease(hours: float, rig: str = "ada") -> Lease:
    return Lease("w-1", rig, NOON, NOON, NOON + timedelta(hours=hours))


@pytest.mark.parametrize(("hours", "says"), [(25, False), (24, True), (1, True), (-3, True)])
def test_a_lease_that_ends_within_a_day_is_told_once(hours, says):
    events, warned = lease_events({"w-1": a_lease(hours)}, "ada", NOON, {})
    assert [one.event for one in events] == (["lease-ending"] if says else [])
    assert lease_events({"w-1": a_lease(hours)}, "ada", NOON, warned) == ([], warned)
    assert lease_events({"w-1": a_lease(hours, "bob")}, "ada", NOON, {}) == ([], {})


def test_a_renewed_lease_is_told_again_when_it_comes_to_its_end():
    _, warned = lease_events({"w-1": a_lease(1)}, "ada", NOON, {})
    _, warned = lease_events({"w-1": a_lease(72)}, "ada", NOON, warned)
    assert warned == {}
    assert lease_events({"w-1": a_lease(2)}, "ada", NOON, warned)[0]


def a_proposal(**changes: Any) -> Proposal:
    values: dict[str, Any] = {
        "number": 3, "title": "claim", "author": "ada", "source": "ada-org/commons:wl/ada/w-1", "opened": "t0",
        "url": "u", "rig": "ada", "head": HEAD, "changes": (Change("w-1", "Fix it", "open", "claimed", "ada"),),
    }  # fmt: skip
    return Proposal(**values | changes)


def seen(**changes: Any) -> Seen:
    values: dict[str, Any] = {
        "head": HEAD, "state": READY, "mine": False, "title": "claim", "url": "u",
        "source": "ada-org/commons:wl/ada/w-1", "comments": (),
    }  # fmt: skip
    return Seen(**values | changes)


@pytest.mark.parametrize(
    ("before", "now", "event"),
    [
        (None, {}, "pull-new"),
        (None, {"state": CONFLICTS}, "pull-new"),
        (None, {"state": LANDED}, None),
        ({}, {}, None),
        ({}, {"head": NEXT}, "pull-moved"),
        ({}, {"state": CONFLICTS}, None),
        ({}, {"head": "", "state": GONE}, None),
        ({"head": "", "state": GONE}, {}, "pull-moved"),
    ],
)
def test_others_pull_requests_are_told_when_new_or_moved(before, now, event):
    old = {} if before is None else {3: seen(**before)}
    assert [one.event for one in pull_events(old, [a_proposal(**now)], "me/commons:")] == ([event] if event else [])


@pytest.mark.parametrize(
    ("before", "state", "event"),
    [
        (None, READY, None),
        (READY, READY, None),
        (READY, CONFLICTS, "pull-conflicts"),
        (CONFLICTS, CONFLICTS, None),
        (None, CONFLICTS, "pull-conflicts"),
        (READY, LANDED, "pull-landed"),
        (READY, GONE, None),
        (CONFLICTS, READY, None),
    ],
)
def test_pull_requests_of_mine_are_told_when_their_state_changes(before, state, event):
    old = {} if before is None else {3: seen(state=before, mine=True)}
    found = pull_events(old, [a_proposal(state=state, head=NEXT)], "ada-org/commons:")
    assert [one.event for one in found] == ([event] if event else [])


@pytest.mark.parametrize(
    ("before", "head", "event"),
    [(READY, HEAD, "pull-landed"), (CONFLICTS, HEAD, "pull-landed"), (NOTHING, HEAD, None), (LANDED, HEAD, None),
     (READY, NEXT, None), (None, HEAD, None)],
)  # fmt: skip
def test_rows_of_mine_that_upstream_came_to_hold_by_other_ways_are_told_as_landed(before, head, event):
    old = {3: seen(state=before, mine=True)} if before else {}
    found = pull_events(old, [a_proposal(state=NOTHING, head=head)], "ada-org/commons:")
    assert [one.event for one in found] == ([event] if event else [])


def test_a_fork_that_does_not_answer_changes_nothing_that_was_known():
    old = seen(state=CONFLICTS, mine=True)
    kept = seen_now(old, a_proposal(state=GONE, head=""), "ada-org/commons:", ("d",))
    assert (kept.head, kept.state, kept.mine, kept.comments) == (HEAD, CONFLICTS, True, ("d",))


@pytest.mark.parametrize(
    ("state", "landed", "event"),
    [("closed", None, "pull-closed"), ("closed", HEAD, "pull-merged"), ("merged", None, "pull-merged"),
     ("gone", None, "pull-closed")],
)  # fmt: skip
def test_what_main_holds_is_merged_whatever_the_hub_calls_it(state, landed, event):
    assert ended_event(3, seen(), state, landed).event == event


def test_a_verdict_is_one_only_from_who_may_give_it_and_ones_own_words_are_no_news():
    verdict = f"Approved by val.\n\nwl-verdict: approve {'0' * 32}"
    said = [Comment("val", verdict, NOON), Comment("mallory", verdict, NOON), Comment("ada", "mine", NOON),
            Comment("bob", "old", NOON), Comment("bob", "new", None)]  # fmt: skip
    before = seen(mine=True, comments=(digest(said[3]),))
    found = comment_events(3, before, said, frozenset({"ada"}), frozenset({"val"}))
    assert told(found) == [("verdict", "val"), ("comment", "mallory"), ("comment", "bob")]
    assert found[0].fields["verdict"] == "approve"
    assert "wl-verdict" not in found[0].fields["text"]


def test_a_hostile_title_stays_on_one_line_of_the_event():
    event = Event("item-new", {"item": "w-1", "title": HOSTILE, "rig": "eve\r"}, "e-1", "t", "acme/commons")
    line = event.line()
    assert line.isprintable()
    assert "\\n2026" in line
    assert Event.of(json.loads(json.dumps(event.to_json()))) == event
    assert len(Event("comment", {"text": "x" * 9000}, "e", "t").line()) < 200


def test_the_pause_doubles_while_nothing_happens_up_to_five_minutes():
    pauses = [30.0]
    for _ in range(6):
        pauses.append(paused(pauses[-1], 30, quiet=True))
    assert pauses == [30, 60, 120, 240, LONGEST, LONGEST, LONGEST]
    assert paused(LONGEST, 30, quiet=False) == 30
    assert paused(900, 900, quiet=True) == 900


def test_what_was_told_is_crossed_out_and_what_failed_comes_first(tmp_path):
    store = Store(tmp_path)
    assert store.load() == Memory()
    made = Memory(head=HEAD, pulls={3: seen(comments=None)}, warned={"w-1": "t"}, turn=3)
    made = store.save(made.with_events([Event("item-new", {"item": f"w-{n}"}) for n in range(4)], NOON, "acme/commons"))
    assert store.load() == made
    store.note(made, 2, {0: 1})
    left = store.load()
    assert [(one.event.fields["item"], one.tries) for one in left.waiting] == [("w-0", 1), ("w-2", 0), ("w-3", 0)]
    assert store.load() == left, "the count belongs to one list and is not used again for the next"
    assert [one.event.id for one in left.waiting] == [made.waiting[at].event.id for at in (0, 2, 3)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "head": "", "pulls": 7}', "\x00"])
def test_a_damaged_memory_is_refused_and_not_taken_for_an_empty_one(tmp_path, text):
    (tmp_path / "watch.json").write_text(text)
    with pytest.raises(Misconfigured, match="damaged"):
        Store(tmp_path).load()


def test_two_watches_of_one_node_exclude_each_other(tmp_path):
    with Store(tmp_path).alone(), pytest.raises(Conflict, match="runs already"), Store(tmp_path).alone():
        pass
    with Store(tmp_path).alone():
        pass


def test_the_program_gets_the_event_on_stdin_and_no_token(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    code = ("import sys, os, json; "
            f"json.dump([sys.argv, sys.stdin.read(), dict(os.environ)], open({str(out)!r}, 'w'))")  # fmt: skip
    monkeypatch.setenv("WL_HUB_TOKEN", "secret-token")
    monkeypatch.setenv("DOLT_PASSWORD", "secret-token")
    program = Program.of(shlex.join([sys.executable, "-c", code, "$HOME"]))
    assert program.run(Event("item-new", {"title": HOSTILE}, "e-1", "t")) is None
    argv, stdin, environment = json.loads(out.read_text())
    assert argv == ["-c", "$HOME"]
    assert json.loads(stdin)["title"] == HOSTILE
    assert stdin.count("\n") == 1
    assert "secret-token" not in json.dumps(environment)
    assert "PATH" in environment


def test_a_program_that_fails_or_hangs_is_told_of_and_stopped(tmp_path):
    event = Event("item-new", {"title": "x" * 200_000}, "e-1", "t")
    assert "ended with 3" in str(Program.of(f"{sys.executable} -c 'exit(3)'").run(event))
    flag = tmp_path / "late"
    slow = f"sh -c '(sleep 2; touch {flag}) & sleep 60'"
    began = time.monotonic()
    assert "was stopped" in str(Program.of(slow, 0.5).run(event))
    assert time.monotonic() - began < 20
    time.sleep(2.5)
    assert not flag.exists(), "what it started is stopped with it"


@pytest.mark.parametrize("command", ["", "'", "no-such-program-at-all x"])
def test_a_command_that_is_none_is_refused_at_the_beginning(command):
    with pytest.raises(Usage):
        Program.of(command)


def test_a_stop_waits_for_the_event_that_is_being_told_unless_asked_twice():
    wake = Wake(telling=True)
    wake.stop()
    assert wake.stopping
    with pytest.raises(Stop):
        wake.stop()
    with pytest.raises(Stop):
        Wake().stop()


def signed(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_signature_that_is_wrong_is_not_made_good_by_the_path():
    body = b"{}"
    assert genuine(SECRET, "/", signed(body), body)
    assert genuine(SECRET, f"/hook/{SECRET}?x=1", None, body)
    assert not genuine(SECRET, f"/hook/{SECRET}", signed(body, "other"), body)
    assert not genuine(SECRET, "/", signed(b"other"), body)
    assert not genuine(SECRET, "/", None, body)
    assert not genuine(SECRET, f"/hook/{SECRET}/x", None, body)
    assert not genuine(SECRET, "/", "sha256=\u00e9", body)
    assert not genuine(SECRET, "//[", None, body)


@pytest.fixture
def receiver() -> Iterator[tuple[str, threading.Event]]:
    heard = threading.Event()
    with listening("127.0.0.1:0", SECRET, heard.set) as address:
        yield address.partition("://")[2], heard


def sent(place: str, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(place, timeout=10)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status


def test_only_a_genuine_post_wakes_the_watch(receiver):
    place, heard = receiver
    assert sent(place, "POST", "/", b"{}", X_Wasteland_Signature=signed(b"{}", "wrong")) == 401
    assert sent(place, "POST", "/hook/wrong", b"{}") == 401
    assert sent(place, "GET", f"/hook/{SECRET}") == 405
    assert sent(place, "PUT", f"/hook/{SECRET}", b"{}") == 405
    assert sent(place, "POST", f"/hook/{SECRET}", content_length=str((1 << 20) + 1)) == 413
    assert sent(place, "POST", f"/hook/{SECRET}", content_length="-1") == 411
    assert sent(place, "POST", f"/hook/{SECRET}", transfer_encoding="chunked") == 411
    assert not heard.is_set()
    assert sent(place, "POST", "/", b"not json", X_Wasteland_Signature=signed(b"not json")) == 204
    assert heard.wait(5)
    heard.clear()
    assert sent(place, "POST", f"/hook/{SECRET}", b"{}") == 204
    assert heard.wait(5)


def test_many_senders_who_say_nothing_do_not_keep_it_from_ending():
    heard = threading.Event()
    with listening("127.0.0.1:0", SECRET, heard.set) as address:
        host, port = address.partition("://")[2].split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(20)]
        time.sleep(0.2)
    for one in silent:
        one.close()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8000", "example.com:80"])
def test_webhooks_are_received_on_loopback_only(listen):
    with pytest.raises(Misconfigured, match="loopback"), listening(listen, SECRET, lambda: None):
        pass


def test_the_secret_is_long_and_its_owners_alone(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o644)
    with pytest.raises(Misconfigured, match="others may read"):
        secret_of(file)
    file.chmod(0o600)
    assert secret_of(file) == SECRET
    for bad in ("short", "x" * 20 + "/", "x" * 20 + " y", "é" * 20):
        file.write_text(bad)
        with pytest.raises(Misconfigured):
            secret_of(file)


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster")
    for name in ("worker", "rival"):
        shared_world.join(name, by=poster)
    for user in shared_world.users.values():
        user.ok("sync")
    return shared_world


def posted(town: World, title: str, *words: str) -> str:
    made = town.users["poster"].json("post", "--title", title, *words)
    town.users["poster"].ok("merge", str(made["pull"]["number"]))
    return str(made["item"]["id"])


def once(user: User, *words: str) -> list[dict[str, Any]]:
    """The events of one look."""
    return [json.loads(line) for line in user.ok("watch", "--once", "--json", *words).splitlines()]


def names(events: list[dict[str, Any]], **fields: Any) -> list[str]:
    return [one["event"] for one in events if all(one.get(key) == value for key, value in fields.items())]


class Running:
    """`wl watch` as a process; its lines, as they come."""

    def __init__(self, user: User, *words: str) -> None:
        self.process = user.start("watch", *words)
        self.out: list[str] = []
        self.err: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: Any, to: list[str]) -> None:
        for line in stream:
            to.append(line.rstrip("\n"))

    def until(self, word: str, *, of: str = "out", times: int = 1, within: float = 60) -> list[str]:
        """Wait until so many lines have the word; these lines."""
        lines = self.out if of == "out" else self.err
        deadline = time.monotonic() + within
        while len(found := [line for line in lines if word in line]) < times:
            assert time.monotonic() < deadline, (word, self.out, self.err)
            assert self.process.poll() is None or not any(t.is_alive() for t in self._threads), (self.out, self.err)
            time.sleep(0.05)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it as a user does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(90)
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@contextlib.contextmanager
def running(user: User, *words: str) -> Iterator[Running]:
    made = Running(user, *words)
    try:
        yield made
    finally:
        made.end(signal.SIGKILL)


def test_a_watch_starts_from_now_and_tells_each_thing_once(town):
    worker = town.users["worker"]
    before = posted(town, "There before")
    assert once(worker) == []
    item = posted(town, "New on the board", "--priority", "1", "--project", "core")
    (found,) = once(worker)
    assert (found["schema_version"], found["event"], found["item"]) == (1, "item-new", item)
    assert (found["title"], found["rig"], found["wasteland"]) == ("New on the board", "poster", "acme/commons")
    assert found["id"].startswith("e-")
    assert once(worker) == []
    (town.users["worker"].clone().parent / ".commons.node" / "watch.json").unlink()
    there = once(worker, "--all")
    assert {before, item} <= {one["item"] for one in there if one["event"] == "item-new"}


def test_the_story_of_a_claim_is_told_to_both_sides(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    for user in (poster, worker, rival):
        once(user)
    item = posted(town, "A story")
    pull = worker.json("claim", item)["pull"]["number"]
    assert names(once(poster), pull=pull) == ["pull-new"]
    worker.ok("done", item, "--evidence", "https://example.com/1")
    assert names(once(poster), pull=pull) == ["pull-moved"]
    poster.ok("request-changes", str(pull), "-m", "say when")
    poster.ok("comment", str(pull), "and why")
    worker.ok("comment", str(pull), "my own words")
    found = [one for one in once(worker) if one.get("pull") == pull]
    assert [(one["event"], one["rig"]) for one in found] == [("verdict", "poster"), ("comment", "poster")]
    assert (found[0]["verdict"], len(found[0]["head"]), found[1]["text"]) == ("request-changes", 32, "and why")
    poster.ok("merge", str(pull))
    assert names(once(poster), item=item) == ["item-in-review"]
    ended = [one for one in once(worker) if one.get("pull") == pull]
    assert (ended[-1]["event"], len(ended[-1]["landed"])) == ("pull-merged", 32)
    assert {one["event"] for one in ended[:-1]} <= {"comment"}, "the merge may say where the commit landed"
    made = poster.json("accept", item, "--quality", "4")
    poster.ok("merge", str(made["pull"]["number"]))
    assert names(once(worker), item=item) == ["item-completed", "item-stamped"]
    assert once(rival) == [], "who has no part in it hears nothing of an item that is not open any more"


def test_a_lost_race_and_a_rejection_are_told_to_their_author(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    item, other = posted(town, "Raced for"), posted(town, "Rejected")
    first = worker.json("claim", item)["pull"]["number"]
    second = rival.json("claim", item)["pull"]["number"]
    third = rival.json("claim", other)["pull"]["number"]
    once(rival)
    poster.ok("merge", str(first))
    poster.ok("reject", str(third), "--reason", "too early")
    found = once(rival)
    assert names(found, pull=second) == ["pull-conflicts"]
    assert names(found, pull=third) == ["verdict", "pull-closed"], "the verdict that came with the end is told too"


def test_who_may_not_merge_is_told_of_pull_requests_about_items_of_theirs_only(town):
    poster, worker, rival = (town.users[name] for name in ("poster", "worker", "rival"))
    made = worker.json("post", "--title", "Posted by worker")
    poster.ok("merge", str(made["pull"]["number"]))
    mine, other = made["item"]["id"], posted(town, "Posted by another")
    rival.ok("sync")
    once(worker)
    about_mine = rival.json("claim", mine)["pull"]["number"]
    rival.ok("claim", other)
    found = once(worker)
    assert [one["pull"] for one in found if one["event"] == "pull-new"] == [about_mine]


def test_a_lease_that_is_about_to_end_is_told_once(town):
    worker = town.users["worker"]
    item = posted(town, "Short", "--effort", "trivial")
    pull = worker.json("claim", item, "--for", "2h")["pull"]["number"]
    town.users["poster"].ok("merge", str(pull))
    assert names(once(worker), item=item) == ["lease-ending"]
    assert names(once(worker), item=item) == []


def test_searches_are_stored_used_listed_and_forgotten(town):
    rival = town.users["rival"]
    assert rival.wl("watch", "--save", "x").code == 64
    assert rival.wl("watch", "--save", "no/name", "--tag", "go").code == 64
    rival.ok("watch", "--save", "urgent", "--priority-at-most", "1", "--tag", "go")
    rival.ok("watch", "--save", "docs", "--project", "docs", "--search", "manual")
    assert rival.json("watch", "--list")["searches"] == {
        "urgent": {"priority_at_most": 1, "tag": "go"}, "docs": {"project": "docs", "search": "manual"},
    }  # fmt: skip
    once(rival, "--saved", "urgent")
    posted(town, "Urgent, other tag", "--priority", "0", "--tags", "sql")
    posted(town, "Not urgent", "--priority", "3", "--tags", "go")
    item = posted(town, "Urgent", "--priority", "1", "--tags", "go,sql")
    assert [one["item"] for one in once(rival, "--saved", "urgent") if one["event"] == "item-new"] == [item]
    rival.ok("watch", "--forget", "docs")
    assert list(rival.json("watch", "--list")["searches"]) == ["urgent"]
    assert rival.wl("watch", "--saved", "docs", "--once").code == 4
    assert rival.wl("watch", "--saved", "urgent", "--tag", "go").code == 64
    assert rival.json("config", "get", "mode")["value"] == "pr", "the rest of the file is as it was"


@pytest.mark.parametrize(
    "words",
    [("--every", "0s"), ("--every", "soon"), ("--for", "-1m"), ("--count", "0"), ("--exec", "no-such-program"),
     ("--listen", "127.0.0.1:0"), ("--priority", "9"), ("--save", "a", "--forget", "b")],
)  # fmt: skip
def test_words_that_make_no_sense_are_refused(town, words):
    done = town.users["rival"].wl("watch", "--once", *words)
    assert (done.code, "Traceback" in done.err) == (64, False)


def test_a_second_watch_is_refused_and_a_signal_ends_the_first_with_0(town):
    worker = town.users["worker"]
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(worker, "--every", "1s") as first:
            first.until("watching", of="err")
            second = worker.wl("watch", "--once")
            assert (second.code, "runs already" in second.err) == (5, True)
            assert first.end(number) == 0
    assert worker.wl("watch", "--once").code == 0


def test_a_watch_ends_after_its_time_or_its_count(town):
    rival = town.users["rival"]
    began = time.monotonic()
    rival.ok("watch", "--every", "1s", "--for", "3s")
    assert time.monotonic() - began > 3
    for title in ("One", "Two", "Three"):
        posted(town, title)
    first = rival.ok("watch", "--count", "2").splitlines()
    assert len(first) == 2
    assert len(once(rival)) == 1, "what the count left over is told by the next watch"


def test_a_failing_program_is_a_notice_and_the_event_gets_three_tries(town, tmp_path):
    rival = town.users["rival"]
    once(rival)
    posted(town, "For a program that fails")
    code = f"import sys; open({str(tmp_path / 'tries')!r}, 'a').write(sys.stdin.read()); sys.exit(7)"
    command = shlex.join([sys.executable, "-c", code])
    results = [rival.wl("watch", "--once", "--json", "--exec", command).ok() for _ in range(4)]
    assert [len(done.out.splitlines()) for done in results] == [1, 0, 0, 0], "the line is printed once"
    assert ["ended with 7" in done.err for done in results] == [True, True, True, False]
    assert "given up" in results[2].err
    ids = [json.loads(line)["id"] for line in (tmp_path / "tries").read_text().splitlines()]
    assert (len(ids), len(set(ids))) == (3, 1)


def hostile_item(town: World, title: str) -> str:
    """An item that a peer wrote past our checks."""
    poster = town.users["poster"]
    code = ("import sys; from wasteland.node.node import open_node; n = open_node(None)\n"
            "with n.db.change('x'): n.db.run('INSERT INTO wanted (id, title, status, posted_by) VALUES "
            "(:i, :t, :s, :p)', i='w-evil', t=sys.stdin.read(), s='open', p='poster')\n"
            "n.db.push('origin', 'main')")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], env=poster.environment(), input=title, text=True, check=True)
    return "w-evil"


def test_a_hostile_title_stays_on_its_line_and_never_reaches_the_words_of_a_program(town, tmp_path):
    rival = town.users["rival"]
    once(rival)
    item = hostile_item(town, HOSTILE)
    code = f"import sys, json; json.dump([sys.argv, json.load(sys.stdin)], open({str(tmp_path / 'got')!r}, 'w'))"
    lines = rival.ok("watch", "--once", "--exec", shlex.join([sys.executable, "-c", code])).splitlines()
    (line,) = [line for line in lines if item in line]
    assert len(lines) == 1
    assert line.isprintable()
    argv, event = json.loads((tmp_path / "got").read_text())
    assert argv == ["-c"]
    assert event["title"] == HOSTILE


def test_a_kill_between_two_events_loses_none_and_tells_at_most_one_again(town, tmp_path):
    rival = town.users["rival"]
    once(rival)
    items = [posted(town, f"Killed at {n}") for n in range(3)]
    told_ids: list[str] = []
    heard: list[str] = []
    for where in ("acknowledged:2", "durable:1", None):
        env = {"WL_CRASH_AT": where} if where else {}
        done = User("rival", rival.home, {**rival.env, **env}).wl("watch", "--once", "--json")
        assert done.code == (-signal.SIGKILL if where else 0)
        events = [json.loads(line) for line in done.out.splitlines()]
        heard += [one["item"] for one in events]
        told_ids += [one["id"] for one in events]
    # Killed before the second was written down, it is told again; killed after that, the third comes alone.
    assert sorted(set(heard)) == sorted(items)
    assert len(heard) == 4
    assert len(set(told_ids)) == 3
    assert once(rival) == []


@pytest.mark.slow
def test_a_hub_that_goes_away_is_one_notice_and_the_watch_goes_on_when_it_is_back(town):
    rival = town.users["rival"]
    away = town.hub.with_name("hub-away")
    with running(rival, "--every", "1s") as watch:
        watch.until("watching", of="err")
        town.hub.rename(away)
        try:
            watch.until("waiting until", of="err")
            time.sleep(6)
            assert rival.wl("watch", "--once").code == 5
        finally:
            away.rename(town.hub)
        item = posted(town, "After the silence")
        watch.until(item)
        watch.until("it has passed", of="err")
        assert len([line for line in watch.err if "waiting until" in line]) == 1
        assert watch.end() == 0
    assert "Traceback" not in "\n".join(watch.err)


def test_a_first_look_that_reaches_nobody_fails_when_it_is_the_only_one(town):
    away = town.hub.with_name("hub-away")
    town.hub.rename(away)
    try:
        assert town.users["rival"].wl("watch", "--once").code == 8
    finally:
        away.rename(town.hub)


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["v2", "v1alpha1"])
def test_over_http_a_webhook_wakes_the_watch_and_the_poll_is_what_is_believed(tmp_path, generation):
    hub = Hub.start(tmp_path / "hubdir")
    world = World(tmp_path / "world")
    world.folder.mkdir()
    try:
        users = {}
        for name in ("acme", "ada"):
            env = {"WL_HUB": hub.api, "WL_HUB_TOKEN": hub.add_user(name), "WL_HUB_API": generation}
            users[name] = world.user(name, **env)
        acme, ada = users["acme"], users["ada"]
        acme.ok("create", "acme/commons")
        ada.ok("join", "acme/commons")
        acme.ok("merge", "1")
        ada.ok("sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        secret = tmp_path / "secret"
        secret.write_text(hub.wl("webhook", "add", "acme/commons", f"http://127.0.0.1:{port}/")["secret"])
        secret.chmod(0o600)
        words = ("--json", "--every", "10m", "--listen", f"127.0.0.1:{port}", "--secret-file", str(secret))
        with running(acme, *words) as watch:
            watch.until("watching", of="err")
            made = ada.json("post", "--title", "Over HTTP")
            (line,) = watch.until("pull-new")
            assert json.loads(line)["pull"] == made["pull"]["number"]
            forged = json.dumps({"event_name": "pull_request", "action": "Merged", "pullID": "2"}).encode()
            assert sent(f"127.0.0.1:{port}", "POST", "/", forged, X_Wasteland_Signature=signed(forged, "no")) == 401
            _story_over_http(hub, acme, ada, made, generation, watch)
            assert watch.end() == 0
        assert "Traceback" not in "\n".join(watch.err)
        assert secret.read_text() not in "\n".join([*watch.err, *watch.out])
    finally:
        world.stop()
        hub.stop()


def _story_over_http(hub: Hub, acme: User, ada: User, made: Row, generation: str, watch: Running) -> None:
    number, item = made["pull"]["number"], made["item"]["id"]
    once(ada)
    acme.ok("comment", str(number), "nice")
    acme.ok("approve", str(number), "-m", "good")
    found = [one for one in once(ada) if one.get("pull") == number]
    said = [(one["event"], one["rig"]) for one in found]
    assert said == ([] if generation == "v1alpha1" else [("comment", "acme"), ("verdict", "acme")])
    acme.ok("merge", str(number))
    events = once(ada)
    assert names(events, pull=number)[-1] == "pull-merged"
    assert names(events, item=item) == ["item-new"]
    watch.until(item, times=2)
    assert [json.loads(line)["event"] for line in watch.out][-1] == "item-new"
    hub.kill()
    assert ada.wl("watch", "--once").code == 8
    again = hub.again()
    hub.process, hub.remote = again.process, again.remote
