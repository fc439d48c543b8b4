"""After a verdict: changes asked for, handed in again, rejected, withdrawn; each seen by who must act next."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.conftest import World
from tests.hubs import Hub
from tests.stories.test_token import killed
from wasteland.node.verdicts import APPROVE, CHANGES, REJECT, Verdict, heard, objections, with_objection


class Place:
    """A maintainer, a worker who has joined, and an item that the worker has handed in by pull request `pull`."""

    def __init__(self, folder):
        self.world = World(folder)
        self.ada = self.world.create("ada")
        self.bob = self.world.join("bob", by=self.ada)
        self.item = self.world.post(self.ada, "Something to do")
        self.bob.ok("claim", self.item)
        self.pull = str(self.bob.json("done", self.item, "--evidence", "https://example.com/first")["pull"]["number"])

    def completions(self, user, revision="main"):
        """The rows of a user's clone as `wl status` shows them."""
        return user.json("status", self.item).get("completion")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.world.stop()


def test_changes_are_asked_for_seen_answered_and_accepted(place):
    ada, bob, item = place.ada, place.bob, place.item
    ada.ok("review", place.pull)
    ada.ok("request-changes", place.pull, "-m", "the link does not open")
    for words in (("status", item), ("me",), ("sync",)):
        assert "ada asks for changes in pull request #" in bob.ok(*words)
        assert "the link does not open" in bob.ok(*words)
    assert bob.json("status", item)["said"]["kind"] == "request-changes"
    first = bob.json("me", "--next")["next"][0]
    assert (first["do"], first["command"]) == ("answer", f"wl done {item} --evidence EVIDENCE")

    old = place.completions(bob)
    again = bob.json("done", item, "--evidence", "https://example.com/better")
    assert str(again["pull"]["number"]) == place.pull  # the same pull request
    new = place.completions(bob)
    assert new["evidence"] == "https://example.com/better"
    assert new["id"] != old["id"]
    assert "said" not in bob.json("status", item)  # it was answered
    assert "asks for changes" not in bob.ok("me")

    seen = ada.ok("review", place.pull)
    assert "https://example.com/better" in seen
    ada.ok("merge", place.pull)
    ada.ok("accept", item, "--quality", "4")
    ada.ok("merge", str(ada.json("inbox")["pulls"][0]["number"]))
    bob.ok("sync")
    assert bob.wl("verify", "completion", new["id"]).code == 0
    assert bob.wl("verify", "completion", old["id"]).code == 4
    assert bob.json("verify", "--all")["counts"]["verified"] == 2


def test_the_second_completion_is_signed_as_the_successor_of_the_first(place):
    place.bob.ok("done", place.item, "--evidence", "https://example.com/better")
    from wasteland.local import config
    from wasteland.node.node import Node

    home = place.bob.home
    paths = config.Paths(home, home / ".config", home / ".local" / "share")
    node = Node(config.load(paths, "acme/commons"), paths)
    try:
        view = node.db.at(f"wl/bob/{place.item}")
        rows = view.rows("SELECT payload_sha256, payload FROM wl_attestations ORDER BY chain_seq")
    finally:
        node.close()
    said = [json.loads(row["payload"])["predicate"] for row in rows]
    assert "supersedes" not in said[0]
    assert said[1]["supersedes"] == rows[0]["payload_sha256"]
    assert [one["chain"]["seq"] for one in said] == [0, 1]


def test_a_merge_of_what_was_handed_in_twice_that_is_killed_is_done_again(place):
    """Its rows land without their history, so main holds none of the commits that were being merged."""
    place.bob.ok("done", place.item, "--evidence", "https://example.com/better")
    assert killed(place.ada, "pushing", "merge", place.pull)
    place.ada.ok("merge", place.pull)
    assert place.completions(place.ada)["evidence"] == "https://example.com/better"


def test_the_same_evidence_twice_is_refused(place):
    done = place.bob.wl("done", place.item, "--evidence", "https://example.com/first")
    assert done.code == 6
    assert "in_review with this evidence" in done.err


def test_only_the_claimer_hands_in_again(place):
    place.ada.ok("merge", place.pull)
    done = place.ada.wl("done", place.item, "--evidence", "https://example.com/mine")
    assert done.code == 6


