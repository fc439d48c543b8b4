"""What goes wrong between a rig and a hub over HTTP: one sentence, the right exit code, nothing half done."""

from __future__ import annotations

import http.server
import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Done, User, World
from tests.hubs import GENERATIONS, Hub, by_turns
from wasteland.dolt import binary
from wasteland.hub.rest.client import Wire
from wasteland.text import masked

WRONG = "wlh_wrong_wrong_wrong_wrong"


@dataclass
class Town:
    """A hub with a maintainer, `acme`, and two rigs, `ada` and `bob`."""

    hub: Hub
    world: World

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Change the hub's memory behind everybody's back."""
        with sqlite3.connect(self.hub.folder / ".hub" / "hub.sqlite", timeout=30) as db:
            found = db.execute(statement, values).fetchall()
        db.close()
        return found

    def user(self, name: str, **env: str) -> User:
        """A rig with another environment; an empty value takes a variable away."""
        kept = self.world.users[name]
        return User(name, kept.home, {k: v for k, v in (kept.env | env).items() if v})

    def post(self, title: str) -> str:
        """A new item on the board that `ada` and `bob` have, too."""
        return str(self.user("acme").json("post", "--title", title)["item"]["id"])

    def refused(self, done: Done, code: int, *parts: str) -> None:
        """One sentence, the exit code, the words, no token and no traceback."""
        assert done.code == code, done.out + done.err
        said = [line for line in done.err.splitlines() if line.startswith("wl: ")]
        assert len(said) == 1, done.err
        assert "Traceback" not in done.err
        assert "internal error" not in done.err
        for part in parts:
            assert part in done.err
        for token in (*self.hub.tokens.values(), WRONG):
            assert token not in done.out + done.err

    def heads(self, rig: str) -> str:
        """The rig's branches here and on its fork, and what its journal holds as signed and not void."""
        code = (
            "n.db.fetch('origin'); print(sorted(n.db.branches('wl/')), sorted(n.db.remote_branches('origin')), "
            "len(n.journal.unpublished(n.config.node['wasteland_id'])))"
        )
        return self.user(rig).python(code)


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    hub, world = Hub.start(folder / "hubdir"), World(folder)
    try:
        for name in ("acme", "ada", "bob"):
            token = hub.add_user(name)
            user = world.user(name, WL_HUB=hub.api, WL_HUB_TOKEN=token)
            user.ok("create" if name == "acme" else "join", "acme/commons")
        acme = world.users["acme"]
        acme.ok("merge", "1")
        acme.ok("merge", "2")
        acme.ok("config", "set", "mode", "wild-west")
        for name in ("ada", "bob"):
            world.users[name].ok("sync")
        yield Town(hub, world)
    finally:
        world.stop()
        hub.stop()


@pytest.fixture(autouse=True)
def _mended(request) -> Iterator[None]:
    """What a test has switched on at the shared hub is off again."""
    yield
    if "town" in request.fixturenames:
        town = request.getfixturevalue("town")
        town.hub.faults()
        town.sql("UPDATE repositories SET ready = 1, private = 0")


BAD = ("wrong", "expired", "revoked", "read-only", "none", "of another host")


@pytest.mark.parametrize(("kind", "version"), by_turns(BAD))
def test_a_claim_with_a_bad_token_leaves_nothing_behind_and_works_with_a_good_one(town, kind, version):
    item = town.post(f"Claimed with a token that is {kind}")
    before = town.heads("ada")
    token = {"wrong": WRONG, "none": ""}.get(kind) if kind in ("wrong", "none") else None
    env: dict[str, str] = {"WL_HUB_API": version}
    if kind in ("expired", "revoked", "read-only"):
        options = {"expired": ["--days", "1"], "read-only": ["--read-only"]}.get(kind, [])
        made = town.hub.wl("token", "add", "ada", *options)
        token = made["token"]
        town.hub.tokens[kind] = token
        if kind == "expired":
            town.sql("UPDATE tokens SET expires = '2020-01-01T00:00:00Z' WHERE id = ?", made["id"])
        if kind == "revoked":
            town.hub.wl("token", "revoke", str(made["id"]))
    env |= {"WL_HUB": "http://127.0.0.1:1"} if kind == "of another host" else {"WL_HUB_TOKEN": token or ""}
    said = {"read-only": "may not do this", "none": "no token", "of another host": "no token"}.get(kind, "not accept")
    for _ in range(2):
        town.refused(town.user("ada", **env).wl("claim", item), 7, said, "wl login --hub")
    assert town.heads("ada") == before
    as_json = town.user("ada", **env).wl("claim", item, "--json")
    assert json.loads(as_json.out)["error"]["code"] == "Unauthenticated"
    assert json.loads(as_json.out)["error"]["exit_code"] == as_json.code == 7
    assert town.user("ada").json("claim", item)["pull"]["number"]


