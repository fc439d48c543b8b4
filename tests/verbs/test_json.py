"""Every command prints one JSON value with --json, whether it succeeds or fails, and is in the reference."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import click
import pytest

from tests.conftest import Done, User, World
from wasteland import cli, errors
from wasteland.cli import COMMANDS

# The server that a command starts outlives this process's interest in it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
HASH = "0" * 40


def run(user: User, *words: str) -> Done:
    """A command in this process, as `user`."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user.environment().items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.run(list(words))
    return Done(code, out.getvalue(), err.getvalue())


def one(text):
    """The one JSON value that `text` is."""
    value, end = json.JSONDecoder().raw_decode(text)
    assert text[end:] == "\n"
    return value


def leaves(group=cli.wl, names=tuple(COMMANDS), before=()):
    """Every command that can be run, as words: `("role", "add")`."""
    for name in names:
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from leaves(found, tuple(found.commands), (*before, name))
        else:
            yield (*before, name)


LEAVES = sorted(leaves())
# These need a hub that serves, or a parent that is joined; tests/store, tests/stories and test_company.py run them.
ELSEWHERE = {
    ("hub", "serve"), ("hub", "webhook", "add"), ("hub", "webhook", "remove"), ("login",), ("logout",),
    ("valve", "check"), ("valve", "up"),
}  # fmt: skip
LISTS = ("browse", "list")
LINES = ("watch",)  # JSON Lines: a value an event, or none

# In this order: a whole story, so that each command has something to succeed with.
STORY = [
    ("poster", "create acme/commons --remote-base HUB --handle poster"),
    ("worker", "join acme/commons --remote-base HUB --fork-org worker-org --handle worker"),
    ("worker", "join acme/commons"),
    ("poster", "review"),
    ("poster", "review 1"),
    ("poster", "merge 1"),
    ("poster", "config set mode wild-west"),
    ("poster", "config get mode"),
    ("worker", "sync --dry-run"),
    ("worker", "sync"),
    ("poster", "post --title One"),
    ("poster", "post --title Two --no-push"),
    ("poster", "post --title Three"),
    ("poster", "update ITEM3 --title Third"),
    ("poster", "delete ITEM3"),
    ("poster", "sync"),
    ("worker", "browse"),
    ("worker", "browse --search nothing-has-this"),
    ("worker", "claim ITEM1"),
    ("worker", "review wl/worker/ITEM1"),
    ("worker", "review wl/worker/ITEM1 --create-pr"),
    ("worker", "unclaim ITEM1"),
    ("worker", "claim ITEM1"),
    ("worker", "withdraw ITEM1"),
    ("worker", "config set mode wild-west"),
    ("worker", "claim ITEM1"),
    ("worker", "orders next"),
    ("worker", "orders next --id ITEM1"),
    ("worker", "orders report REPORT"),
    ("worker", "orders report REPORT"),
    ("poster", "sync"),
    ("poster", "reject ITEM1 --reason again"),
    ("worker", "sync"),
    ("worker", "done ITEM1 --evidence e"),
    ("poster", "sync"),
    ("poster", "accept ITEM1 --quality 4"),
    ("poster", "status ITEM1"),
    ("poster", "show ITEM1"),
    ("poster", "verify stamp STAMP"),
    ("poster", "verify completion COMPLETION"),
    ("poster", "verify --all"),
    ("poster", "verify --last 2"),
    ("poster", "leaderboard"),
    ("poster", "role list"),
    ("poster", "role add validator worker"),
    ("poster", "role remove validator worker"),
    ("worker", "sync"),
    ("worker", "claim ITEM2"),
    ("worker", "done ITEM2 --evidence e"),
    ("poster", "sync"),
    ("poster", "close ITEM2"),
    ("poster", "me"),
    ("poster", "doctor"),
    ("poster", "list"),
    ("poster", "server status"),
    ("poster", "server stop"),
    ("poster", "server stop"),
    ("poster", "version"),
    ("poster", "completion bash"),
    ("worker", "evidence show COMPLETION"),
    ("worker", "evidence check COMPLETION"),
    ("poster", "config set mode pr"),
    ("worker", "config set mode pr"),
    ("worker", "sync"),
    ("worker", "post --title Four"),
    ("poster", "inbox"),
    ("poster", "comment PULL well"),
    ("poster", "request-changes PULL -m shorter"),
    ("poster", "approve PULL"),
    ("poster", "queue --dry-run"),
    ("poster", "queue"),
    ("poster", "queue"),
    ("worker", "sync"),
    ("worker", "claim ITEM4"),
    ("worker", "renew ITEM4 --for 6d"),
    ("worker", "post --title Five"),
    ("poster", "reject PULL --reason no"),
    ("worker", "post --title Six"),
    ("worker", "close PULL"),
    ("poster", "watch --once --all"),
    ("poster", "fork acme/commons --as corp/board --remote-base HUB --handle corp-poster"),
    ("poster", "valve show --wasteland corp/board"),
    ("poster", "valve in --wasteland corp/board"),
    ("poster", "leave corp/board"),
    ("poster", "valve init --wasteland acme/commons"),
    ("poster", "hub user add SERVED ada"),
    ("poster", "hub user list SERVED"),
    ("poster", "hub org add SERVED corp"),
    ("poster", "hub org member SERVED corp ada --role writer"),
    ("poster", "hub token add SERVED ada"),
    ("poster", "hub token list SERVED"),
    ("poster", "hub token revoke SERVED 1"),
    ("poster", "hub key add SERVED ada " + "0" * 52),
    ("worker", "leave"),
    ("worker", "list"),
]

