"""The valve: what its rules let pass, what they cut, what leaks, and what is no rule."""

from __future__ import annotations

import base64
import json
import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasteland.errors import Misconfigured
from wasteland.member.send_up import COMMENTED
from wasteland.models import CONTENT, loaded
from wasteland.rules.leaks import CELL, Watch, checked_pattern, texts
from wasteland.rules.valve import NEEDED, Rules

PROJECTS = ["web", "core", "Falcon", "", "docs"]
TAGS = ["public", "internal", "Urgent", "ui"]


def parse(text):
    return Rules.parse(tomllib.loads(text))


def up(**rules):
    return Rules.parse({"up": {"projects": ["*"], **rules}})


def an_item(**changes):
    row = {
        "id": "w-1", "title": "Fix it", "description": "Please", "project": "web", "type": "bug", "priority": 2,
        "tags": '["ui"]', "posted_by": "ada", "claimed_by": None, "status": "open", "effort_level": "small",
        "evidence_url": "file:///srv/e", "sandbox_scope": None, "created_at": "t0", "future_column": "x",
    }  # fmt: skip
    return row | changes


def test_without_rules_nothing_goes_up_and_open_items_come_in():
    rules = Rules()
    assert rules.goes_up("wanted", an_item()) is None
    assert rules.comes_in("wanted", an_item(project="any")) == an_item(project="any")
    assert rules.comes_in("wanted", an_item(status="claimed")) is None
    assert rules.comes_in("stamps", {"id": "s-1"}) is None
    assert Rules.parse({}) == rules


def test_the_commented_file_lets_nothing_go_up():
    rules = parse(COMMENTED.format(upstream="acme/commons"))
    assert rules.goes_up("wanted", an_item()) is None
    assert rules.comes_in("wanted", an_item()) == an_item()


def test_only_the_words_of_an_item_go_up():
    assert up().goes_up("wanted", an_item()) == {
        "id": "w-1", "title": "Fix it", "description": "Please", "project": "web", "type": "bug", "priority": 2,
        "tags": '["ui"]', "effort_level": "small",
    }  # fmt: skip


@pytest.mark.parametrize("status", ["claimed", "in_review", "completed", "withdrawn", None, "odd"])
def test_only_open_items_go_up(status):
    assert up().goes_up("wanted", an_item(status=status)) is None


def test_an_item_that_is_known_here_is_followed_whatever_its_status():
    assert Rules().comes_in("wanted", an_item(status="claimed"), known=True) is not None


def test_deny_wins_over_allow_and_case_does_not_matter():
    rules = up(projects=["Web", "core"], deny_projects=["WEB"])
    assert rules.goes_up("wanted", an_item(project="wEb")) is None
    assert rules.goes_up("wanted", an_item(project="CORE")) is not None


def test_items_without_a_project_need_the_star_or_the_empty_name():
    assert up(projects=["web"]).goes_up("wanted", an_item(project=None)) is None
    assert up(projects=[""]).goes_up("wanted", an_item(project=None)) is not None


def test_tags_that_are_not_listed_are_left_out():
    found = up(tags=["public"]).goes_up("wanted", an_item(tags='["public", "secret-name"]'))
    assert found["tags"] == ["public"]


def test_tags_that_are_no_list_of_words_pass_nowhere():
    for odd in ('{"a": 1}', "[1]", '"x"', "not json"):
        assert up().goes_up("wanted", an_item(tags=odd)) is None


def test_a_blanked_column_is_there_and_empty():
    found = up(blank={"wanted": ["description"]}).goes_up("wanted", an_item())
    assert found["description"] is None


def test_a_denied_column_is_not_there():
    found = up(deny_columns={"wanted": ["description"]}).goes_up("wanted", an_item())
    assert "description" not in found


WORDS = st.lists(st.sampled_from(PROJECTS), max_size=3)
MARKS = st.lists(st.sampled_from(TAGS), max_size=3)
COLUMNS = st.lists(st.sampled_from([c for c in CONTENT if c != "title"]), max_size=4)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "projects": WORDS | st.just(["*"]), "deny_projects": WORDS, "tags": MARKS | st.just(["*"]), "deny_tags": MARKS,
        "columns": st.fixed_dictionaries({"wanted": COLUMNS.map(lambda c: [*c, "title"])}),
        "deny_columns": st.fixed_dictionaries({"wanted": COLUMNS}),
        "blank": st.fixed_dictionaries({"wanted": COLUMNS}),
    },
)  # fmt: skip
TEXT = st.text(max_size=20)
ROWS = st.fixed_dictionaries(
    {
        "id": st.just("w-1"), "title": TEXT, "project": st.sampled_from([*PROJECTS, None]),
        "tags": st.none() | MARKS.map(json.dumps) | MARKS, "status": st.sampled_from(["open", "claimed"]),
        "description": st.none() | TEXT, "type": st.sampled_from(["bug", None]), "posted_by": TEXT,
        "hop_uri": TEXT, "owner_email": TEXT, "evidence_url": TEXT,
    }
)  # fmt: skip


