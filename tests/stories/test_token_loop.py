"""The whole loop by a token: join, claim, done, changes asked for, done again, accepted, verified; each step killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.conftest import User
from tests.hubs import GENERATIONS
from tests.stories import chaos
from tests.stories.test_token import Place, creds, killed, without_key
from wasteland.commons import signatures

FIRST, BETTER = "https://example.com/first", "https://example.com/better"
WORKER = ("join", "claim", "done", "again")
REVIEWER = ("request-changes", "merge", "accept", "merge-accept")
# The request was carried out and its answer is not used yet: the fork, a row, the pull request, a row, the verdict.
ANSWERS = {"join": "asked", "claim": "asked:4", "done": "asked:5", "again": "asked:2", "request-changes": "asked"}
ROWS = {"join": "sent", "claim": "sent", "done": "sent:3", "again": "pushed", "request-changes": "acknowledged"}
EVERYWHERE = (
    "locked", "begun", "signed", "committed", "durable", "asked", "asked:2", "asked:3", "asked:4", "asked:5", "asked:6",
    "branched", "pushing", "sent", "sent:2", "sent:3", "sent:4", "pushed", "beside", "arrived", "proved", "closed",
    "offering", "offered", "settled", "acknowledged",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("loop"))
    made.acme.ok("config", "set", "mode", "wild-west")
    yield made
    made.stop()


class Loop:
    """One worker with a token only and one item; `at` says where each step is killed before it is typed again."""

    def __init__(self, place: Place, name: str, api: str, at: dict[str, str]) -> None:
        self.place, self.at, self.met = place, at, set[str]()
        self.ada, self.acme = place.user(name, api), place.acme
        self.acme.env["WL_HUB_API"] = api
        self.item = str(self.acme.json("post", "--title", f"For {name}")["item"]["id"])

    def step(self, user: User, name: str, *words: str) -> None:
        """Kill the command, then type it again: it succeeds, or is refused because all of it has happened."""
        if name in self.at:
            if not killed(user, self.at[name], *words):
                return  # it does not pass there, and has succeeded
            self.met.add(name)
        again = user.wl(*words)
        assert again.code in ((0, 5, 6) if name in self.met else (0,)), (words, again)

    def pulls(self, verb: str) -> list[str]:
        """The open pull requests of a verb, as the reviewer's inbox has them."""
        found = self.acme.json("inbox")["pulls"]
        return [str(one["number"]) for one in found if verb in one["verbs"]]

    def hub(self, owner: str, path: str) -> Any:
        """What the hub says of a database, asked by its newer interface."""
        token = self.place.hub.tokens[self.ada.name]
        url = f"{self.place.hub.api}/api/v2/databases/{owner}/commons/{path}"
        return httpx2.get(url, headers={"authorization": f"Bearer {token}"}).raise_for_status().json()["data"]

    def go(self) -> None:
        """From no clone at all to a stamp that verifies."""
        ada, acme, item = self.ada, self.acme, self.item
        self.step(ada, "join", "join", "acme/commons")
        (registration,) = self.pulls("register")
        acme.ok("merge", registration)
        self.step(ada, "claim", "claim", item)
        self.step(ada, "done", "done", item, "--evidence", FIRST)
        (number,) = self.pulls("done")
        self.step(acme, "request-changes", "request-changes", number, "-m", "the link does not open")
        self.told(number)
        self.step(ada, "again", "done", item, "--evidence", BETTER)
        assert self.pulls("done") == [number]
        assert "said" not in ada.json("status", item)
        self.step(acme, "merge", "merge", number)
        self.step(acme, "accept", "accept", item, "--quality", "4")
        for stamp in self.pulls("accept"):
            self.step(acme, "merge-accept", "merge", stamp)
        self.audit(number)

    def told(self, number: str) -> None:
        """The worker learns who asked for what, wherever he looks, and what answers it."""
        words = f"acme asks for changes in pull request #{number}: the link does not open"
        for command in (("status", self.item), ("me",), ("sync",)):
            assert words in self.ada.ok(*command)
        first = self.ada.json("me", "--next")["next"][0]
        assert (first["do"], first["item"], first["pull"]) == ("answer", self.item, int(number))

    def audit(self, number: str) -> None:
        """Nothing twice, nothing lost, and no key was used."""
        ada, item = self.ada, self.item
        assert not creds(ada)
        ada.ok("sync")
        with chaos.node_of(ada) as node:
            main = node.db.at("main")
            chaos.whole(main, "upstream")
            chaos.clean(node)
            chaos.journal(node, signatures.digests(main, ada.name))
            assert not node.db.branches("wl/")
            assert not node.db.branches("lost/")
            row = main.row("SELECT * FROM wanted WHERE id = :id", id=item)
            (done,) = main.rows("SELECT * FROM completions WHERE wanted_id = :id", id=item)
            (stamp,) = main.rows("SELECT * FROM stamps WHERE id = :id", id=done["stamp_id"])
            signed = main.rows("SELECT * FROM wl_attestations WHERE signer = :me ORDER BY chain_seq", me=ada.name)
        assert row is not None
        assert (row["status"], row["claimed_by"], done["evidence"]) == ("completed", ada.name, BETTER)
        assert (stamp["author"], stamp["subject"]) == ("acme", ada.name)
        said = [json.loads(one["payload"])["predicate"] for one in signed]
        assert [one["chain"]["seq"] for one in said] == [0, 1]
        assert (said[0].get("supersedes"), said[1]["supersedes"]) == (None, signed[0]["payload_sha256"])
        for kind, id_ in (("completion", done["id"]), ("stamp", stamp["id"])):
            assert ada.wl("verify", kind, id_).code == 0
        own = [one for one in self.hub("acme", "pulls") if one["from_branch"]["branch_name"] == f"wl/{ada.name}/{item}"]
        assert [str(one["pull_number"]) for one in own] == [number]
        assert [one for one in self.hub("acme", "pulls") if one["state"] == "open"] == []
        assert [one for one in self.hub(ada.name, "pulls") if one["state"] == "open"] == []
        verdicts = [one["body"] for one in self.hub("acme", f"pulls/{number}/comments") if "wl-verdict" in one["body"]]
        assert len(verdicts) == 1


@pytest.mark.parametrize(("api", "at"), [("v2", ANSWERS), ("v1alpha1", ROWS)], ids=GENERATIONS)
def test_the_whole_loop_by_a_token_each_step_killed_once(place, api, at):
    loop = Loop(place, f"ada-{api}", api, at)
    loop.go()
    assert loop.met == set(at)


@pytest.mark.long
@pytest.mark.parametrize("at", EVERYWHERE)
@pytest.mark.parametrize("api", GENERATIONS)
def test_the_whole_loop_with_tokens_on_both_sides_killed_everywhere(place, api, at):
    place.acme.ok("config", "set", "mode", "pr" if at in EVERYWHERE[::2] else "wild-west")
    loop = Loop(place, f"ada-{api}-{at.replace(':', '-')}", api, dict.fromkeys(WORKER + REVIEWER, at))
    if loop.pulls("post"):
        loop.acme.ok("merge", *loop.pulls("post"))
    give_back = without_key(place.acme)
    try:
        loop.go()
    finally:
        give_back()
    assert loop.met