def test_what_has_landed_in_review_is_handed_in_again_by_a_pull_request(place):
    place.ada.ok("merge", place.pull)
    again = place.bob.json("done", place.item, "--evidence", "https://example.com/better")
    number = str(again["pull"]["number"])
    assert number != place.pull
    place.ada.ok("merge", number)
    assert place.completions(place.ada)["evidence"] == "https://example.com/better"


def test_in_wild_west_mode_it_is_replaced_at_once(tmp_path):
    world = World(tmp_path)
    ada = world.create("ada", mode="wild-west")
    bob = world.user("bob")
    bob.ok("join", "acme/commons", "--direct", "--handle", "bob", "--remote-base", str(world.hub))
    bob.ok("config", "set", "mode", "wild-west")
    item = ada.json("post", "--title", "Something")["item"]["id"]
    bob.ok("claim", item)
    bob.ok("done", item, "--evidence", "https://example.com/first")
    bob.ok("done", item, "--evidence", "https://example.com/better")
    assert bob.wl("withdraw", item).code == 6
    ada.ok("sync")
    ada.ok("accept", item, "--quality", "3")
    assert ada.json("verify", "--all")["counts"] == {"verified": 2, "invalid": 0, "unsigned": 0, "undecided": 0}
    world.stop()


def test_a_rejection_is_told_and_never_offered_again_by_itself(place):
    ada, bob, item = place.ada, place.bob, place.item
    ada.ok("reject", place.pull, "--reason", "the link does not open")
    for words in (("status", item), ("me",), ("sync",)):
        assert f"ada rejected pull request #{place.pull}: the link does not open" in bob.ok(*words)
    bob.ok("doctor", "--fix")
    bob.ok("sync")
    assert bob.wl("renew", item).code == 6  # a verb that is refused offers what a killed one left: not this
    assert ada.json("inbox")["pulls"] == []
    again = bob.json("done", item, "--evidence", "https://example.com/better")
    assert str(again["pull"]["number"]) != place.pull
    assert "rejected" not in bob.ok("status", item)


def test_a_withdrawn_proposal_is_closed_and_the_work_is_kept(place):
    found = place.bob.json("withdraw", place.item)
    assert str(found["pull"]) == place.pull
    assert found["kept"].startswith(f"lost/bob/{place.item}-")
    assert place.ada.json("inbox")["pulls"] == []
    assert place.bob.json("status", place.item)["item"]["status"] == "open"
    gone = place.bob.wl("withdraw", place.item)
    assert gone.code == 4
    assert "proposes nothing" in gone.err
    place.bob.ok("claim", place.item)
    place.bob.ok("done", place.item, "--evidence", "https://example.com/other")


def test_the_text_of_a_pull_request_objects_and_never_approves():
    asked = Verdict(CHANGES, "bob/commons:wl/bob/w-1", "0" * 32, "ada", "2026-01-01T00:00:00Z", "a better link")
    body = with_objection("Does it.\n", asked, "ada-org")
    approved = with_objection(body, replace(asked, kind=APPROVE), "ada-org")
    rejected = with_objection(approved.replace("\n", "\r\n"), replace(asked, kind=REJECT), "eve")
    said = objections(rejected)
    assert [(one.author, one.text) for one in said] == [
        ("ada-org", asked.markdown()), ("eve", replace(asked, kind=REJECT).markdown()),
    ]  # fmt: skip
    assert [one.kind for one in heard("x", 1, said, frozenset({"ada-org"}))] == [CHANGES]
    assert objections("wl-verdict: reject " + "0" * 32) == []


def test_an_objection_ends_with_its_reviewers_approval_where_the_hub_cannot_tell_comments(tmp_path):
    hub, world = Hub.start(tmp_path / "served"), World(tmp_path)
    try:
        env = {"WL_HUB": hub.api, "WL_HUB_API": "v1alpha1"}
        acme, ada = (world.user(name, **env, WL_HUB_TOKEN=hub.add_user(name)) for name in ("acme", "ada"))
        acme.ok("create", "acme/commons")
        acme.ok("merge", str(ada.json("join", "acme/commons")["pull"]))
        made = ada.json("post", "--title", "Looked at twice")
        number, item = str(made["pull"]["number"]), made["item"]["id"]
        acme.ok("request-changes", number, "-m", "more words")
        assert f"asks for changes in pull request #{number}: more words" in ada.ok("status", item)
        acme.ok("approve", number)
        assert "asks for changes" not in ada.ok("status", item)
    finally:
        world.stop()
        hub.stop()