@given(RULES, ROWS)
def test_what_the_rules_refuse_never_goes_up(said, row):
    found = Rules.parse({"up": said}).goes_up("wanted", row)
    if found is None:
        return
    folded = {key: {word.casefold() for word in value} for key, value in said.items() if isinstance(value, list)}
    project = (row["project"] or "").casefold()
    assert row["status"] == "open"
    assert project not in folded.get("deny_projects", set())
    assert project in folded["projects"] or "*" in folded["projects"]
    tags = {tag.casefold() for tag in loaded(row["tags"]) or []}
    assert not tags & folded.get("deny_tags", set())
    assert found.keys() <= {"id", *CONTENT}
    assert found.keys() <= {"id", *said.get("columns", {}).get("wanted", CONTENT)}
    assert not found.keys() & set(said.get("deny_columns", {}).get("wanted", ()))
    for column in said.get("blank", {}).get("wanted", ()):
        assert found.get(column) is None
    if "*" not in folded.get("tags", {"*"}):
        assert {tag.casefold() for tag in loaded(found.get("tags")) or []} <= folded["tags"]
    for column, value in found.items():
        if column != "tags":
            assert value in (None, row[column])


@given(RULES, ROWS)
def test_the_valve_never_changes_the_row_it_is_given(said, row):
    before = json.dumps(row)
    Rules.parse({"up": said, "in": said | {"statuses": ["open"]}}).goes_up("wanted", row)
    Rules.parse({"in": said}).comes_in("wanted", row)
    assert json.dumps(row) == before


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[upp]", "there is no 'upp'"),
        ("up = 1", "up must be a table"),
        ("[up]\nproject = []", "there is no 'project'"),
        ("[up]\nstatuses = ['open']", "there is no 'statuses'"),
        ("[up]\nprojects = 'web'", "up.projects must be a list of words"),
        ("[up]\nprojects = [1]", "up.projects must be a list of words"),
        ("[up]\ntables = ['stamps']", "'stamps' is not one of wanted"),
        ("[in]\ntables = ['wl_roles']", "'wl_roles' is not one of"),
        ("[in]\nstatuses = ['done']", "'done' is not one of"),
        ("[up.columns]\nwanted = ['title', 'posted_by']", "'posted_by' is not one of"),
        ("[up.columns]\nwanted = ['description']", "cannot pass without its title"),
        ("[up.blank]\nwanted = ['title']", "cannot pass without its title"),
        ("[up.columns]\nrigs = []", "there is no 'rigs'"),
        ("[up]\ncolumns = ['title']", "must be a table of lists"),
        ("[in]\ntables = ['stamps']\n[in.blank]\nwanted = ['description']", "without wanted.description no stamp"),
        ("[in]\ntables = ['stamps']\ntags = ['x']", "tags are signed"),
        ("[in.deny_columns]\nrigs = ['handle']", "cannot pass without its handle"),
        ("[leaks]\nwords = ['x']", "too short"),
        ("[leaks]\nprivate_domains = ['user@acme.example']", "is no domain"),
        ("[leaks]\nprivate_hosts = ['acme']", "is no domain"),
        ("[leaks]\npatterns = ['(a+)+']", "could take too long"),
        ("[leaks]\npatterns = ['(']", "is not a regular expression"),
        ("[leaks]\nsecret = []", "there is no 'secret'"),
        ("[up]\nprojects = ['" + "x" * 501 + "']", "more than 500"),
    ],
)
def test_a_wrong_rule_is_said_in_one_sentence(text, part):
    with pytest.raises(Misconfigured) as error:
        parse(text)
    assert part in error.value.message
    assert "\n" not in error.value.message


def test_keys_can_be_denied_in_no_table():
    for table, columns in NEEDED.items():
        for column in columns:
            with pytest.raises(Misconfigured):
                Rules.parse({"in": {"deny_columns": {table: [column]}}})