@pytest.mark.parametrize("version", GENERATIONS)
def test_a_bad_token_neither_joins_nor_creates_nor_comments_nor_merges(town, version):
    number = town.user("ada").json("claim", town.post("Waits"))["pull"]["number"]
    read_only = town.hub.wl("token", "add", "acme", "--read-only")["token"]
    town.hub.tokens["read-only acme"] = read_only
    main = town.user("acme").python("print(n.db.hash_of('main'))")
    stranger = town.world.user(f"stranger-{version}", WL_HUB=town.hub.api, WL_HUB_API=version)
    for token, said in ((WRONG, "does not accept the token"), (read_only, "may not do this")):
        stranger.env["WL_HUB_TOKEN"] = token
        for words in (["create", "acme/second"], ["join", "acme/commons", "--fork-org", "acme", "--handle", "x"]):
            town.refused(stranger.wl(*words), 7, said)
        assert stranger.json("list") == []
        assert not list((stranger.home / ".local/share/wasteland/acme").glob("[!.]*"))
        acme = town.user("acme", WL_HUB_TOKEN=token, WL_HUB_API=version)
        town.refused(acme.wl("comment", str(number), "hello"), 7, said)
    town.refused(town.user("acme", WL_HUB_TOKEN=WRONG).wl("merge", str(number)), 7, "does not accept")
    assert town.user("acme").python("print(n.db.hash_of('main'))") == main


def test_work_on_a_branch_that_is_offered_goes_on_with_a_bad_token_and_says_so(town):
    item = town.post("Done with a bad token")
    number = town.user("ada").json("claim", item)["pull"]["number"]
    done = town.user("ada", WL_HUB_TOKEN=WRONG).wl("done", item, "--evidence", "https://example.com/x").ok()
    assert "was not refreshed" in done.err
    assert "wl login" in done.err
    found = {one["number"]: one for one in town.user("acme").json("inbox")["pulls"]}
    assert found[number]["verbs"] == ["claim", "done"]


def test_a_fork_that_was_deleted_is_named_and_doctor_makes_it_again(town):
    bob, acme = town.user("bob"), town.user("acme")
    held, item = town.post("Held when the fork went"), town.post("Wanted when the fork was gone")
    number = bob.json("claim", held)["pull"]["number"]
    before = bob.python("print(n.db.branches('wl/'))")
    town.sql("UPDATE repositories SET ready = 0 WHERE owner = 'bob'")
    town.refused(bob.wl("claim", item), 4, "there is no database at", "wl doctor")
    assert bob.python("print(n.db.branches('wl/'))") == before
    bob.ok("sync")
    assert held in bob.ok("browse")
    for words in (["review", str(number)], ["merge", str(number)], ["approve", str(number)]):
        town.refused(acme.wl(*words), 4, "there is no fork bob/commons")
    assert {one["pull"]: one["state"] for one in acme.json("queue")["pulls"]}[number] == "gone"
    checks = {one["what"]: one for one in bob.json("doctor")["checks"]}
    assert (checks["fork"]["state"], "--fix" in checks["fork"]["hint"]) == ("failure", True)
    town.sql("UPDATE repositories SET ready = 1, name = ? WHERE owner = 'bob' AND NOT ready", f"deleted-{number}")
    fixed = {one["what"]: one for one in bob.json("doctor", "--fix")["checks"]}
    assert fixed["fork"]["state"] == "ok", fixed["fork"]
    assert {one["what"]: one["state"] for one in bob.json("doctor")["checks"]}["fork"] == "ok"
    bob.ok("claim", item)


