"""The whole transition table: each row and guard, by hand, so that removing one turns something red."""

from __future__ import annotations

import itertools

import pytest

from wasteland.errors import NotOpen, Refused
from wasteland.lifecycle import BY_VERB, TRANSITIONS, Item, allowed, handle_key, judge, path

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
}
TARGETS = {"post": "open", "update": "open", "claim": "claimed", "unclaim": "open", "done": "in_review",
           "accept": "completed", "reject": "claimed", "close": "completed", "delete": "withdrawn"}  # fmt: skip


def item(status: str, *, posted_by: str = "poster", claimed_by: str | None = "worker") -> Item:
    claimed = None if status in ("open", "withdrawn") else claimed_by
    return Item("w-1", status, posted_by, claimed, claimed if status in ("in_review", "completed") else None)


@pytest.mark.parametrize(
    ("verb", "status", "actor"), list(itertools.product([v for v in TARGETS if v != "post"], STATUSES, ACTORS))
)
def test_every_verb_in_every_status_by_everybody(verb, status, actor):
    if (verb, status) not in EXPECTED:
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
    assert allowed("stranger", [], item("completed")) == []


def row(a_wanted, **changes):
    return a_wanted(updated_at="t1", **changes)


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
        ({"status": "completed"}, {"status": "open"}, "poster", "no verb"),
        ({"status": "withdrawn"}, {"status": "open"}, "poster", "no verb"),
        (None, {"status": "open", "posted_by": "poster"}, "rival", "posted by rival"),
        (None, {"sandbox_required": 1, "evidence_url": "x"}, "poster", "evidence_url"),
        ({"posted_by": "poster"}, {"posted_by": "rival"}, "rival", "only the poster"),
        ({"id": "w-1"}, {"created_at": "t9", "title": "y"}, "poster", "created_at"),
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
        "unclaim": state | {"claimed_by", "evidence_url"},
        "done": state | {"evidence_url"},
        "accept": state,
        "reject": state | {"evidence_url"},
        "close": state,
        "delete": state,
    }[step.verb]
    rows = {"done": {"+completions"}, "accept": {"+stamps", "~completions"}, "reject": {"-completions"}}
    assert step.writes == expected
    assert step.rows == rows.get(step.verb, set())