FAILURES = [
    (64, "create no-slash --remote-base HUB"), (64, "create a/b --remote-base HUB --handle ../x"),
    (5, "create acme/commons --remote-base HUB"), (6, "create a/b --github"), (64, "create"),
    (64, "join ../../x"), (4, "join no/such --remote-base HUB --fork-org o"), (64, "join no/such --remote-base HUB"),
    (4, "leave no/such"), (64, "leave no-slash"), (64, "list extra"), (64, "config get nothing"),
    (64, "config set mode peace"), (64, "config set signing maybe"), (64, "config set server-idle ²"),
    (64, "config set provider-type x"), (64, "config"), (64, "post"), (64, "post --title  "),
    (64, "post --title t --priority 9"), (64, "post --title t --priority high"), (64, "browse --view none"),
    (64, "browse --limit 0"), (64, "browse --limit 99999999999999999999999999"),
    (4, "status w-none"), (64, "status"), (4, "claim w-none"),
    (64, "withdraw"),
    (4, "unclaim w-none"), (4, "done w-none --evidence e"), (64, "done w-none"), (4, "accept w-none --quality 3"),
    (64, "accept w-none"), (64, "accept w-none --quality 9"), (64, "accept w-none --quality 3 --confidence nan"),
    (64, "accept w-none --quality 3 --quality-confidence inf"), (64, "accept w-none --quality 3 --severity big"),
    (4, "reject w-none"), (4, "close w-none"), (4, "update w-none --title t"), (64, "update w-none"),
    (4, "delete w-none"), (64, "sync extra"), (4, "review no-branch"), (4, "review 999"), (4, "review ²"),
    (4, "review 99999999999999999999999999"), (4, "review nobody:wl/x/y"), (64, "review ../x:y"),
    (64, "review x --stat --md"), (4, "merge no-branch"), (4, "merge 999"), (4, "orders next --id w-none"),
    (64, "orders report NOWHERE"), (64, "orders report NONSENSE"),
    (64, "orders report NESTED"), (64, "orders report ARGV"),
    (64, "orders report"), (4, "role add validator nobody"), (64, "role add king poster"),
    (6, "role remove root poster"), (64, "role list extra"), (4, "verify stamp s-none"),
    (4, "verify completion c-none"), (64, "verify badge b"), (64, "verify stamp"), (64, "verify --all --last 2"),
    (64, "verify --last 0"),
    (64, "verify --last 99999999999999999999999999"), (64, "leaderboard --limit 0"), (64, "me extra"),
    (64, "doctor extra"),
    (64, "server status extra"), (64, "server stop extra"), (64, "server"), (64, "version extra"),
    (64, "completion tcsh"), (64, "no-such-command"), (64, ""), (4, "status w-1 --wasteland no/such"),
    (64, "status w-1 --wasteland ../x"),
    (4, "renew w-none"), (64, "claim w-none --for ever"), (4, "comment 999 hello"), (4, "approve 999"),
    (4, "approve no-branch"), (64, "request-changes 999"), (4, "request-changes 999 -m why"), (4, "reject 999"),
    (4, "close 999"), (64, "inbox extra"), (64, "queue extra"), (4, "evidence show c-none"),
    (4, "evidence check c-none"), (64, "evidence"), (64, "watch --every never"), (64, "fork no-slash --as a/b"),
    (64, "fork acme/commons"), (6, "valve show"), (64, "valve init extra"), (64, "valve check"), (64, "valve up"),
    (64, "valve"),
    (9, "hub user list NOWHERE"), (64, "hub"), (64, "hub serve"), (64, "hub user add SERVED ../x"),
    (64, "login --hub https://user:secret@example.com"), (64, "logout --hub ftp://x"),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(shared_world: World, tmp_path_factory):
    """What each command of the story answered, in order; and the world it happened in."""
    names = {"HUB": str(shared_world.hub), "SERVED": str(shared_world.folder / "served")}
    report = tmp_path_factory.mktemp("reports") / "report.json"
    names["REPORT"] = str(report)
    answers = []
    for user in ("poster", "worker"):
        shared_world.user(user)
    for user, line in STORY:
        if "REPORT" in line:
            report.write_text(json.dumps({
                "wanted_id": names["ITEM1"], "outcome": "landed", "repo": "https://example.com/r", "base": HASH,
                "head": HASH, "patch_sha256": "0" * 64,
            }))  # fmt: skip
        known = re.compile("|".join(sorted(names, reverse=True)))
        words = [known.sub(lambda m: names[m.group()], word) for word in line.split()]
        done = run(shared_world.users[user], *words, "--json")
        answers.append((user, line, done))
        value = json.loads(done.out) if done.out and line.split()[0] not in LINES else {}
        if line.startswith("post "):
            names[f"ITEM{1 + sum('ITEM' in name for name in names)}"] = value["item"]["id"]
            if value.get("pull"):
                names["PULL"] = str(value["pull"]["number"])
        if line.startswith("accept "):
            names |= {"STAMP": value["stamp"]["id"], "COMPLETION": value["completion"]["id"]}
    return answers


@pytest.mark.parametrize("number", range(len(STORY)), ids=lambda number: STORY[number][1])
def test_a_command_that_succeeds_prints_one_json_value(told, number):
    _, line, done = told[number]
    done.ok()
    if line.split()[0] in LINES:
        assert all(json.loads(text)["schema_version"] == 1 for text in done.out.splitlines())
        return
    value = one(done.out)
    if line.split()[0] in LISTS or line == "review":
        assert isinstance(value, list)
    else:
        assert value["schema_version"] == 1
        assert "error" not in value


def test_the_story_runs_every_command():
    ran = [line.split() for _, line in STORY]
    assert {leaf for leaf in LEAVES if not any(tuple(words[: len(leaf)]) == leaf for words in ran)} == ELSEWHERE
    failed = {tuple(line.split()[:2]) for _, line in FAILURES}
    assert [leaf for leaf in LEAVES if leaf[0] not in {words[0] for words in failed if words}] == []


@pytest.mark.parametrize(("code", "line"), FAILURES, ids=[line or "nothing" for _, line in FAILURES])
def test_a_command_that_fails_prints_one_json_value_or_one_sentence(told, shared_world, tmp_path, code, line):
    reports = {"NONSENSE": "{", "NESTED": "[" * 100_000, "ARGV": json.dumps({
        "wanted_id": "w-1", "outcome": "landed", "repo": "r", "base": HASH, "head": HASH, "patch_sha256": "0" * 64,
        "gates": [{"argv": 5, "exit": 0, "log_sha256": "0" * 64}],
    })}  # fmt: skip
    words = []
    for word in line.split(" ") if line else []:
        if word in reports:
            (tmp_path / word).write_text(reports[word])
            word = str(tmp_path / word)
        folders = {"HUB": shared_world.hub, "SERVED": shared_world.folder / "served"}
        words.append(str(folders.get(word, word)))
    poster = shared_world.users["poster"]
    done = run(poster, *words, "--json")
    assert done.code == code, done.out + done.err
    error = one(done.out)["error"]
    assert error["exit_code"] == code
    assert error["message"]
    assert {"code", "retryable"} <= error.keys() <= {"code", "message", "retryable", "exit_code", "hint", "about"}
    said = run(poster, *words)
    assert (said.code, said.out) == (code, "")
    sentences = [text for text in said.err.splitlines() if text.startswith("wl: ")]
    assert len(sentences) == 1, said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), *LEAVES], ids=" ".join)