LEAKS = [
    ("private key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("private key", "-----BEGIN PRIVATE KEY-----"),
    ("private key", '{"kty":"OKP","d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}'),
    ("AWS key", "AKIAIOSFODNN7EXAMPLE"),
    ("GitHub token", "ghp_" + "a1B2" * 9),
    ("GitHub token", "github_pat_" + "a1B2" * 9),
    ("Slack token", "xoxb-123456789012-abcdef"),
    ("DoltHub token", "dhat.v1.abcdefghij"),
    ("API key", "sk-ant-" + "a1B2" * 9),
    ("JSON web token", "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln"),
    ("credential in a URL", "https://bob:hunter2@example.com/x"),
    ("looks like a key or token", "0123456789abcdef0123456789abcdef01234567"),
    ("looks like a key or token", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXaMpLe3kEY"),
    ("private address", "10.1.2.3"),
    ("private address", "192.168.0.1"),
    ("private address", "172.31.255.1:8080"),
    ("private address", "[fd12:3456::1]"),
    ("private host", "http://localhost:3000"),
    ("private host", "build.corp"),
    ("private host", "git.acme.net"),
    ("private e-mail address", "ada@eu.acme.example"),
    ("file path", "file:///srv/acme"),
    ("private project", "FALCON_team"),
    ("private word", "Projekt Straße"),
    ("private pattern", "ACME-123"),
]
WATCH = Watch(
    words=("straße",), patterns=("ACME-[0-9]{1,9}",), projects=("Falcon",), domains=("acme.example",),
    hosts=("acme.net",),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "words"), LEAKS)
@pytest.mark.parametrize("where", ["{}", "see {} there", "a\n{}\tb", "({})", "“{}”"])
def test_a_leak_is_found_wherever_it_stands(kind, words, where):
    assert kind in {leak.kind for leak in WATCH.look({"description": where.format(words)})}


@pytest.mark.parametrize(("kind", "words"), LEAKS)
def test_a_leak_is_found_in_tags_and_behind_invisible_characters(kind, words):
    hidden = f"{words[:3]}\u200b{words[3:]}"
    for row in ({"tags": json.dumps(["ok", words])}, {"tags": ["ok", words]}, {"title": hidden}):
        assert kind in {leak.kind for leak in WATCH.look(row)}


@pytest.mark.parametrize(
    "text",
    [
        "Make the board faster: 34 ms at 10 000 rows, version 1.83.2",
        "See https://example.com/docs/a-very-long-page-name-with-many-words#section-12 for details",
        "falconry and straßen are other words", "ACME-", "8.8.8.8", "2001:db8::1", "12:30:45",
        "ada@example.com", "acme.example", "notacme.net", "profile:/x", "550e8400-e29b-41d4-a716-446655440000",
        "the_name_of_a_function_that_is_really_quite_long", "0000000000000000000000000000000000000000",
    ],
)  # fmt: skip
def test_ordinary_text_is_no_leak(text):
    assert WATCH.look({"description": text}) == []


def test_personal_columns_leak_whatever_they_hold():
    found = Watch().look({"hop_uri": "hop://x/", "owner_email": "a@b.c", "evidence_url": None})
    assert {(leak.column, leak.kind) for leak in found} == {
        ("hop_uri", "personal column"), ("owner_email", "personal column"),
    }  # fmt: skip


def test_a_secret_is_not_repeated_in_what_is_said_of_it():
    for kind, words in LEAKS[:13]:
        told = [str(leak) for leak in WATCH.look({"title": words}) if leak.kind == kind]
        assert told
        assert not any(words in one for one in told)


def test_what_is_allowed_is_no_leak():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert Watch(allowed=frozenset({commit})).look({"title": f"fix {commit}"}) == []


def test_a_project_that_may_not_go_up_is_not_to_be_named():
    rules = up(deny_projects=["falcon"])
    assert [leak.kind for leak in rules.leaks({"title": "Like Falcon"})] == ["private project"]


def test_what_is_too_long_or_too_deep_to_look_at_does_not_leave():
    deep: list = []
    for _ in range(50):
        deep = [deep]
    assert WATCH.look({"description": "a " * CELL})[0].kind == "too long to be looked at"
    assert WATCH.look({"tags": deep})[0].kind == "too long to be looked at"


@given(st.binary(min_size=32, max_size=64))
def test_random_keys_in_hex_are_found_unless_they_are_dull(key):
    dull = len(set(key.hex())) < 10
    assert dull or WATCH.look({"title": f"key {key.hex()}"})


def test_most_random_keys_in_base64_are_found():
    import random

    lot = random.Random(7)
    keys = [base64.b64encode(lot.randbytes(32)).decode() for _ in range(500)]
    assert sum(bool(WATCH.look({"title": key})) for key in keys) >= 475


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_every_text_of_a_value_is_looked_at(value):
    found = list(texts(value))
    assert all(isinstance(one, str) for one in found)
    if isinstance(value, dict):
        assert set(value) <= set(found)


@pytest.mark.parametrize(
    "text", ["a+b+", "(ab)*", "(a|b){2}", r"(a)\1", "(?=a)a", "(?P<n>a)", "a?" * 20, "", "x" * 201]
)
def test_a_pattern_that_could_take_long_is_refused(text):
    with pytest.raises(Misconfigured):
        checked_pattern(text)


@pytest.mark.parametrize("text", ["ACME-[0-9]+", r"\bfoo\b", "(?i)acme", "(?:a|b)c{1,40}", "[+*]x", r"\+\*", "a+?"])
def test_a_simple_pattern_is_taken(text):
    assert checked_pattern(text) == text


@pytest.mark.parametrize("filler", ["a", "eyJ", "1.", "a://", "a@", "ghp_", "A1a", ":", "-----BEGIN ", '"d":'])
def test_no_text_makes_the_look_slow(filler):
    watch = Watch(patterns=("[a-z0-9@.]+!", "ACME-[0-9]{1,9}"), words=("aa",), domains=("acme.example",))
    started = time.process_time()
    watch.look({"description": (filler * CELL)[:CELL]})
    assert time.process_time() - started < 5
