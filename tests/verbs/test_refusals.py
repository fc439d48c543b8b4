"""What is refused is refused by what upstream holds now, with what would help; what no rule allows is not promised."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.conftest import User, World
from wasteland.local.config import Paths
from wasteland.node.node import open_node


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    ada = shared_world.create("ada")
    shared_world.join("bob", by=ada)
    shared_world.join("eve", by=ada)
    ada.ok("sync")
    return shared_world


def places(user: User) -> Paths:
    return Paths(user.home, user.home / ".config", user.home / ".local" / "share")


def landed(ada: User, *words: str) -> str:
    """Do a verb of ada's and land it; the item's id."""
    made = ada.json(*words)
    ada.ok("merge", str(made["pull"]["number"]))
    return str(made["item"]["id"])


def by_hand(user: User, sql: str) -> None:
    """Rows on upstream's main that none of our verbs would write."""
    node = open_node("acme/commons", places(user))
    try:
        with node.db.locked(), node.db.change("by hand"):
            node.db.run(sql)
        node.db.push("origin", "main")
    finally:
        node.close()


def test_status_finds_what_was_posted_since_the_last_sync(town):
    item = landed(town.users["ada"], "post", "--title", "New")
    assert town.users["bob"].json("status", item)["item"]["title"] == "New"


def test_what_an_open_pull_request_posts_is_named(town):
    made = town.users["ada"].json("post", "--title", "Waits")
    done = town.users["bob"].wl("status", made["item"]["id"])
    assert done.code == 4
    assert f"#{made['pull']['number']} proposes post: wl review {made['pull']['number']}" in done.err


