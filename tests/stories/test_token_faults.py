"""A hub whose write API fails under a rig with a token only: nothing twice, nothing lost, no success that is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import User, long
from tests.stories.test_token import without_key
from tests.stories.test_token_verbs import EVIDENCE, Tokens

FAILING = ({"error_before": 5}, {"error_after": 2}, {"drop_after": 3})
TRIES = 4
LOST = (5, 6, 8)  # what a lost answer may end in, before the next try finds what came of it


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    made = Tokens(tmp_path_factory.mktemp("faults"))
    yield made
    made.stop()


@contextlib.contextmanager
def faults(place: Tokens, **switches: Any) -> Iterator[None]:
    place.hub.faults(no_keys=True, **switches)
    yield
    place.hub.faults(no_keys=True)


def until_done(user: User, *words: str) -> int:
    """Type a command until it succeeds or is refused as done; how often that took."""
    for tried in range(1, TRIES + 1):
        ended = user.wl(*words)
        if ended.code == 0 or (ended.code == 6 and tried > 1):
            return tried
        assert ended.code in LOST, ended
        assert "Traceback" not in ended.err
    raise AssertionError(ended)


@pytest.mark.parametrize("switches", [{"rate_limit": 3}, *long(*FAILING)], ids=str)
def test_claimed_and_handed_in_on_a_hub_that_fails(place, switches):
    item = place.posted(f"With {switches}")
    with faults(place, **switches):
        until_done(place.ada, "claim", item)
        until_done(place.ada, "done", item, *EVIDENCE)
    mine = [one for one in place.acme.json("inbox")["pulls"] if one["rig"] == "ada" and item in one["source"]]
    assert [one["verbs"] for one in mine] == [["claim", "done"]]
    assert place.item(item, "ada", f"wl/ada/{item}") == ("in_review", "ada", f"With {switches}")
    place.merge(mine[0]["number"])
    assert len(place.rows(f"SELECT id FROM completions WHERE wanted_id = '{item}'")) == 1


@pytest.mark.parametrize("switches", [{"lost_poll": "never"}, *long(*FAILING)], ids=str)
def test_landed_and_accepted_on_a_hub_that_fails(place, switches):
    item, number = place.done(f"Landed with {switches}")
    with faults(place, **switches):
        until_done(place.acme, "merge", str(number))
        until_done(place.acme, "accept", item, "--quality", "4")
    assert place.item(item) == ("completed", "ada", f"Landed with {switches}")
    sql = f"SELECT id FROM stamps WHERE id IN (SELECT stamp_id FROM completions WHERE wanted_id = '{item}')"
    assert len(place.rows(sql)) == 1
    assert place.eye.pull("acme", "commons", number).state != "open"
    place.ada.ok("sync")
    assert place.ada.json("verify", "--all")["counts"]["invalid"] == 0


def test_operations_that_never_end_by_their_own_word(place):
    item = place.posted("Never done")
    with faults(place, lost_poll="never"):
        until_done(place.ada, "claim", item)
    assert place.item(item, "ada", f"wl/ada/{item}") == ("claimed", "ada", "Never done")


def test_a_rig_that_gains_a_key_goes_on_and_may_lose_it_again(place):
    ada, item = place.ada, place.posted("With a key later")
    claimed = ada.json("claim", item)
    assert "token" in ada.wl("doctor").out
    place.hub.faults()
    ada.wl("login", "--hub", place.hub.api, stdin=place.hub.tokens["ada"] + "\n").ok()
    done = ada.json("done", item, *EVIDENCE)
    assert done["pull"] == claimed["pull"]
    assert place.item(item, "ada", done["branch"]) == ("in_review", "ada", "With a key later")
    without_key(ada)
    place.hub.faults(no_keys=True)
    again = ada.json("done", item, "--evidence", "https://example.com/2")
    assert again["pull"] == claimed["pull"]
    place.merge(again["pull"]["number"])
    place.ada.ok("sync")
    assert ada.wl("verify", "completion", again["completion"]["id"]).code == 0