@pytest.mark.parametrize("change", ["private = 1", "ready = 0"], ids=["private", "deleted"])
def test_an_upstream_that_is_gone_is_said_and_the_board_shows_what_was(town, change):
    item = town.post(f"Upstream with {change}")
    ada, acme = town.user("ada"), town.user("acme")
    ada.ok("sync")
    before = town.heads("ada")
    town.sql(f"UPDATE repositories SET {change} WHERE owner = 'acme'")
    for words in (["sync"], ["claim", item], ["post", "--title", "No"], ["inbox"], ["review", "1"]):
        town.refused(ada.wl(*words), 4, "wl doctor says what is missing")
    shown = ada.wl("browse").ok()
    assert item in shown.out
    assert "as of the last sync" in shown.err
    checks = {one["what"]: one for one in ada.json("doctor")["checks"]}
    assert checks["upstream"]["state"] == "failure"
    assert "ask its owner" in checks["upstream"]["hint"]
    if change == "ready = 0":
        town.refused(acme.wl("post", "--title", "No"), 4, "there is no database at")
    town.sql("UPDATE repositories SET ready = 1, private = 0 WHERE owner = 'acme'")
    assert town.heads("ada") == before
    ada.ok("sync")


def test_a_branch_that_is_deleted_between_review_and_merge_lands_nothing(town):
    ada, acme = town.user("ada"), town.user("acme")
    reviewed, approved = (town.post(f"Deleted after {what}") for what in ("review", "approval"))
    first, second = (ada.json("claim", item)["pull"]["number"] for item in (reviewed, approved))
    acme.ok("review", str(first))
    acme.ok("approve", str(second))
    for item in (reviewed, approved):
        ada.python(f"n.db.push('origin', ':wl/ada/{item}')")
    town.refused(acme.wl("merge", str(first)), 4, "is gone", "wl close")
    queued = {one["pull"]: one["state"] for one in acme.json("queue")["pulls"]}
    assert (queued[first], queued[second]) == ("gone", "gone")
    ada.ok("done", reviewed, "--evidence", "pushes it again")
    town.refused(acme.wl("merge", str(first)), 5, "now, not at", "wl review")
    acme.ok("review", str(first))
    assert acme.json("merge", str(first))["pushed"]


def test_a_fork_of_another_network_gets_no_claim(town):
    item = town.post("Not for strangers")
    bob = town.user("bob")
    town.sql("UPDATE repositories SET name = 'aside' WHERE owner = 'bob' AND name = 'commons'")
    try:
        stranger = town.world.user("bob-again", **bob.env)
        stranger.ok("create", "bob/commons")
        done = bob.wl("claim", item)
        town.refused(done, 5, "no history in common")
        branches = "n.db.fetch('origin'); print(n.db.branches(), n.db.remote_branches('origin'))"
        assert f"wl/bob/{item}" not in bob.python(branches)
        checks = {one["what"]: one for one in bob.json("doctor")["checks"]}
        assert "no fork of acme/commons" in checks["fork"]["detail"]
        newcomer = town.world.user("bob-third", **bob.env)
        town.refused(newcomer.wl("join", "acme/commons"), 5, "is not a fork of")
    finally:
        town.sql("UPDATE repositories SET name = 'other' WHERE owner = 'bob' AND name = 'commons'")
        town.sql("UPDATE repositories SET name = 'commons' WHERE owner = 'bob' AND name = 'aside'")
    assert bob.json("claim", item)["pull"]["number"]


def test_a_dolt_key_that_the_hub_does_not_know_is_named_and_doctor_registers_it(town):
    ada, item = town.user("ada"), town.post("Pushed with a strange key")
    town.sql("DELETE FROM keys WHERE user = 'ada'")
    town.refused(ada.wl("claim", item), 7, "the key is not registered", "wl doctor")
    checks = {one["what"]: one for one in ada.json("doctor")["checks"]}
    assert (checks["Dolt key"]["state"], "--fix" in checks["Dolt key"]["hint"]) == ("failure", True)
    assert {one["what"]: one for one in ada.json("doctor", "--fix")["checks"]}["upstream"]["state"] == "ok"
    ada.ok("claim", item)


def test_a_fork_for_an_organisation_that_is_not_ours_is_refused(town):
    token = town.hub.add_user("newcomer")
    newcomer = town.world.user("newcomer", WL_HUB=town.hub.api, WL_HUB_TOKEN=token, DOLTHUB_ORG="nobody")
    done = newcomer.wl("join", "acme/commons")
    town.refused(done, 6, "does not administer nobody", "must be a member of nobody")
    newcomer.env["DOLTHUB_ORG"] = "ada"
    town.refused(newcomer.wl("join", "acme/commons", "--handle", "newcomer"), 7, "no write permission", "ada")
    assert newcomer.json("list") == []