def test_a_refusal_names_the_pull_request_that_would_change_it(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Judge me")
    claimed = bob.json("claim", item)
    bob.ok("done", item, "--evidence", "words")
    done = ada.wl("accept", item, "--quality", "4")
    number = claimed["pull"]["number"]
    assert done.code == 6
    assert f"#{number} proposes claim, done: wl review {number}" in done.err
    ada.ok("merge", str(number))
    out = ada.ok("accept", item, "--quality", "4")
    assert "proposed" in out
    assert "issued" not in out
    card = ada.ok("status", item)
    assert "in_review" in card
    assert "accept; counts when it has landed" in card


@pytest.mark.parametrize("bad", ["W-UPPER", "w-under_score", "x-1", "w-", "W-1 2"])
def test_an_id_that_no_review_lets_through_is_not_claimed(town, bad):
    ada, bob = town.users["ada"], town.users["bob"]
    ada.ok("sync")
    by_hand(ada, f"INSERT INTO wanted (id, title, status, posted_by) VALUES ('{bad}', 'By hand', 'open', 'ada')")
    done = bob.wl("claim", bad)
    assert done.code == 6
    assert "WANT-STEP" in done.err
    assert "✓" not in done.out
    assert not json.loads(bob.ok("browse", "--json", "--view", "mine"))


@pytest.mark.parametrize("twin", ["BOB", "b-o-b", "b_ob"])
def test_a_handle_that_folds_onto_anothers_is_not_registered(town, twin):
    user = town.user(f"twin-{twin.lower()}")
    done = user.wl("join", "acme/commons", "--remote-base", str(town.hub), "--fork-org", user.name, "--handle", twin)
    assert done.code == 6
    assert "can be taken for bob" in done.err
    assert "RIG-ADD" in done.err
    assert "✓" not in done.out
    assert user.json("list") == []


def test_renewing_in_the_second_of_the_claim_is_no_error(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Hold")
    node = open_node("acme/commons", places(bob))
    now = node.clock()
    node.clock = lambda: now
    from wasteland.market import board

    try:
        claimed = board.claim(node, item)
        renewed = board.renew(node, item)
    finally:
        node.close()
    assert (renewed.lease, renewed.pull.number) == (claimed.lease, claimed.pull.number)


@pytest.mark.parametrize("tie", ["dolthub_org = 'ada-org'", "parent_rig = 'ada'"])
def test_who_is_near_the_worker_does_not_accept(town, tie):
    ada, eve = town.users["ada"], town.users["eve"]
    item = landed(ada, "post", "--title", "Near")
    claimed = eve.json("claim", item)
    eve.ok("done", item, "--evidence", "words")
    ada.ok("merge", str(claimed["pull"]["number"]))
    before = {"dolthub_org": "eve-org", "parent_rig": None}
    column = tie.partition(" ")[0]
    if column == "dolthub_org":
        by_hand(ada, "UPDATE rigs SET dolthub_org = 'ada-org' WHERE handle IN ('ada', 'eve')")
    else:
        by_hand(ada, "UPDATE rigs SET parent_rig = 'ada' WHERE handle = 'eve'")
    try:
        done = ada.wl("accept", item, "--quality", "5")
        assert done.code == 6
        assert "nobody judges their own work" in done.err
    finally:
        back = "NULL" if before[column] is None else "CASE handle WHEN 'ada' THEN 'acme' ELSE 'eve-org' END"
        by_hand(ada, f"UPDATE rigs SET {column} = {back} WHERE handle IN ('ada', 'eve')")


def test_in_wild_west_mode_a_refusal_looks_at_upstream_first(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Wild")
    bob.ok("sync")
    ada.ok("update", item, "--title", "Wilder", "--no-push")
    for user in (ada, bob):
        user.ok("config", "set", "mode", "wild-west")
    try:
        other = ada.json("post", "--title", "Wild too")["item"]["id"]
        ada.ok("claim", other)
        assert bob.wl("claim", other).code == 6
        ada.ok("unclaim", other)
        assert bob.json("claim", other)["item"]["claimed_by"] == "bob"
    finally:
        for user in (ada, bob):
            user.ok("config", "set", "mode", "pr")


@pytest.mark.parametrize("mode", ["pr", "wild-west"])
def test_offline_a_refusal_says_by_which_state_it_was_judged(town, mode):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", f"Gone {mode}")
    bob.ok("sync")
    ada.json("status", item)
    bob.ok("config", "set", "mode", mode)
    away = town.folder / "away"
    shutil.move(town.hub, away)
    try:
        for words in (["delete", item], ["done", item, "--evidence", "x"], ["status", "w-nothing"]):
            done = bob.wl(*words)
            assert done.code in (4, 6), done
            assert "judged by the state of 2" in done.err
            assert "UTC" in done.err
    finally:
        shutil.move(away, town.hub)
        bob.ok("config", "set", "mode", "pr")


def test_the_next_steps_are_told_in_order_and_waited_for(town):
    ada, bob = town.users["ada"], town.users["bob"]
    mine, free = landed(ada, "post", "--title", "Do me"), landed(ada, "post", "--title", "Take me")
    number = str(bob.json("claim", mine, "--for", "2h")["pull"]["number"])
    told = [(one["do"], one["item"], one["command"]) for one in bob.json("me", "--next")["next"]]
    renew, hand_in = ("renew", mine, f"wl renew {mine}"), ("hand-in", mine, f"wl done {mine} --evidence EVIDENCE")
    assert told.index(renew) < told.index(hand_in) < told.index(("claim", free, f"wl claim {free}"))
    assert bob.wl("watch", "--item", mine, "--until", "landed", "--once").code == 75
    assert bob.wl("watch", "--item", mine, "--until", "changes", "--for", "1s", "--every", "1s").code == 75

    bob.ok("done", mine, "--evidence", "words")
    ada.ok("request-changes", number, "-m", "more words")
    seen = bob.json("watch", "--item", mine, "--until", "changes", "--once")
    assert seen["pull"] == int(number)
    assert "more words" in seen["verdict"]["text"]
    first = bob.json("me", "--next")["next"][0]
    assert (first["do"], first["item"], first["pull"]) == ("answer", mine, int(number))
    assert "more words" in first["why"]
    assert "answer: " + mine in bob.ok("me", "--next")

    ada.ok("merge", number)
    assert bob.json("watch", "--item", mine, "--until", "landed", "--once")["status"] == "in_review"
    assert bob.wl("watch", "--item", mine, "--until", "stamp", "--once").code == 75
    ada.ok("merge", str(ada.json("accept", mine, "--quality", "4")["pull"]["number"]))
    assert bob.json("watch", "--item", mine, "--until", "stamp", "--once")["stamp"]["subject"] == "bob"


def test_a_change_whose_pull_request_was_closed_is_not_waited_for(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Closed")
    ada.ok("close", str(bob.json("claim", item)["pull"]["number"]))
    for until in ("landed", "changes"):
        done = bob.wl("watch", "--item", item, "--until", until, "--for", "1h")
        assert done.code == 5, done
        assert f"the pull request of {item} is closed, and it has not landed" in done.err
        assert f"Hint: wl status {item}" in done.err
    bob.ok("withdraw", item)
    done = bob.wl("watch", "--item", item, "--until", "changes", "--for", "1h")
    assert (done.code, "nothing that this rig proposes" in done.err) == (5, True), done


def test_changes_are_not_waited_for_once_the_pull_request_was_rejected(town):
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Rejected")
    number = str(bob.json("claim", item)["pull"]["number"])
    ada.ok("reject", number, "--reason", "not this")
    done = bob.wl("watch", "--item", item, "--until", "changes", "--for", "1h")
    assert done.code == 5, done
    assert "Hint: wl " in done.err


def test_a_change_that_was_never_offered_is_waited_for(town):
    """An item's earlier pull request has landed: the number that was noted of it says nothing of what came after."""
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Kept here")
    ada.ok("merge", str(bob.json("claim", item)["pull"]["number"]))
    bob.ok("done", item, "--evidence", "words", "--no-push")
    for until in ("landed", "changes"):
        done = bob.wl("watch", "--item", item, "--until", until, "--once")
        assert (done.code, "closed" in done.err) == (75, False), done


def test_a_rejection_ends_the_wait_whoever_spoke_between(town):
    """Ada spoke first and last: her rejection, whose pull request a kill left open, is not hidden by other words."""
    ada, bob = town.users["ada"], town.users["bob"]
    item = landed(ada, "post", "--title", "Twice spoken")
    number = bob.json("claim", item)["pull"]["number"]
    head = bob.python(f"print(d.hash_of('wl/bob/{item}'))").strip()
    said = "n.hub.comment('acme', 'commons', {}, '{}', 'wl-verdict: {} {}')"
    for who, kind in (("ada", "request-changes"), ("acme", "request-changes"), ("ada", "reject")):
        ada.python(said.format(number, who, kind, head))
    done = bob.wl("watch", "--item", item, "--until", "changes", "--once")
    assert (done.code, f"#{number} of {item} was rejected by ada" in done.err) == (5, True), done