def test_every_command_has_help(words):
    done = run(User("nobody", Path("/nonexistent")), *words, "--help")
    assert done.code == 0
    assert done.out.startswith("Usage: wl")
    if words in LEAVES:
        assert "--json" in done.out


# the reference


def exit_codes():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return {kind.__name__: kind.exit_code for kind in kinds if issubclass(kind, errors.WastelandError)}


def test_the_reference_names_every_command():
    text = REFERENCE.read_text()
    heads = [head.strip() for head in re.findall(r"(?m)^### `wl ([a-z -]+)", text)]
    assert sorted(heads) == sorted(" ".join(leaf) for leaf in LEAVES)


def test_the_reference_has_one_table_of_exit_codes():
    text = REFERENCE.read_text()
    rows = re.findall(r"(?m)^\| (\d+) \| ([^|]*)\|", text)
    codes = [int(code) for code, _ in rows]
    assert codes == sorted(set(codes))
    assert set(codes) == {0, 2, 3, 70, 130, *exit_codes().values()}
    named = {int(code): kinds for code, kinds in rows}
    for name, code in exit_codes().items():
        assert f"`{name}`" in named[code]


def test_the_reference_names_every_option():
    text = REFERENCE.read_text()
    for leaf in LEAVES:
        command = cli.wl
        for word in leaf:
            command = command.get_command(click.Context(cli.wl), word)
        section = re.split(rf"### `wl {' '.join(leaf)}\b", text)[1].split("\n### ")[0]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden and option.name not in ("as_json", "wasteland"):
                assert max(option.opts, key=len) in section, f"{leaf}: {option.opts}"
