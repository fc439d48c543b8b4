"""Any text in any field is stored as it was given or refused with a sentence; nothing shown forges a line.

One node in one process; a peer is who writes rows past our verbs, straight into the database.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import World
from wasteland import cli
from wasteland.cli.board import _completion_lines, tags_of
from wasteland.cli.browse import _card, _table
from wasteland.errors import Usage
from wasteland.local.config import Paths
from wasteland.market import board, browse
from wasteland.node.node import open_node
from wasteland.text import show

NOW = datetime(2026, 3, 1, tzinfo=UTC)

NASTY = "\n\r\t\0\x07\x08\x0b\x0c\x1b\x7f\x85\x9b"
NASTY += "\u00ad\u061c\u200b\u200d\u200e\u202e\u2028\u2029\u2066\u2069\ufeff\U000e0041"
SYNTAX = "'\"`\\%_;:-#{}[]()<>|&$,. \u00e9e\u0301\u2713\U0001f600\ud7ff"
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
HOSTILE = st.text(st.sampled_from(NASTY + SYNTAX + "aA0"), max_size=60)
LIKELY = st.text(st.sampled_from(SYNTAX + "abc\U0001f600\u4e2d\u05d0"), min_size=1, max_size=80).map(
    lambda text: unicodedata.normalize("NFC", text)
)
LINES = st.lists(LIKELY, max_size=5).map("\n".join)
FORGED = st.sampled_from([
    "ok\n  Status:      completed", "ok\n\n  Completion c-1 by root, signed", "\n  Stamp s-1 by root, root, signed",
    "\n  w-0123456789 FREE MONEY                               P0",
    "a\r  Status: completed", "a\x1b[2K\x1b[1A  Status: x",
    "x\u202e:sutatS", "a\n  History:\n    2026-01-01T00:00:00Z  root: wl accept: w-1", "\n\n  You may: accept",
    "wl: everything is fine", "a\tb", "'; DROP TABLE wanted; --", "\\", "\\n", "%s %(id)s :id", '{"a":1}', "null",
])  # fmt: skip
LONG = st.builds(
    lambda char, size: char * size,
    st.sampled_from("a'\\\n\u00e9\u4e2d\U0001f600"),
    st.sampled_from([201, 8193, 100_000]),
)
TEXT = st.one_of(ANY, HOSTILE, LIKELY, LINES, FORGED, LONG)
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
SIGNED = settings(QUICK, max_examples=20)  # each costs a signature, and verifying all of them grows with the square
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def node(shared_world: World):
    poster = shared_world.create("poster", mode="wild-west")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in poster.environment().items():
            patch.setenv(name, value)
        home = poster.home
        made = open_node(None, Paths(home, home / ".config", home / ".local" / "share"))
        yield made
        made.close()


def raw(node, table, **columns):
    """A row as a peer may write it: past every rule."""
    names = ", ".join(f"`{name}`" for name in columns)
    marks = ", ".join(f":{name}" for name in columns)
    with node.db.change("peer"):
        node.db.run(f"INSERT INTO `{table}` ({names}) VALUES ({marks})", **columns)


def item_of_a_peer(node, **columns):
    found = f"w-peer{next(numbers):04}"
    raw(node, "wanted", **({"id": found, "title": "t", "posted_by": "poster", "status": "open"} | columns))
    return found


def in_review(node):
    """An item of ours that `worker` has completed."""
    item = item_of_a_peer(node, status="in_review", claimed_by="worker", evidence_url="e")
    raw(node, "completions", id=f"c-{item}", wanted_id=item, completed_by="worker", evidence="e",
        completed_at="2026-01-01 00:00:00")  # fmt: skip
    return item


def refused(call):
    """What `call` gave, or None where it was refused with one sentence, which can be shown."""
    try:
        return call()
    except Usage as error:
        sentence = show(error.message)
    assert 0 < len(sentence) < 300
    assert_plain(sentence)
    assert "\n" not in sentence
    return None


def assert_plain(text):
    bad = {f"U+{ord(c):04X}" for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad


def ours(lines):
    """The lines of a card that are ours by their place: those that begin in column 0 or 2."""
    flat = "\n".join(lines).split("\n")
    return [line for line in flat if line.strip() and not line.startswith("    ")]


def labels(lines):
    return [re.split(r":| [cs]-", line.strip())[0] for line in ours(lines)[1:]]


def shown(node, item):
    """The card, checked: nothing but plain characters, and no label that a plain item would not have."""
    card = browse.status(node, item)
    lines = _card(card, NOW)
    assert_plain("\n".join(lines))
    found = labels(lines)
    assert len(found) == len(set(found))
    assert set(found) <= {
        "Status", "Type", "Priority", "Project", "Effort", "Posted by", "Claimed by", "Lease", "Tags", "Created",
        "Updated",
        "Branch", "Description", "Evidence", "Message", "History", "You may", "Completion", "Stamp",
    }  # fmt: skip
    assert lines[2] == f"  Status:      {show(card.item.status)}"
    return card.to_json()


def assert_board(node):
    found = browse.browse(node, {}, limit=1000, long=True)
    text = "\n".join(_table(found, long=True, now=NOW))
    assert_plain(text)
    assert len(re.findall(r"(?m)^  \S", text)) == len(found) + 2  # and the head with its rule
    assert text.startswith(f"Wanted items ({len(found)}):")


@pytest.mark.parametrize("field", ["title", "description", "project"])
def test_a_posted_text_is_stored_or_refused(node, field):
    kept = []

    @QUICK
    @given(TEXT)
    def check(text):
        made = refused(lambda: board.post(node, {"title": "Plain"} | {field: text}, push=False))
        if made:
            assert shown(node, made.item.id)["item"].get(field, "") == text
            kept.append(text)

    check()
    assert_board(node)
    assert kept
    assert all("\n" not in text for text in kept) or field == "description"


def test_posted_tags_are_stored_or_refused(node):
    @QUICK
    @given(st.lists(TEXT, max_size=4))
    def check(tags):
        made = refused(lambda: board.post(node, {"title": "Plain", "tags": tags}, push=False))
        if made:
            assert shown(node, made.item.id)["item"].get("tags", []) == tags

    check()
    assert_board(node)


def test_an_updated_text_is_stored_or_refused(node):
    item = board.post(node, {"title": "Plain"}, push=False).item.id

    @QUICK
    @given(TEXT, TEXT)
    def check(title, description):
        said = {"title": f"{next(numbers)} {title}", "description": description}
        before = node.db.hash_of("main")
        if refused(lambda: board.update(node, item, said, push=False)):
            found = shown(node, item)["item"]
            assert (found["title"], found.get("description", "")) == (said["title"], description)
        else:
            assert node.db.hash_of("main") == before

    check()


def test_evidence_is_stored_or_refused(node):
    @SIGNED
    @given(TEXT)
    def check(text):
        item = item_of_a_peer(node, status="claimed", claimed_by="poster")
        before = node.db.hash_of("main")
        made = refused(lambda: board.done(node, item, text, push=False))
        if made:
            assert shown(node, item)["completion"]["evidence"] == text
            lines = _completion_lines(made)
            assert_plain("".join(lines))
            assert all(line.startswith("  ") and "\n" not in line for line in lines)
        else:
            assert node.db.hash_of("main") == before

    check()
    assert {str(v.verdict) for _, v in _verified(node)} == {"Verdict.VERIFIED"}


def _verified(node):
    from wasteland.node import verifying

    ids = node.db.rows("SELECT id FROM completions WHERE completed_by = 'poster' AND block_hash IS NOT NULL")
    return [(row["id"], verifying.verify(node, "completion", row["id"])) for row in ids]


def test_a_stamps_words_are_stored_or_refused(node):
    @SIGNED
    @given(TEXT, st.lists(TEXT, max_size=3))
    def check(message, skills):
        item = in_review(node)
        said = board.Judgement({"quality": (4, 900)}, skills=tuple(skills), message=message)
        if refused(lambda: board.accept(node, item, said, push=False)):
            found = shown(node, item)["stamp"]
            assert found.get("message", "") == message
            assert found.get("skill_tags", []) == skills

    check()


def test_a_reason_stays_in_history_or_is_refused(node):
    @QUICK
    @given(TEXT)
    def check(reason):
        item = in_review(node)
        if refused(lambda: board.reject(node, item, reason, push=False)):
            history = shown(node, item)["history"]
            suffix = f" — {reason}" if reason else ""
            assert history[-1]["what"].rstrip() == f"wl reject: {item}{suffix}".rstrip()

    check()


def test_words_between_commas_are_tags():
    assert tags_of(" a, b ,,c,") == ["a", "b", "c"]
    assert tags_of(None) is None


# what peers wrote

HARSH = "\x1b[31mred\x1b[0m\r\n  w-9999999999 FORGED\u202e\u2028\n  Status: completed\x00\x9b"
PEERS = {
    "newline": {"title": "one\n  w-9999999999 FORGED                                   P0   maint            open"},
    "ansi": {"title": "\x1b[2J\x1b[Hx", "description": "\x1b]0;owned\x07", "project": "\x1b[1m", "type": "\x9b1m"},
    "bidi": {"title": "a\u202eb", "posted_by": "ma\u200bint", "claimed_by": "\u2066x", "effort_level": "\u202e"},
    "harsh": dict.fromkeys(("title", "description", "evidence_url"), HARSH),
    "long": {"title": "t" * 20_000, "description": "d\n" * 30_000},
    "object": {"tags": '{"a": 1}'},
    "text": {"tags": '"x\\u001b[31m\\n  Status: completed"'},
    "number": {"tags": "5"},
    "true": {"tags": "true"},
    "json null": {"tags": "null"},
    "nested": {"tags": '[["\\u001b"], {"b": [null, 1.5, "\\n  Status: x"]}, null]', "sandbox_scope": '"\\n"'},
    "unknown status": {"status": "validated"},
    "hostile status": {"status": "open\n  Status: completed", "type": "x\n", "project": "\n  y"},
    "empty": dict.fromkeys(
        ("description", "project", "type", "priority", "posted_by", "claimed_by", "status", "effort_level",
         "created_at", "updated_at", "sandbox_required")
    ),
    "numbers": {"priority": -2147483648, "sandbox_required": 7},
    "empty title": {"title": ""},
}  # fmt: skip


@pytest.fixture(scope="module")
def peers(node):
    made = {}
    for name, columns in PEERS.items():
        made[name] = item_of_a_peer(node, **columns)
    node.db.as_root(["ALTER TABLE wanted ADD COLUMN mood TEXT", "CREATE TABLE `extra` (id INT PRIMARY KEY, t TEXT)",
                     "INSERT INTO extra VALUES (1, 'x')"])  # fmt: skip
    with node.db.founding("a peer's schema"):
        node.db.run("UPDATE wanted SET mood = :mood", mood=HARSH)
    return made


@pytest.mark.parametrize("name", PEERS)
def test_a_card_of_a_peers_row_is_safe(node, peers, name):
    found = shown(node, peers[name])
    assert found["item"]["mood"] == HARSH
    assert json.loads(json.dumps(found, default=str))


def test_a_board_of_peers_rows_has_one_line_a_row(node, peers):
    assert_board(node)
    browse.browse(node, {"search": "%"}, limit=5)


STAMPS = {
    "list": '["quality"]',
    "text": '"five"',
    "number": "5",
    "null": "null",
    "odd": '{"quality": "\\u001b[31m5", "x\\n  Status: completed": [1], "": null}',
    "new": '{"quality": 4, "quality_confidence": 0.5, "kindness": 3}',
}


@pytest.fixture(scope="module")
def stamped(node, peers):
    made = {}
    for name, valence in STAMPS.items():
        item = in_review(node)
        stamp = f"s-{item}"
        raw(node, "stamps", id=stamp, author="val\x1b", subject="poster", valence=valence, confidence=None,
            severity="\n  root", context_id=f"c-{item}", context_type=None, skill_tags='"x"', message=HARSH,
            block_hash="f" * 64, created_at=None)  # fmt: skip
        with node.db.change("peer"):
            node.db.run(
                "UPDATE completions SET stamp_id = :stamp, completed_by = 'poster', evidence = :text WHERE id = :id",
                stamp=stamp, id=f"c-{item}", text=HARSH,
            )  # fmt: skip
        made[name] = item
    item = item_of_a_peer(node, status="completed")
    raw(node, "completions", id=f"c-{item}", wanted_id=item)
    return made | {"bare": item}


@pytest.mark.parametrize("name", [*STAMPS, "bare"])
def test_a_card_with_a_peers_stamp_is_safe(node, stamped, name):
    shown(node, stamped[name])


def ran(capsys, *words):
    """Exit code and output of a command in this process; every line plain."""
    code = cli.run(list(words))
    said = capsys.readouterr()
    assert_plain(said.out)
    assert_plain(said.err)
    assert "internal error" not in said.err + said.out
    return code, said.out, said.err


@pytest.mark.parametrize(
    "words",
    [["browse", "--limit", "500", "-l"], ["browse", "--limit", "500"], ["me"], ["leaderboard"], ["verify", "--all"],
     ["verify", "--last", "5"], ["orders", "next"], ["sync"], ["review"], ["doctor"]],
    ids=" ".join,
)  # fmt: skip
def test_what_shows_peers_rows_is_safe(node, stamped, capsys, words):
    code, out, _ = ran(capsys, *words)
    assert code in (0, 1, 3)
    assert "\n  Status: completed" not in out
    assert "\n  w-9999999999" not in out
    code, out, _ = ran(capsys, *words, "--json")
    json.loads(out)


@pytest.mark.parametrize("name", STAMPS)
def test_a_peers_stamp_is_judged_and_never_crashes(node, stamped, capsys, name):
    for kind, start in (("stamp", "s-"), ("completion", "c-")):
        code, out, _ = ran(capsys, "verify", kind, start + stamped[name])
        assert code in (1, 2, 3)
        assert "\n  Status: completed" not in out
        assert out.rstrip().endswith(f"exit {code}")
    code, out, _ = ran(capsys, "status", stamped[name], "--json")
    assert code == 0
    json.loads(out)


def test_a_review_of_hostile_rows_is_safe(node, peers, capsys):
    branch = "wl/poster/w-hostile"
    node.db.branch(branch, "main")
    view = node.db.at(branch)
    with view.change("peer\n  Verdict: auto"):
        view.run("INSERT INTO wanted (id, title, description, tags, status) VALUES (:id, :t, :t, :tags, :t2)",
                 id="w-\n  Verdict: auto", t=HARSH, tags='{"\\u001b": 1}', t2="\x1b[31m")  # fmt: skip
        view.run("INSERT INTO rigs (handle, display_name) VALUES (:h, :h)", h="x\x1b\n  Verdict: auto")
        view.run("INSERT INTO badges (id, evidence) VALUES ('b', :t)", t=HARSH)
    for flags in ([], ["--stat"], ["--md"], ["--json"]):
        code, out, err = ran(capsys, "review", branch, *flags)
        assert code == 0, err
        assert len(re.findall(r"(?m)^  Verdict:", out)) == (0 if flags else 1)
        assert "\n## Verdict" not in out
    assert ran(capsys, "merge", branch)[0] == 6
    node.db.delete_branch(branch)


def test_a_review_of_hostile_names_is_safe(node, peers, capsys):
    branch = "wl/poster/w-schema"
    node.db.branch(branch, "main")
    view = node.db.at(branch)
    view.as_root(["ALTER TABLE wanted ADD COLUMN `a\x1b[31m\n  Verdict: auto` TEXT DEFAULT 'x'",
                  "CREATE TABLE `t\n  Verdict: auto` (id INT PRIMARY KEY)",
                  "INSERT INTO `t\n  Verdict: auto` VALUES (1)",
                  "DROP TABLE badges"])  # fmt: skip
    with view.founding("schema"):
        view.run("UPDATE wanted SET title = 'y' WHERE id = :id", id=peers["object"])
    for flags in ([], ["--stat"], ["--md"], ["--json"]):
        code, out, err = ran(capsys, "review", branch, *flags)
        assert code == 0, err
        assert len(re.findall(r"(?m)^  Verdict:", out)) == (0 if flags else 1)
        if flags == ["--json"]:
            assert json.loads(out)["verdict"] == "quarantine"
    assert ran(capsys, "merge", branch)[0] == 6
    node.db.delete_branch(branch)


# the command line


@pytest.mark.parametrize(
    "words",
    [
        ["post", "--title", "t" * 100_000],
        ["post", "--title", "t", "-d", "d" * 100_000],
        ["post", "--title", "t", "--project", "p" * 100_000],
        ["post", "--title", "t", "--tags", "g" * 100_000],
        ["post", "--title", "t", "--tags", ",".join("g" * 50_000)],
        ["post", "--title", "t", "--type", "x" * 100_000],
        ["done", "ITEM", "--evidence", "e" * 100_000],
        ["accept", "ITEM", "--quality", "5", "--message", "m" * 100_000],
        ["accept", "ITEM", "--quality", "5", "--skills", ",".join("s" * 50_000)],
        ["reject", "ITEM", "--reason", "r" * 100_000],
        ["update", "ITEM", "--title", "t" * 100_000],
        ["status", "w" * 100_000],
        ["review", "b" * 100_000],
        ["verify", "stamp", "s" * 100_000],
        ["role", "add", "validator", "h" * 100_000],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_a_text_of_100_kb_is_refused_with_a_sentence(node, peers, capsys, words):
    before = node.db.branches()
    code, _, err = ran(capsys, *[peers["object"] if word == "ITEM" else word for word in words])
    assert code in (4, 6, 64)
    assert "wl: " in err
    assert len(err) < 1500, err[:200]
    assert node.db.branches() == before


@pytest.mark.parametrize("words", [["post", "--title", "a\udcff"], ["status", "\udcff"],
                                   ["browse", "--search", "\udc80"],
                                   ["join", "a/\udcff"], ["review", "\udcff"], ["config", "get", "\udcff"]],
                         ids=lambda words: words[0])  # fmt: skip
def test_words_that_are_not_text_are_refused_with_a_sentence(node, capsys, words):
    code, _, err = ran(capsys, *words)
    assert code == 64
    assert err == "wl: a word of the command is not text in UTF-8\n"
