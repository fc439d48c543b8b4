"""The whole transition table: each row and guard, by hand, so that removing one turns something red."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import MOMENT
from wasteland.errors import NotOpen, Refused
from wasteland.rules.lease import GRACE, Lease, granted
from wasteland.rules.lifecycle import (
    ANYONE,
    BY_VERB,
    TRANSITIONS,
    Item,
    allowed,
    handle_key,
    judge,
    parties,
    path,
    same_person,
)

STATUSES = ("open", "claimed", "in_review", "completed", "withdrawn")
ACTORS = {"poster": (), "worker": (), "validator": ("validator",), "stranger": (), "root": ("root", "maintainer")}
# What the protocol says: verb, the status it starts from, who may.  Written out again on purpose.
EXPECTED = {
    ("update", "open"): {"poster"},
    ("claim", "open"): {"poster", "worker", "validator", "stranger", "root"},
    ("delete", "open"): {"poster"},
    ("unclaim", "claimed"): {"poster", "worker"},
    ("done", "claimed"): {"worker"},
    ("accept", "in_review"): {"poster", "validator"},
    ("reject", "in_review"): {"poster"},
    ("close", "in_review"): {"poster"},
    ("done", "in_review"): {"worker"},
    ("revise", "in_review"): {"worker"},
}
TARGETS = {"post": "open", "update": "open", "claim": "claimed", "renew": "claimed", "takeover": "claimed",
           "unclaim": "open", "done": "in_review", "accept": "completed", "reject": "claimed", "close": "completed",
           "delete": "withdrawn", "revise": "in_review"}  # fmt: skip
LEASED = {("renew", "claimed"), ("takeover", "claimed")}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OVER = granted("w-1", "worker", "small", NOW - timedelta(days=3) - GRACE)  # a lease that ended an hour ago
LAST = granted("w-1", "worker", "small", NOW - timedelta(days=3) - GRACE + timedelta(seconds=1))
RUNNING = granted("w-1", "worker", "small", NOW - timedelta(hours=1))


def item(status: str, *, posted_by: str = "poster", claimed_by: str | None = "worker") -> Item:
    claimed = None if status in ("open", "withdrawn") else claimed_by
    return Item("w-1", status, posted_by, claimed, claimed if status in ("in_review", "completed") else None)


@pytest.mark.parametrize(
    ("verb", "status", "actor"), list(itertools.product([v for v in TARGETS if v != "post"], STATUSES, ACTORS))
)
def test_every_verb_in_every_status_by_everybody(verb, status, actor):
    if (verb, status) in LEASED:
        with pytest.raises(Refused, match=r"only the claimer|has no lease"):
            judge(verb, actor, ACTORS[actor], item(status))
    elif (verb, status) not in EXPECTED or ((verb, status) == ("done", "in_review") and actor != "worker"):
        with pytest.raises(NotOpen):
            judge(verb, actor, ACTORS[actor], item(status))
    elif actor in EXPECTED[verb, status]:
        assert judge(verb, actor, ACTORS[actor], item(status)).to == TARGETS[verb]
    else:
        with pytest.raises(Refused) as refused:
            judge(verb, actor, ACTORS[actor], item(status))
        assert not isinstance(refused.value, NotOpen)


@pytest.mark.parametrize("verb", ["accept", "close"])
@pytest.mark.parametrize("worker", ["poster", "Poster", "PO-STER", "po_ster"])
def test_nobody_judges_their_own_work_however_they_spell_it(verb, worker):
    own = Item("w-1", "in_review", "poster", worker, worker)
    with pytest.raises(Refused, match="own work"):
        judge(verb, "poster", ["validator"], own)


def test_a_completion_by_the_actor_counts_even_when_somebody_else_is_the_claimer():
    with pytest.raises(Refused, match="own work"):
        judge("accept", "poster", [], Item("w-1", "in_review", "poster", "other", "poster"))


def test_authority_is_exact_although_the_person_is_not():
    with pytest.raises(Refused):
        judge("delete", "Poster", [], item("open"))


def test_a_fullwidth_handle_is_the_same_person():
    assert handle_key("ｍａｌlory") == handle_key("Mallory")


def test_the_table_leads_where_the_protocol_says_and_names_each_verb_once():
    assert {step.verb: step.to for step in TRANSITIONS} == TARGETS
    assert len(BY_VERB) == len(TRANSITIONS)


def test_what_may_be_done_is_listed():
    assert allowed("poster", [], item("in_review")) == ["accept", "reject", "close"]
    assert allowed("worker", [], item("claimed")) == ["unclaim", "done"]
    assert allowed("worker", [], item("in_review")) == ["done"]
    assert allowed("stranger", [], item("completed")) == []


def row(a_wanted, **changes):
    return a_wanted(updated_at=MOMENT + timedelta(hours=1), **changes)


@pytest.mark.parametrize(
    ("old", "new", "actor", "roles", "verbs"),
    [
        (None, {}, "poster", [], ["post"]),
        (None, {"status": "claimed", "claimed_by": "poster"}, "poster", [], ["post", "claim"]),
        ({}, {"title": "New"}, "poster", [], ["update"]),
        ({}, {"status": "claimed", "claimed_by": "worker"}, "worker", [], ["claim"]),
        ({}, {"status": "in_review", "claimed_by": "worker", "evidence_url": "e"}, "worker", [], ["claim", "done"]),
        ({"status": "claimed", "claimed_by": "worker"}, {"status": "open"}, "worker", [], ["unclaim"]),
        ({"status": "in_review", "claimed_by": "worker"}, {"status": "completed", "claimed_by": "worker"}, "poster", [],
         ["accept"]),
        ({"status": "in_review", "claimed_by": "worker"}, {"status": "completed", "claimed_by": "worker"}, "val",
         ["validator"], ["accept"]),
        ({"status": "in_review", "claimed_by": "worker"}, {"status": "claimed", "claimed_by": "worker"}, "poster", [],
         ["reject"]),
        ({}, {"status": "withdrawn"}, "poster", [], ["delete"]),
        ({"status": "in_review", "claimed_by": "worker"},
         {"status": "in_review", "claimed_by": "worker", "evidence_url": "e"}, "worker", [], ["revise"]),
    ],
)  # fmt: skip
def test_a_net_diff_is_judged_as_a_path(a_wanted, old, new, actor, roles, verbs):
    before = None if old is None else a_wanted(**old)
    assert [step.verb for step in path(before, row(a_wanted, **new), actor, roles, "worker")] == verbs


@pytest.mark.parametrize(
    ("old", "new", "actor", "why"),
    [
        ({}, {"status": "claimed", "claimed_by": "worker"}, "rival", "claimed_by"),
        ({}, {"status": "claimed", "claimed_by": "worker", "description": "x"}, "worker", "description"),
        ({}, {"title": "x"}, "rival", "only the poster"),
        (
            {"status": "claimed", "claimed_by": "worker"},
            {"status": "in_review", "claimed_by": "rival"},
            "rival",
            "only",
        ),
        (
            {"status": "in_review", "claimed_by": "worker"},
            {"status": "completed", "claimed_by": "worker"},
            "worker",
            "own",
        ),
        (
            {"status": "in_review", "claimed_by": "worker"},
            {"status": "completed", "claimed_by": "x"},
            "poster",
            "claimed_by",
        ),
        ({"status": "claimed", "claimed_by": "worker"}, {"claimed_by": "worker"}, "worker", "leave claimed_by empty"),
        ({"status": "completed"}, {"status": "open"}, "poster", "no verb"),
        ({"status": "withdrawn"}, {"status": "open"}, "poster", "no verb"),
        (None, {"status": "open", "posted_by": "poster"}, "rival", "posted by rival"),
        (None, {"sandbox_required": 1, "evidence_url": "x"}, "poster", "evidence_url"),
        ({"posted_by": "poster"}, {"posted_by": "rival"}, "rival", "only the poster"),
        ({"id": "w-1"}, {"created_at": MOMENT + timedelta(days=9), "title": "y"}, "poster", "created_at"),
    ],
)
def test_what_no_path_leads_to_is_refused_with_the_reason(a_wanted, old, new, actor, why):
    before = None if old is None else a_wanted(**old)
    with pytest.raises(Refused, match=why):
        path(before, row(a_wanted, **new), actor, [], "worker")


@pytest.mark.parametrize("step", TRANSITIONS, ids=lambda s: s.verb)
def test_each_step_writes_just_what_the_protocol_writes(step):
    state = {"status", "updated_at"}
    content = {"title", "description", "project", "type", "priority", "effort_level", "tags"}
    expected = {
        "post": state | content | {"id", "posted_by", "created_at"},
        "update": content | {"updated_at"},
        "claim": state | {"claimed_by"},
        "renew": set(),
        "takeover": {"claimed_by", "updated_at"},
        "unclaim": state | {"claimed_by", "evidence_url"},
        "done": state | {"evidence_url"},
        "accept": state,
        "reject": state | {"evidence_url"},
        "close": state,
        "delete": state,
        "revise": {"updated_at", "evidence_url"},
    }[step.verb]
    rows = {
        "claim": {"+wl_leases"},
        "renew": {"~wl_leases"},
        "takeover": {"~wl_leases"},
        "unclaim": {"-wl_leases"},
        "done": {"+completions", "-wl_leases"},
        "accept": {"+stamps", "~completions", "-wl_leases"},
        "revise": {"+completions", "-completions"},
        "reject": {"-completions", "+wl_leases"},
        "close": {"-wl_leases"},
        "delete": {"-wl_leases"},
    }
    assert step.writes == expected
    assert step.rows == rows.get(step.verb, set())


def test_the_claimer_counts_as_the_worker_although_somebody_else_completed():
    with pytest.raises(Refused, match="own work"):
        judge("accept", "poster", [], Item("w-1", "in_review", "poster", "poster", "other"))


def test_nobody_is_no_person_and_no_party():
    assert not same_person("-", None)
    assert not same_person(None, "-")
    assert parties("", [], Item("w-1", "open", "", "")) == {ANYONE}


@pytest.mark.parametrize(
    ("old", "new", "verbs"),
    [
        (None, {"sandbox_scope": "{}", "sandbox_min_tier": "gvisor", "sandbox_required": 1}, ["post"]),
        (None, {"status": None}, ["post"]),
        ({"claimed_by": ""}, {"claimed_by": "", "title": "New"}, ["update"]),
    ],
)
def test_values_that_peers_write_differently_are_taken(a_wanted, old, new, verbs):
    before = None if old is None else a_wanted(**old)
    assert [step.verb for step in path(before, row(a_wanted, **new), "poster", [])] == verbs


def test_where_no_verb_leads_the_reason_is_not_that_of_another_step(a_wanted):
    with pytest.raises(Refused, match="no verb leads from open to completed"):
        path(a_wanted(), row(a_wanted, status="completed"), "rival", [])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Item("w-1", "claimed", "poster", "worker"), r"it is claimed \(claimed by worker\), not open"),
        (Item("w-1", "claimed", "poster", None), "it is claimed, not open"),
    ],
)
def test_who_has_the_item_is_said(found, said):
    with pytest.raises(NotOpen, match=said):
        judge("claim", "rival", [], found)


def test_an_open_item_is_nobodys():
    with pytest.raises(NotOpen, match="it is open, not claimed"):
        judge("done", "worker", [], Item("w-1", "open", "poster", "worker"))


def test_a_stranger_may_only_what_anyone_may():
    assert allowed("stranger", [], item("open")) == ["claim"]
    assert allowed("stranger", [], item("claimed")) == []


def test_rows_with_gaps_are_read():
    assert Item.of({"id": "w-1"}) == Item("w-1", "open", None, None)
    assert handle_key(None) == ""


def test_the_reason_is_the_step_that_was_not_allowed_where_one_leads_on(a_wanted):
    with pytest.raises(Refused, match="only the poster"):
        path(a_wanted(status="in_review", claimed_by="worker"), row(a_wanted), "rival", [], "worker")


def test_nothing_leads_from_nothing_to_the_end(a_wanted):
    with pytest.raises(Refused, match="from nothing to completed"):
        path(None, row(a_wanted, status="completed"), "poster", [])


# leases


def leased(lease: Lease | None, *, status: str = "claimed", now: datetime | None = NOW) -> Item:
    return Item("w-1", status, "poster", "worker", None, lease, now)


@pytest.mark.parametrize("lease", [RUNNING, LAST, OVER], ids=["running", "expired", "over"])
def test_only_the_claimer_renews_and_may_as_long_as_nobody_took_over(lease):
    assert judge("renew", "worker", [], leased(lease)).to == "claimed"
    for actor in ("poster", "stranger", "Worker"):
        with pytest.raises(Refused, match="cannot renew w-1: only the claimer may"):
            judge("renew", actor, ["root", "validator"], leased(lease))


@pytest.mark.parametrize(
    "found",
    [
        leased(None),
        leased(OVER, now=None),
        leased(granted("w-1", "other", "small", NOW - timedelta(days=9))),
    ],
    ids=["no row", "no clock", "left over from another rig"],
)
def test_a_claim_without_a_lease_is_neither_renewed_nor_taken_over(found):
    for verb, actor in (("renew", "worker"), ("takeover", "stranger")):
        with pytest.raises(Refused, match="the claim by worker has no lease"):
            judge(verb, actor, [], found)


@pytest.mark.parametrize("actor", ["stranger", "poster", "validator"])
def test_a_claim_whose_lease_is_over_may_be_taken_by_anybody_else(actor):
    assert judge("takeover", actor, [], leased(OVER)).claimed_by == "actor"


@pytest.mark.parametrize(
    ("lease", "actor", "why"),
    [
        (RUNNING, "stranger", "worker holds it, leased until 2026-03-04 11:00 UTC; .* 1 h after the end"),
        (LAST, "stranger", "cannot take over w-1: worker holds it, lease expired 59 min ago"),
        (OVER, "worker", "cannot take over w-1: worker holds it already"),
    ],
)
def test_a_takeover_is_refused_with_the_holder_and_the_end(lease, actor, why):
    with pytest.raises(Refused, match=why):
        judge("takeover", actor, [], leased(lease))


@pytest.mark.parametrize("verb", ["renew", "takeover"])
@pytest.mark.parametrize("status", ["open", "in_review", "completed", "withdrawn"])
def test_a_lease_left_at_an_item_that_nobody_works_on_means_nothing(verb, status):
    with pytest.raises(NotOpen, match=f"it is {status}"):
        judge(verb, "worker", [], leased(OVER, status=status))
    assert leased(OVER, status=status).leased is None


def test_nothing_is_said_of_a_lease_without_a_clock():
    assert leased(OVER, now=None).leased is None
    assert leased(OVER).leased == "lease expired 1 h ago"


def test_who_wants_to_claim_is_told_of_the_lease_and_of_the_takeover():
    with pytest.raises(NotOpen, match=r"\(claimed by worker, leased until 2026-03-04 11:00 UTC\), not open") as told:
        judge("claim", "stranger", [], leased(RUNNING))
    assert told.value.hint is None
    with pytest.raises(NotOpen, match=r"\(claimed by worker, lease expired 1 h ago\)") as told:
        judge("claim", "stranger", [], leased(OVER))
    assert told.value.hint == "wl claim w-1 --take-over"
    for verb, actor in (("claim", "worker"), ("accept", "stranger")):
        with pytest.raises(NotOpen) as told:
            judge(verb, actor, [], leased(OVER))
        assert told.value.hint is None


def test_what_may_be_done_with_a_lease_is_listed():
    assert allowed("worker", [], leased(OVER)) == ["renew", "unclaim", "done"]
    assert allowed("stranger", [], leased(OVER)) == ["takeover"]
    assert allowed("stranger", [], leased(RUNNING)) == []


def taken(a_wanted, lease, actor="stranger", now=NOW, **changes):
    old = a_wanted(status="claimed", claimed_by="worker")
    new = row(a_wanted, **{"status": "claimed", "claimed_by": actor} | changes)
    return [step.verb for step in path(old, new, actor, [], None, lease, now)]


def test_a_takeover_is_found_in_a_net_diff(a_wanted):
    assert taken(a_wanted, OVER) == ["takeover"]
    assert taken(a_wanted, OVER, status="in_review", evidence_url="e") == ["takeover", "done"]
    assert taken(a_wanted, OVER, status="open", claimed_by=None) == ["takeover", "unclaim"]


@pytest.mark.parametrize(
    ("lease", "now", "changes", "why"),
    [
        (RUNNING, NOW, {}, "cannot take over w-1: worker holds it"),
        (RUNNING, NOW, {"status": "in_review", "evidence_url": "e"}, "only the claimer may"),
        (None, NOW, {}, "no lease"),
        (OVER, None, {}, "no lease"),
        (OVER, NOW, {"claimed_by": "other"}, "must leave claimed_by stranger"),
        (OVER, NOW, {"title": "Mine"}, "takeover of w-1 may not change title"),
        (OVER, NOW, {"evidence_url": "e"}, "takeover of w-1 may not change evidence_url"),
    ],
)
def test_a_takeover_that_breaks_a_rule_is_no_path(a_wanted, lease, now, changes, why):
    with pytest.raises(Refused, match=why):
        taken(a_wanted, lease, now=now, **changes)


def test_nobody_takes_over_what_was_sent_back_in_the_same_breath(a_wanted):
    old = a_wanted(status="in_review", claimed_by="worker")
    with pytest.raises(Refused):
        path(old, row(a_wanted, status="claimed", claimed_by="poster"), "poster", [], "worker", OVER, NOW)