def test_a_hub_that_asks_for_fewer_requests_for_ever_is_given_up(town):
    item, ada = town.post("Too many requests"), town.user("ada")
    town.hub.faults(rate_limit=1)
    town.refused(ada.wl("inbox"), 8, "it asks for fewer requests", "try again later")
    checks = {one["what"]: one for one in ada.json("doctor")["checks"]}
    assert checks["hub"]["state"] == "failure"
    town.hub.faults()
    ada.ok("claim", item)


def test_a_token_in_an_address_is_refused_and_shown_nowhere(town):
    ada = town.user("ada")
    bad = town.hub.api.replace("://", f"://u:{town.hub.tokens['ada']}@")
    for words in (["join", "acme/x", "--hub", bad], ["create", "ada/x", "--hub", bad], ["config", "set", "hub", bad],
                  ["doctor", "--probe", "--hub", bad], ["login", "--hub", bad],
                  ["join", "acme/x", "--fork-org", "ada", "--remote-base", bad]):  # fmt: skip
        town.refused(ada.wl(*words), 64)
    town.refused(town.user("ada", WL_HUB=bad).wl("join", "acme/x"), 64)
    assert masked(f"at {bad}/a/b: no") == f"at {town.hub.api.replace('://', '://…@')}/a/b: no"
    url = "http://127.0.0.1:1/acme/commons".replace("://", f"://u:{WRONG}@")
    home = binary.dolt_home(ada.home / ".local/share")
    clone = ada.clone()
    ada.stop()
    before = (clone / ".dolt" / "repo_state.json").read_text()
    try:
        env = binary.environment(home)
        for words in (["remote", "remove", "upstream"], ["remote", "add", "upstream", url]):
            subprocess.run([str(binary.find()), *words], cwd=clone, env=env, check=True, capture_output=True)
        town.refused(ada.wl("sync"), 8)
        told = ada.wl("doctor").ok()
        assert WRONG not in told.out + told.err
        assert "a user or password in it" in told.out
        assert "the configuration says" in told.out
    finally:
        ada.stop()
        (clone / ".dolt" / "repo_state.json").write_text(before)


class Strange(http.server.BaseHTTPRequestHandler):
    """A web server that is no hub, in the way that `kind` says."""

    kind = "html"
    seen: list[str | None] = []  # noqa: RUF012  (one server at a time)

    def do_GET(self) -> None:
        type(self).seen.append(self.headers.get("authorization"))
        body, status, place = b"<html>hello</html>", 200, ""
        if self.kind == "missing":
            body, status = b"nothing here", 404
        elif self.kind == "redirect":
            body, status, place = b"", 307, "http://localhost:1/"
        elif self.kind == "list":
            body = b"[1, 2]"
        elif self.kind == "deep":
            body = b"[" * 100_000
        size = 1 << 30 if self.kind == "huge" else len(body)
        self.send_response(status)
        self.send_header("content-length", str(size))
        if place:
            self.send_header("location", place)
        self.end_headers()
        try:
            for _ in range(1 << 10 if self.kind == "huge" else 1):
                self.wfile.write(b"x" * (1 << 20) if self.kind == "huge" else body)
        except OSError:
            return

    do_POST = do_PATCH = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def strange() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Strange.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("html", 4, "there is no hub at"), ("missing", 4, "there is no hub at"), ("list", 4, "there is no hub at"),
        ("deep", 4, "there is no hub at"), ("redirect", 8, "another place"), ("huge", 8, "sends more than"),
    ],
)  # fmt: skip
def test_what_is_no_hub_is_not_taken_for_one_and_gets_no_token(world, strange, kind, code, said):
    Strange.kind = kind
    user = world.user("ada", WL_HUB=strange, WL_HUB_TOKEN=WRONG)
    for words in (["join", "acme/commons"], ["create", "ada/x"]):
        done = user.wl(*words)
        assert (done.code, said in done.err, WRONG in done.err) == (code, True, False), done.err
        assert "Traceback" not in done.err
    assert set(Strange.seen) == {None}
    assert user.json("list") == []
    assert not [path for path in (user.home / ".local").rglob(".dolt") if "dolt-home" not in str(path)]


