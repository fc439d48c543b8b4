"""Each verb once by a token alone, on both sides: what upstream and the forks hold afterwards is what was meant."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import User
from tests.stories.test_token import Place, creds, killed, without_key
from wasteland.hub.dolthub import DolthubHub, discover

WANTED = "SELECT status, claimed_by, title FROM wanted WHERE id = '{}'"
EVIDENCE = ("--evidence", "https://example.com/1")


class Tokens(Place):
    """A maintainer and a worker, neither with a Dolt key, and an eye that asks the hub for rows."""

    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self.ada = self.user("ada")
        self.acme.ok("config", "set", "mode", "wild-west")
        without_key(self.acme)
        self.merge(self.ada.json("join", "acme/commons")["pull"])
        cache = folder / "cache"
        self.eye = DolthubHub(discover(self.hub.api, cache), self.hub.tokens["acme"], cache)

    def merge(self, number: int) -> None:
        self.acme.ok("merge", str(number))

    def posted(self, title: str) -> str:
        """An item that the maintainer puts on main at once, through the API."""
        return str(self.acme.json("post", "--title", title)["item"]["id"])

    def done(self, title: str) -> tuple[str, int]:
        """An item that the worker has handed in, and the pull request."""
        item = self.posted(title)
        self.ada.ok("claim", item)
        return item, int(self.ada.json("done", item, *EVIDENCE)["pull"]["number"])

    def item(self, item: str, owner: str = "acme", ref: str = "main") -> tuple[str, str | None, str]:
        """Status, claimer and title of an item as a branch on the hub has it."""
        (row,) = self.rows(WANTED.format(item), owner, ref)
        return row["status"], row["claimed_by"], row["title"]

    def rows(self, sql: str, owner: str = "acme", ref: str = "main") -> list[dict[str, Any]]:
        return self.eye.read(owner, "commons", ref, sql)

    def stop(self) -> None:
        assert not creds(self.ada)
        assert not creds(self.acme)
        self.eye.finish()
        super().stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    made = Tokens(tmp_path_factory.mktemp("tokens"))
    yield made
    made.stop()


@contextlib.contextmanager
def in_pr_mode(user: User) -> Iterator[None]:
    user.ok("config", "set", "mode", "pr")
    yield
    user.ok("config", "set", "mode", "wild-west")


def test_post_update_and_delete_one_after_the_other_on_one_branch(place):
    ada = place.ada
    made = ada.json("post", "--title", "By ada")
    item, branch = made["item"]["id"], made["branch"]
    assert place.item(item, "ada", branch) == ("open", None, "By ada")
    place.merge(made["pull"]["number"])
    changed = ada.json("update", item, "--title", "Better said")
    assert place.item(item, "ada", branch) == ("open", None, "Better said")
    place.merge(changed["pull"]["number"])
    assert place.item(item) == ("open", None, "Better said")
    gone = ada.json("delete", item)
    place.merge(gone["pull"]["number"])
    assert place.item(item) == ("withdrawn", None, "Better said")


def test_the_maintainer_updates_closes_and_deletes_on_main(place):
    item = place.posted("To be changed")
    place.acme.ok("update", item, "--title", "Changed")
    assert place.item(item) == ("open", None, "Changed")
    place.acme.ok("delete", item)
    assert place.item(item) == ("withdrawn", None, "Changed")
    item, number = place.done("To be closed")
    place.merge(number)
    place.acme.ok("close", item)
    assert place.item(item) == ("completed", "ada", "To be closed")
    assert place.rows(f"SELECT stamp_id FROM completions WHERE wanted_id = '{item}'") == [{"stamp_id": None}]


def test_a_completion_that_is_sent_back_is_handed_in_again(place):
    item, number = place.done("To be sent back")
    place.merge(number)
    with in_pr_mode(place.acme):
        back = place.acme.json("reject", item, "--reason", "too short")
        assert place.item(item, "acme", back["branch"]) == ("claimed", "ada", "To be sent back")
        place.merge(back["pull"]["number"])
    assert place.item(item) == ("claimed", "ada", "To be sent back")
    assert place.rows(f"SELECT id FROM completions WHERE wanted_id = '{item}'") == []
    again = place.ada.json("done", item, "--evidence", "https://example.com/longer")
    assert again["pull"]["number"] != number
    place.merge(again["pull"]["number"])
    assert place.rows(f"SELECT evidence FROM completions WHERE wanted_id = '{item}'") == [
        {"evidence": "https://example.com/longer"}
    ]
    assert place.ada.wl("verify", "completion", again["completion"]["id"]).code in (0, 4)
    place.ada.ok("sync")
    assert place.ada.wl("verify", "completion", again["completion"]["id"]).code == 0


def test_renewed_given_back_and_claimed_again(place):
    ada, item = place.ada, place.posted("On and off")
    claimed = ada.json("claim", item)
    place.merge(claimed["pull"]["number"])
    renewed = ada.json("renew", item)
    place.merge(renewed["pull"]["number"])
    back = ada.json("unclaim", item)
    assert place.item(item, "ada", back["branch"]) == ("open", None, "On and off")
    place.merge(back["pull"]["number"])
    assert place.item(item) == ("open", None, "On and off")
    assert place.rows(f"SELECT wanted_id FROM wl_leases WHERE wanted_id = '{item}'") == []
    place.acme.ok("update", item, "--title", "On, off and on")
    again = ada.json("claim", item)
    place.merge(again["pull"]["number"])
    assert place.item(item) == ("claimed", "ada", "On, off and on")


def test_the_poster_changes_an_item_whose_claim_waits(place):
    ada, item = place.ada, place.posted("Said so")
    claimed = ada.json("claim", item)
    place.acme.ok("update", item, "--title", "Said otherwise")
    assert killed(ada, "sent", "done", item, *EVIDENCE)  # while the branch gives way to what upstream has
    assert ada.wl("done", item, *EVIDENCE).code in (0, 6)
    assert place.item(item, "ada", claimed["branch"]) == ("in_review", "ada", "Said otherwise")
    place.merge(claimed["pull"]["number"])
    assert place.item(item) == ("in_review", "ada", "Said otherwise")


def test_a_claim_that_came_second_and_another_try(place):
    cyd, item = place.user("cyd"), place.posted("Wanted by two")
    place.merge(cyd.json("join", "acme/commons")["pull"])
    for user in (place.ada, cyd):
        user.ok("claim", item)
    place.merge(next(one["number"] for one in place.acme.json("inbox")["pulls"] if one["rig"] == "cyd"))
    assert "kept as lost/ada/" in place.ada.wl("sync").ok().err
    back = cyd.json("unclaim", item)
    place.merge(back["pull"]["number"])
    again = place.ada.json("claim", item)
    place.merge(again["pull"]["number"])
    assert place.item(item) == ("claimed", "ada", "Wanted by two")


def test_withdrawn_and_claimed_again(place):
    item, number = place.done("Taken back")
    found = place.ada.json("withdraw", item)
    assert found["pull"] == number
    assert place.eye.pull("acme", "commons", number).state == "closed"
    again = place.ada.json("claim", item)
    assert again["pull"]["number"] != number
    assert place.item(item, "ada", again["branch"]) == ("claimed", "ada", "Taken back")
    assert place.rows(f"SELECT id FROM completions WHERE wanted_id = '{item}'", "ada", again["branch"]) == []
    done = place.ada.json("done", item, *EVIDENCE)
    place.merge(done["pull"]["number"])
    place.ada.ok("sync")
    assert place.ada.wl("verify", "completion", done["completion"]["id"]).code == 0


def test_a_proposal_that_is_rejected_and_one_that_is_closed(place):
    item, number = place.done("Not like this")
    place.acme.ok("reject", str(number), "--reason", "no")
    assert place.eye.pull("acme", "commons", number).state == "closed"
    assert "acme rejected pull request" in place.ada.ok("status", item)
    again = place.ada.json("done", item, "--evidence", "https://example.com/2")
    assert again["pull"]["number"] != number
    place.ada.ok("close", str(again["pull"]["number"]))
    assert place.eye.pull("acme", "commons", again["pull"]["number"]).state == "closed"
    assert place.item(item) == ("open", None, "Not like this")


def test_approved_and_landed_by_the_queue(place):
    item, number = place.done("Approved")
    place.acme.ok("comment", str(number), "looks good")
    place.acme.ok("approve", str(number))
    said = [(one.author, one.text.splitlines()[0]) for one in place.eye.comments("acme", "commons", number)]
    assert said == [("acme", "looks good"), ("acme", "Approved by acme.")]
    place.acme.ok("queue")
    assert place.item(item) == ("in_review", "ada", "Approved")
    assert place.eye.pull("acme", "commons", number).state == "closed"


def test_a_role_is_given_and_its_holder_may_object(place):
    bob = place.user("bob")
    place.merge(bob.json("join", "acme/commons")["pull"])
    place.acme.ok("role", "add", "validator", "bob")
    (row,) = place.rows("SELECT payload FROM wl_roles ORDER BY version DESC LIMIT 1")
    assert [one["handle"] for one in json.loads(row["payload"])["predicate"]["roles"]["validator"]] == ["acme", "bob"]
    item, number = place.done("Looked at by bob")
    bob.ok("request-changes", str(number), "-m", "more of it")
    assert f"bob asks for changes in pull request #{number}: more of it" in place.ada.ok("status", item)


def test_a_company_of_its_own_needs_a_key(place):
    refused = place.ada.wl("fork", "acme/commons", "--as", "ada/board", "--handle", "ada")
    assert refused.code == 7
    assert "wl login" in refused.err
    assert not place.eye.exists("ada", "board")
    assert "ada/board" not in place.ada.ok("list")
