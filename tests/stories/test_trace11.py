"""Golden trace 11, the Go program's local web API: the same operations as commands, with the right outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import User
from tests.stories.test_pr_mode import posted

USAGE, MISSING, REFUSED = 64, 4, 6


def refused(user: User, code: int, *words: str) -> str:
    """A command that must be refused, in one sentence and without the database's words; the sentence."""
    done = user.wl(*words)
    assert done.code == code, (words, done)
    assert len([line for line in done.err.splitlines() if line.startswith("wl: ")]) == 1, done.err
    assert "DOLT_COMMIT" not in done.err
    return done.err


def item_of(user: User, item: str) -> dict[str, Any]:
    found: dict[str, Any] = user.json("status", item)
    return found


def test_an_item_goes_from_post_to_stamp_and_what_is_wrong_is_refused(world):
    poster = world.create("poster", mode="wild-west")
    worker = world.join("worker", mode="wild-west", by=poster)
    item = poster.json("post", "--title", "Api item", "--type", "bug", "--tags", "go")["item"]["id"]
    worker.ok("sync")
    for words in ((), ("--status", "open", "--view", "upstream", "--long")):
        assert [(one["id"], one["status"]) for one in worker.json("browse", *words)] == [(item, "open")]
    card = item_of(worker, item)
    assert (card["item"]["tags"], card["actions"]) == (["go"], ["claim"])
    assert item_of(poster, item)["actions"] == ["update", "claim", "delete"]
    refused(poster, MISSING, "status", "w-nope")
    mine = worker.json("me")
    assert (mine["claimed"], mine["to_review"], mine["completed"]) == ([], [], [])
    assert worker.json("leaderboard")["rigs"] == []

    assert worker.json("claim", item)["item"]["claimed_by"] == "worker"
    assert "claimed by worker" in refused(worker, REFUSED, "claim", item)
    refused(worker, USAGE, "done", item, "--evidence", "")
    done = worker.json("done", item, "--evidence", "https://e/1")
    assert (done["item"]["status"], done["item"]["claimed_by"]) == ("in_review", "worker")
    poster.ok("sync")
    assert item_of(poster, item)["actions"] == ["accept", "reject", "close"]
    assert item_of(worker, item)["actions"] == ["done"]

    refused(poster, USAGE, "accept", item, "--quality", "99")
    refused(poster, USAGE, "accept", item, "--quality", "4", "--severity", "mega")
    assert item_of(poster, item)["item"]["status"] == "in_review"
    made = poster.json("accept", item, "--quality", "4", "--skills", "x")
    assert made["completion"]["validated_by"] == "poster"
    stamp = made["stamp"]
    assert (stamp["subject"], stamp["severity"], stamp["skill_tags"]) == ("worker", "leaf", ["x"])
    assert (stamp["valence"]["quality"], stamp["valence"]["reliability"]) == (4, 4)
    refused(poster, REFUSED, "update", item, "--priority", "0")
    (ranked,) = poster.json("leaderboard")["rigs"]
    assert (ranked["handle"], ranked["completions"], ranked["scores"]["quality"]) == ("worker", 1, 4)
    assert "creativity" not in ranked["scores"]


@pytest.mark.parametrize(
    "words",
    [
        ("--title", ""),
        ("--title", "No validation", "--type", "whatever"),
        ("--title", "No validation", "--priority", "77"),
        ("--title", "No validation", "--effort", "galactic"),
    ],
)
def test_what_the_board_does_not_take_is_not_posted(shared_world, words):
    poster = shared_world.users.get("poster") or shared_world.create("poster")
    before = poster.json("browse")
    refused(poster, USAGE, "post", *words)
    refused(poster, USAGE, "config", "set", "mode", "x")
    assert poster.json("browse") == before


def test_a_branch_is_reviewed_applied_and_discarded_and_main_is_not_a_branch_to_discard(shared_world):
    poster = shared_world.users.get("poster") or shared_world.create("poster")
    world = shared_world
    refused(poster, MISSING, "review", "wl/poster/x")
    made = poster.json("post", "--title", "PR api item", "--effort", "small")
    item, branch = made["item"]["id"], made["branch"]
    assert made["pull"]["number"]
    assert branch in [one.get("branch") for one in poster.json("browse")]
    card = item_of(poster, item)
    assert (card["branch"], card["main_status"], card["actions"]) == (branch, None, ["update", "claim", "delete"])
    assert "PR api item" in poster.ok("review", branch, "--md")
    assert poster.json("merge", branch)["pushed"]
    card = item_of(poster, item)
    assert "branch" not in card
    assert card["item"]["status"] == "open"
    assert poster.json("inbox")["pulls"] == []

    gone = poster.json("post", "--title", "discard me")
    assert poster.json("delete", gone["item"]["id"])["reverted"]
    assert gone["branch"] not in poster.ok("review")
    assert poster.json("inbox")["pulls"] == []
    refused(poster, MISSING, "status", gone["item"]["id"])
    refused(poster, MISSING, "delete", "main")
    assert posted(world, "main is still there")