def test_a_hub_that_is_down_is_said_and_nothing_is_left_behind(tmp_path):
    hub, world = Hub.start(tmp_path / "hubdir"), World(tmp_path)
    try:
        ada = world.user("ada", WL_HUB=hub.api, WL_HUB_TOKEN=hub.add_user("ada"))
        acme = world.user("acme", WL_HUB=hub.api, WL_HUB_TOKEN=hub.add_user("acme"))
        acme.ok("create", "acme/commons")
        ada.ok("join", "acme/commons")
        acme.ok("merge", "1")
        acme.ok("config", "set", "mode", "wild-west")
        item = acme.json("post", "--title", "Claimed offline")["item"]["id"]
        ada.ok("sync")
        signed = "len(n.journal.unpublished(n.config.node['wasteland_id']))"
        state = f"print(n.db.branches(), {signed})"
        before = ada.python(state)
        hub.kill()
        for words in (["claim", item], ["sync"], ["post", "--title", "x"], ["inbox"]):
            done = ada.wl(*words)
            assert (done.code, done.err.count("wl: "), "Hint:" in done.err) == (8, 1, True), done.err
        shown = ada.wl("browse").ok()
        assert item in shown.out
        assert "as of the last sync" in shown.err
        assert ada.python(state) == before
        told = ada.wl("doctor", "--check", "--json")
        assert told.code == 1
        checks = {one["what"]: one["state"] for one in json.loads(told.out)["checks"]}
        assert (checks["hub"], checks["upstream"]) == ("failure", "failure")
        newcomer = world.user("new", WL_HUB=hub.api, WL_HUB_TOKEN=WRONG)
        assert newcomer.wl("join", "acme/commons").code == 8
    finally:
        world.stop()
        hub.stop()


def test_a_hub_whose_clock_differs_is_told_by_its_answers():
    import httpx2

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={}, headers={"date": "Sat, 21 Nov 2020 07:00:00 GMT"})

    wire = Wire("http://hub.example", None, transport=httpx2.MockTransport(answer))
    assert wire.away is None
    wire.request("GET", "x")
    assert wire.away is not None
    assert wire.away > 86400
    wire.close()


def test_doctor_names_what_is_well_and_counts_its_requests(town):
    ada = town.user("ada")
    synced = ada.wl("sync").ok()
    checks = {one["what"]: one for one in ada.json("doctor")["checks"]}
    for what in ("hub", "token", "Dolt key", "upstream", "remotes", "fork", "registration", "schema", "leases"):
        assert checks[what]["state"] == "ok", (checks[what], synced.err)
    assert "WL_HUB_TOKEN" in checks["token"]["detail"]
    assert "may write" in checks["token"]["detail"]
    told = ada.wl("doctor", "--json").ok().out
    assert town.hub.tokens["ada"] not in told
    again = {one["what"]: one for one in ada.json("doctor")["checks"]}
    assert int(again["requests"]["detail"].split()[3]) <= 7


def test_doctor_says_which_token_is_bad_and_that_it_may_not_write(town):
    read_only = town.hub.wl("token", "add", "ada", "--read-only")["token"]
    for token, said in ((WRONG, "does not accept"), (read_only, "may not write"), ("", "there is none")):
        done = town.user("ada", WL_HUB_TOKEN=token).wl("doctor", "--check", "--json")
        assert done.code == 1
        found = next(one for one in json.loads(done.out)["checks"] if one["what"] == "token")
        assert (found["state"], said in found["detail"]) == ("failure", True), found
        assert not token or token not in done.out + done.err


def test_doctor_finds_what_landed_and_is_still_open_and_the_queue_closes_it(town):
    item = town.post("Landed behind the hub's back")
    number = town.user("ada").json("claim", item)["pull"]["number"]
    acme = town.user("acme")
    acme.ok("merge", str(number))
    town.sql("UPDATE pulls SET state = 'open', closed = NULL WHERE number = ?", number)
    found = next(one for one in town.user("bob").json("doctor")["checks"] if one["what"] == "pull requests")
    assert found["state"] == "warning"
    assert f"#{number}" in found["detail"]


def test_an_open_port_that_says_nothing_of_http_is_no_hub(world):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    free = server.getsockname()[1]
    server.close()
    done = world.user("ada", WL_HUB=f"http://127.0.0.1:{free}", WL_HUB_TOKEN=WRONG).wl("join", "acme/commons")
    assert (done.code, "does not answer" in done.err) == (8, True), done.err
    assert not Path(world.folder / "ada/.config/wasteland/wastelands").exists()
