"""What a pull request may change: every rule with a case that passes it and cases that fail it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from wasteland.local.keys import Key, public_key, sign_statement
from wasteland.local.keys import verify_signature as check
from wasteland.models import RowDiff, TableDiff
from wasteland.rules.policy.findings import AUTO, NOTHING, QUARANTINE, REJECT, REVIEW, Judgement, Upstream
from wasteland.rules.policy.pull_request import judge
from wasteland.rules.policy.shape import objects
from wasteland.rules.policy.stamps import akin, one_key
from wasteland.rules.policy.wanted import odd_id
from wasteland.trust.envelope import Envelope
from wasteland.trust.envelope import sha256 as digest_of
from wasteland.trust.statements import (
    Link,
    Party,
    attestation_row,
    completion_statement,
    key_event_row,
    key_event_statement,
    roles_statement,
    stamp_statement,
    text_manifest,
    valence_of,
)

HERE, THERE = "urn:uuid:here", "urn:uuid:there"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
T0, T1 = datetime(2026, 3, 1, 11), datetime(2026, 3, 1, 12)
ORGS = {"poster": "acme", "worker": "worker-org", "val": "val-org", "stranger": "stranger-org"}


def a_key(handle, number=0):
    seed = digest_of(f"{handle}/{number}".encode())
    public = public_key(bytes.fromhex(seed))
    from wasteland.trust.envelope import did_key

    return Key(handle, did_key(public), public, digest_of(f"next of {handle}".encode()), bytes.fromhex(seed))


KEYS = {name: a_key(name) for name in (*ORGS, "newbie", "mallory")}
ME = {name: Party(name, key.did) for name, key in KEYS.items()}


def inception(handle, *, wasteland=HERE, key=None):
    made = key or KEYS[handle]
    statement = key_event_statement(
        wasteland=wasteland, handle=handle, public=made.public, next_sha256=made.next_sha256,
        dolthub_org=ORGS.get(handle, f"{handle}-org"), issued_at=NOON,
    )  # fmt: skip
    envelope = sign_statement(made, statement)
    return envelope, key_event_row(envelope, statement, T1)


def roles_document(version=1, prev=None, by="poster", **held):
    before = {} if prev is None else {"prev": prev.sha256}
    roles = {"root": [ME["poster"]], "maintainer": [ME["poster"]], "validator": [ME["val"]]} | held
    statement = roles_statement(wasteland=HERE, version=version, issued_at=NOON, **roles, **before)
    return sign_statement(KEYS[by], statement)


FIRST_ROLES = roles_document()


def a_rig(handle, **changes):
    org = ORGS.get(handle, f"{handle}-org")
    return {
        "handle": handle,
        "display_name": handle,
        "dolthub_org": org,
        "trust_level": 1,
        "parent_rig": None,
    } | changes


def an_item(**changes):
    return {
        "id": "w-1", "title": "Fix it", "description": "words", "project": None, "type": None, "priority": 2,
        "tags": None, "posted_by": "poster", "claimed_by": None, "status": "open", "effort_level": "medium",
        "evidence_url": None, "sandbox_required": 0, "sandbox_scope": None, "sandbox_min_tier": None,
        "created_at": T0, "updated_at": T0,
    } | changes  # fmt: skip


def a_completion(**changes):
    return {
        "id": "c-1", "wanted_id": "w-1", "completed_by": "worker", "evidence": "pr/7", "validated_by": None,
        "stamp_id": None, "parent_completion_id": None, "block_hash": None, "hop_uri": None, "completed_at": T1,
        "validated_at": None,
    } | changes  # fmt: skip


def a_stamp(**changes):
    return {
        "id": "s-1", "author": "poster", "subject": "worker", "valence": json.dumps({"quality": 4}), "confidence": 1.0,
        "severity": "leaf", "context_id": "c-1", "context_type": "completion", "skill_tags": None, "message": None,
        "prev_stamp_hash": None, "block_hash": None, "hop_uri": None, "created_at": T1,
    } | changes  # fmt: skip


def added(table, row):
    return RowDiff(table, None, row)


def changed(table, old, **changes):
    return RowDiff(table, old, old | changes)


def removed(table, row):
    return RowDiff(table, row, None)


def upstream(**changes):
    """Upstream with four rigs; w-1 has the completion c-1 of worker unless told otherwise."""
    facts = {
        "wasteland": HERE,
        "rigs": {name: a_rig(name) for name in ORGS},
        "completions": {"c-1": a_completion()},
        "roles": lambda handle: frozenset({"validator"}) if handle == "val" else frozenset(),
        "key_events": lambda handle: [inception(handle)[0]] if handle in ORGS else [],
        "role_documents": [FIRST_ROLES],
    }
    return Upstream(**facts | changes)


def verdict_of(*rows, by="poster", **facts):
    """The verdict on a pull request from the fork of `by`'s organisation."""
    return judge(list(rows), ORGS.get(by, f"{by}-org"), upstream(**facts), check)


def step(frm, to, **changes):
    """A change of w-1 from one status to another."""
    before = {"claimed": {"claimed_by": "worker"}, "in_review": {"claimed_by": "worker", "evidence_url": "pr/7"}}
    return changed("wanted", an_item(status=frm, **before.get(frm, {})), status=to, updated_at=T1, **changes)


CLAIM = step("open", "claimed", claimed_by="worker")
UNCLAIM = step("claimed", "open", claimed_by=None, evidence_url=None)
DONE = step("claimed", "in_review", evidence_url="pr/7")
REJECTED = step("in_review", "claimed", evidence_url=None)
ACCEPTED = step("in_review", "completed")
NO_COMPLETION = {"completions": {}}


def validated(by="poster", **changes):
    return changed(
        "completions", a_completion(), **{"validated_by": by, "stamp_id": "s-1", "validated_at": T1} | changes
    )


def an_accept(by="poster", **stamp):
    return ACCEPTED, validated(by), added("stamps", a_stamp(**{"author": by} | stamp))


# items


@pytest.mark.parametrize(
    ("rows", "by", "facts"),
    [
        ([added("wanted", an_item(id="w-2", posted_by="stranger"))], "stranger", {}),
        ([changed("wanted", an_item(), title="Better", updated_at=T1)], "poster", NO_COMPLETION),
        ([CLAIM], "worker", NO_COMPLETION),
        ([UNCLAIM], "worker", NO_COMPLETION),
        ([UNCLAIM], "poster", NO_COMPLETION),
        ([DONE, added("completions", a_completion())], "worker", NO_COMPLETION),
        ([REJECTED, removed("completions", a_completion())], "poster", {}),
        ([ACCEPTED], "poster", {}),
        ([step("open", "withdrawn")], "poster", NO_COMPLETION),
    ],
    ids=["post", "update", "claim", "unclaim", "unclaim by poster", "done", "reject", "close", "delete"],
)
def test_an_honest_step_lands_by_itself(rows, by, facts):
    judged = verdict_of(*rows, by=by, **facts)
    assert judged.verdict == AUTO, judged.findings
    assert judged.actor == by


@pytest.mark.parametrize(
    ("rows", "by", "facts"),
    [
        ([added("wanted", an_item(id="w-2", posted_by="poster"))], "stranger", {}),
        ([added("wanted", an_item(id="w-2", posted_by="stranger", claimed_by="worker"))], "stranger", {}),
        ([added("wanted", an_item(id="w-2", posted_by="stranger", status="completed"))], "stranger", {}),
        ([added("wanted", an_item(id="w-2", posted_by="stranger", evidence_url="x"))], "stranger", {}),
        ([changed("wanted", an_item(), title="Mine", updated_at=T1)], "stranger", NO_COMPLETION),
        ([changed("wanted", an_item(), posted_by="stranger")], "stranger", NO_COMPLETION),
        ([changed("wanted", an_item(), id="w-1", posted_by="stranger")], "poster", NO_COMPLETION),
        ([step("open", "claimed", claimed_by="val")], "worker", NO_COMPLETION),
        ([step("open", "claimed", claimed_by="worker", description="rewritten")], "worker", NO_COMPLETION),
        ([step("open", "claimed", claimed_by="worker", priority=0)], "worker", NO_COMPLETION),
        ([step("open", "claimed", claimed_by="Worker")], "worker", NO_COMPLETION),
        ([step("claimed", "claimed", claimed_by="stranger")], "stranger", NO_COMPLETION),
        ([UNCLAIM], "stranger", NO_COMPLETION),
        ([UNCLAIM], "val", NO_COMPLETION),
        ([DONE], "worker", NO_COMPLETION),
        ([DONE, added("completions", a_completion(completed_by="stranger"))], "stranger", NO_COMPLETION),
        ([DONE, added("completions", a_completion(completed_by="val"))], "worker", NO_COMPLETION),
        ([DONE, added("completions", a_completion(stamp_id="s-9"))], "worker", NO_COMPLETION),
        ([DONE, added("completions", a_completion(validated_by="worker"))], "worker", NO_COMPLETION),
        ([added("completions", a_completion(id="c-2"))], "worker", {}),
        ([REJECTED, removed("completions", a_completion())], "stranger", {}),
        ([REJECTED, removed("completions", a_completion())], "val", {}),
        ([REJECTED], "poster", {}),
        ([REJECTED, removed("completions", a_completion(stamp_id="s-1"))], "poster", {}),
        ([removed("completions", a_completion(stamp_id="s-1"))], "poster", {}),
        ([removed("completions", a_completion(stamp_id="s-1"))], "worker", {}),
        ([ACCEPTED], "stranger", {}),
        ([ACCEPTED], "val", {}),
        ([ACCEPTED], "worker", {}),
        ([step("completed", "open", claimed_by=None)], "poster", {}),
        ([step("completed", "in_review")], "worker", {}),
        ([step("withdrawn", "open")], "poster", NO_COMPLETION),
        ([step("open", "validated")], "poster", NO_COMPLETION),
        ([step("validated", "completed")], "poster", NO_COMPLETION),
        ([step("open", "withdrawn")], "stranger", NO_COMPLETION),
        ([removed("wanted", an_item())], "poster", NO_COMPLETION),
        ([changed("completions", a_completion(), evidence="other")], "worker", {}),
    ],
    ids=[
        "post for another", "post claimed", "post completed", "post with evidence", "update by a stranger",
        "take a post over", "give a post away", "claim for another", "claim that rewrites the description",
        "claim that raises the priority", "claim by another spelling", "take a claim over", "unclaim by a stranger",
        "unclaim by a validator", "done without a completion", "done by a stranger", "done for another",
        "done that is stamped", "done that is validated", "completion without done", "reject by a stranger",
        "reject by a validator", "reject that leaves the completion", "reject of a stamped completion",
        "poster deletes a stamped completion", "worker deletes a stamped completion", "close by a stranger",
        "close by a validator", "close by the worker", "reopen", "back into review", "revive", "unknown status",
        "out of an unknown status", "delete by a stranger", "row deleted", "evidence rewritten",
    ],
)  # fmt: skip
def test_a_dishonest_step_is_rejected(rows, by, facts):
    judged = verdict_of(*rows, by=by, **facts)
    assert judged.verdict == REJECT, judged.findings


def test_a_worker_claims_and_completes_in_one_pull_request():
    whole = changed("wanted", an_item(), status="in_review", claimed_by="worker", evidence_url="pr/7", updated_at=T1)
    assert verdict_of(whole, added("completions", a_completion()), by="worker", **NO_COMPLETION).verdict == AUTO


def test_a_fork_without_a_rig_may_change_nothing():
    assert verdict_of(added("wanted", an_item(id="w-2", posted_by="poster")), by="nobody").verdict == REJECT


@pytest.mark.parametrize("by", ["poster", "nobody"])
def test_a_change_of_nothing_is_called_so_and_neither_let_in_nor_rejected(by):
    judged = verdict_of(by=by)
    assert (judged.verdict, [one.rule for one in judged.findings]) == (NOTHING, ["G-NOTHING"])
    judged.add(QUARANTINE, "G-OBJECT", "and a table besides")
    assert judged.verdict == QUARANTINE
    assert Judgement().verdict == REJECT, "what was not judged does not land"


HELD = an_item(status="claimed", claimed_by="worker", updated_at=T1)


@pytest.mark.parametrize(
    ("row", "there", "held"),
    [
        (added("wanted", HELD), HELD, True),
        (added("wanted", HELD), None, False),
        (added("wanted", HELD), HELD | {"claimed_by": "val"}, False),
        (added("wanted", HELD), HELD | {"updated_at": None}, True),
        (changed("wanted", an_item(), status="claimed", claimed_by="worker"), HELD | {"title": "edited since"}, True),
        (changed("wanted", an_item(), status="claimed", claimed_by="worker"), an_item(status="claimed"), False),
        (changed("wanted", an_item(), status="claimed"), None, False),
        (changed("wanted", HELD, claimed_by=None), HELD, False),
        (changed("wanted", an_item(), updated_at=T1), an_item(), True),
        (changed("wanted", an_item(), updated_at=T1), None, True),
        (removed("completions", a_completion()), None, True),
        (removed("completions", a_completion()), a_completion(), False),
    ],
    ids=["added", "lacking", "another's", "other time", "edited since", "one cell of two", "gone", "emptied", "times",
         "times of a row that is gone", "removed", "still there"],
)  # fmt: skip
def test_a_row_is_held_where_each_cell_that_it_changes_is_there(row, there, held):
    assert row.held_by(there) is held


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({"dolthub_org": "acme"}, {"dolthub_org": "acme"}, "belong to acme"),
        ({"dolthub_org": "acme"}, {"dolthub_org": "other"}, None),
        ({"dolthub_org": None}, {"dolthub_org": None}, None),
        ({"dolthub_org": ""}, {"dolthub_org": ""}, None),
        ({"handle": "a", "parent_rig": "b"}, {"handle": "b", "parent_rig": None}, "parent"),
        ({"handle": "a", "parent_rig": None}, {"handle": "b", "parent_rig": "a"}, "parent"),
        ({"handle": "a", "parent_rig": "c"}, {"handle": "b", "parent_rig": "c"}, None),
    ],
)
def test_rigs_are_akin_by_owner_or_as_parent_and_child(one, other, why):
    said = akin({"handle": "x", "parent_rig": None} | one, {"handle": "y", "parent_rig": None} | other)
    assert why in said if why else said is None


def test_one_key_is_one_that_both_logs_name():
    mine, yours = inception("poster")[0], inception("worker")[0]
    assert one_key([mine], [yours, mine])
    assert not one_key([mine], [yours])
    assert not one_key([], [])
    assert not one_key([Envelope(b"{}", ())], [Envelope(b"{}", ())]), "what is no event names no key"


@pytest.mark.parametrize("item_id", ["w-1", "w-A-b", "w-" + "x" * 62])
def test_an_items_id_has_a_shape(item_id):
    assert odd_id(item_id) is None


@pytest.mark.parametrize("item_id", ["", "w-", "w--1", "x-1", "w-1\n", "w-1/2", "w-é", "w-" + "x" * 63])
def test_an_odd_id_is_named(item_id):
    assert odd_id(item_id) == f"{item_id} is no id of an item"
    assert verdict_of(added("wanted", an_item(id=item_id))).verdict == REJECT


# stamps


def signed_stamp(by="poster", *, wasteland=HERE, rig="worker", score=4, key=None, handle=None):
    """Stamp row and attestation of `by` about c-1."""
    key = key or KEYS[by]
    scores = {"quality": (score, 900)}
    statement = stamp_statement(
        wasteland=wasteland, stamp_id="s-1", author=Party(handle or by, key.did), rig=Party(rig, None), scores=scores,
        confidence=1000, severity="leaf", completion="c-1", completion_sha256="0" * 64, wanted="w-1",
        wanted_sha256="0" * 64, evidence_sha256="0" * 64, commit=None, skill_tags=[], message=None, issued_at=NOON,
        chain=Link(0),
    )  # fmt: skip
    envelope = sign_statement(key, statement)
    stamp = a_stamp(author=by, subject=rig, block_hash=envelope.sha256, valence=json.dumps(valence_of(scores)))
    return stamp, attestation_row(envelope, statement, T1)


@pytest.mark.parametrize("by", ["poster", "val"])
def test_a_signed_accept_lands_by_itself(by):
    stamp, attestation = signed_stamp(by)
    judged = verdict_of(ACCEPTED, validated(by), added("stamps", stamp), added("wl_attestations", attestation), by=by)
    assert judged.verdict == AUTO, judged.findings


@pytest.mark.parametrize("by", ["poster", "val"])
def test_an_unsigned_accept_is_for_a_person(by):
    judged = verdict_of(*an_accept(by), by=by)
    assert judged.verdict == REVIEW, judged.findings


@pytest.mark.parametrize(
    ("rows", "by", "facts"),
    [
        (an_accept("stranger"), "stranger", {}),
        (an_accept("worker"), "worker", {}),
        ((ACCEPTED, validated("val"), added("stamps", a_stamp(author="val"))), "poster", {}),
        ((ACCEPTED, validated(), added("stamps", a_stamp(author="val"))), "poster", {}),
        ((ACCEPTED, validated("val"), added("stamps", a_stamp())), "poster", {}),
        ((ACCEPTED, validated()), "poster", {}),
        ((ACCEPTED, validated("val")), "val", {}),
        ((ACCEPTED, validated(stamp_id=None), added("stamps", a_stamp())), "poster", {}),
        ((ACCEPTED, validated(stamp_id="s-2"), added("stamps", a_stamp())), "poster", {}),
        ((ACCEPTED, validated(evidence="other"), added("stamps", a_stamp())), "poster", {}),
        ((ACCEPTED, added("stamps", a_stamp())), "poster", {}),
        ((added("stamps", a_stamp()),), "poster", {}),
        ((added("stamps", a_stamp(context_id="c-none")),), "poster", {}),
        (an_accept(subject="stranger"), "poster", {}),
        ((changed("stamps", a_stamp(), valence='{"quality": 1}'),), "poster", {}),
        ((changed("stamps", a_stamp(), message="changed"),), "poster", {}),
        ((removed("stamps", a_stamp()),), "poster", {}),
        ((*an_accept(), added("stamps", a_stamp(id="s-2"))), "poster", {}),
        (an_accept(valence='{"quality": 99}'), "poster", {}),
        (an_accept(valence='{"quality": -1}'), "poster", {}),
        (an_accept(valence='{"quality": "5"}'), "poster", {}),
        (an_accept(valence='{"quality": 4, "quality_confidence": 7}'), "poster", {}),
        (an_accept(valence='"five"'), "poster", {}),
        (an_accept(valence="[5]"), "poster", {}),
        (an_accept(valence="{}"), "poster", {}),
        (an_accept(confidence=7.0), "poster", {}),
        (an_accept(severity="world"), "poster", {}),
    ],
    ids=[
        "by a stranger", "by the worker", "in the validator's name", "another author", "another validator of record",
        "no stamp row", "no stamp row by a validator", "completion names no stamp", "completion names another stamp",
        "evidence rewritten", "completion not marked", "no item step", "about nothing", "about somebody else",
        "edited score", "edited message", "removed", "two for one", "score 99", "score -1", "score is text",
        "confidence 7", "valence is text", "valence is a list", "no scores", "overall confidence 7", "severity unknown",
    ],
)  # fmt: skip
def test_a_stamp_that_breaks_a_rule_is_rejected(rows, by, facts):
    judged = verdict_of(*rows, by=by, **facts)
    assert judged.verdict == REJECT, judged.findings


@pytest.mark.parametrize(
    "worker", ["POSTER", "Poster", "post-er", "p.o_s-t er", "poſter", "ｐoster", "pоster"]
)  # the last is Cyrillic
def test_nobody_stamps_themselves_under_another_spelling(worker):
    item = an_item(status="in_review", claimed_by=worker, evidence_url="pr/7")
    rows = (
        changed("wanted", item, status="completed", updated_at=T1),
        changed(
            "completions", a_completion(completed_by=worker), validated_by="poster", stamp_id="s-1", validated_at=T1
        ),
        added("stamps", a_stamp(subject=worker)),
    )
    judged = verdict_of(*rows, completions={"c-1": a_completion(completed_by=worker)})
    assert judged.verdict == REJECT, judged.findings


@pytest.mark.parametrize("tie", [{"dolthub_org": "acme"}, {"parent_rig": "poster"}])
def test_a_stamp_for_a_rig_of_the_same_owner_is_for_a_person(tie):
    stamp, attestation = signed_stamp()
    rigs = {name: a_rig(name) for name in ORGS} | {"worker": a_rig("worker", **tie)}
    rows = (ACCEPTED, validated(), added("stamps", stamp), added("wl_attestations", attestation))
    assert verdict_of(*rows, rigs=rigs).verdict == REVIEW


def test_two_handles_with_one_key_are_one_person():
    stamp, attestation = signed_stamp()
    rows = (ACCEPTED, validated(), added("stamps", stamp), added("wl_attestations", attestation))
    judged = verdict_of(*rows, key_events=lambda _: [inception("poster")[0]])
    assert judged.verdict == REJECT, judged.findings
    assert any("one key" in one.detail for one in judged.findings)


def test_one_stamp_does_not_cover_two_items():
    other = changed(
        "wanted", an_item(id="w-2", status="in_review", claimed_by="worker"), status="completed", updated_at=T1
    )
    marked = changed("completions", a_completion(id="c-2", wanted_id="w-2"), validated_by="poster", stamp_id="s-ghost",
                     validated_at=T1)  # fmt: skip
    facts = {"c-1": a_completion(), "c-2": a_completion(id="c-2", wanted_id="w-2")}
    judged = verdict_of(*an_accept(), other, marked, completions=facts)
    assert judged.verdict == REJECT, judged.findings


# attestations


def with_attestation(row, by="poster", **stamp):
    return verdict_of(
        ACCEPTED, validated(by), added("stamps", a_stamp(author=by) | stamp), added("wl_attestations", row), by=by
    )


def test_a_row_that_says_other_than_its_signature_is_rejected():
    stamp, row = signed_stamp(score=1)
    assert with_attestation(row, **stamp).verdict == AUTO
    lifted = json.dumps({"quality": 5, "quality_confidence": 0.9})
    assert with_attestation(row, **(stamp | {"valence": lifted})).verdict == REJECT


@pytest.mark.parametrize(
    "change",
    [
        lambda row: {"payload": row["payload"].replace('"score":4', '"score":5')},
        lambda row: {"payload": row["payload"].replace(HERE, THERE)},
        lambda row: {"payload": row["payload"] + " "},
        lambda row: {"payload": "{}"},
        lambda row: {"payload": "nonsense"},
        lambda row: {"signatures": "[]"},
        lambda row: {"signatures": "nonsense"},
        lambda row: {"signatures": '[{"sig":"AAAA"}]'},
        lambda row: {"chain_seq": 7},
        lambda row: {"subject_id": "s-2"},
        lambda row: {"key_id": "did:key:other"},
        lambda row: {"payload_sha256": "0" * 64},
        lambda row: {"signer": "val"},
    ],
    ids=["score", "wasteland", "space", "empty", "nonsense", "no signature", "bad signatures", "short signature", "seq",
         "subject", "key", "digest", "signer"],
)  # fmt: skip
def test_an_attestation_with_one_thing_changed_is_rejected(change):
    stamp, row = signed_stamp()
    judged = with_attestation(row | change(row), **stamp)
    assert judged.verdict == REJECT
    assert "ATTEST" in {f.rule for f in judged.findings if f.verdict == REJECT}


@pytest.mark.parametrize(
    "made",
    [
        signed_stamp(wasteland=THERE),
        signed_stamp(key=KEYS["val"]),
        signed_stamp(handle="val"),
        signed_stamp(key=a_key("poster", 1)),
    ],
    ids=["another wasteland", "another signer", "another author", "an unpublished key"],
)
def test_an_attestation_that_is_not_the_actors_here_is_rejected(made):
    stamp, row = made
    assert with_attestation(row, **stamp).verdict == REJECT


def test_attestations_are_never_changed_nor_removed():
    _, row = signed_stamp()
    assert verdict_of(changed("wl_attestations", row, signatures="[]")).verdict == REJECT
    assert verdict_of(removed("wl_attestations", row)).verdict == REJECT


@pytest.mark.parametrize("kind", ["key event", "roles"])
def test_a_signed_document_of_another_kind_is_no_attestation(kind):
    envelope = inception("poster")[0] if kind == "key event" else FIRST_ROLES
    _, row = signed_stamp()
    judged = verdict_of(added("wl_attestations", row | envelope.to_columns()))
    assert judged.verdict == REJECT, judged.findings


def test_a_signed_completion_lands_by_itself():
    statement = completion_statement(
        wasteland=HERE, completion="c-1", author=ME["worker"], wanted="w-1", wanted_sha256="0" * 64,
        evidence=text_manifest("pr/7"), sandbox_level="L0", sandbox_network="host", issued_at=NOON, chain=Link(0),
    )  # fmt: skip
    envelope = sign_statement(KEYS["worker"], statement)
    made = added("completions", a_completion(block_hash=envelope.sha256))
    row = added("wl_attestations", attestation_row(envelope, statement, T1))
    assert verdict_of(DONE, made, row, by="worker", **NO_COMPLETION).verdict == AUTO


# rigs


@pytest.mark.parametrize("handle", ["newbie", "n", "new-bie_2"])
def test_a_registration_is_for_a_person(handle):
    row = a_rig(handle, dolthub_org="newbie-org")
    assert verdict_of(added("rigs", row), by="newbie").verdict == REVIEW


def test_a_registration_brings_its_key():
    judged = verdict_of(added("rigs", a_rig("newbie")), added("wl_key_events", inception("newbie")[1]), by="newbie")
    assert judged.verdict == REVIEW, judged.findings


@pytest.mark.parametrize(
    "change",
    [
        {"dolthub_org": "acme"}, {"trust_level": 2}, {"handle": "Poster"}, {"handle": "post-er"}, {"handle": "POSTER_"},
        {"handle": "pоster"}, {"handle": "a b"}, {"handle": "../../x"}, {"handle": "--help"}, {"handle": ""},
        {"handle": "x" * 65}, {"handle": "a\nb"}, {"parent_rig": "poster"}, {"parent_rig": "nobody"},
    ],
    ids=lambda change: repr(change)[:40],
)  # fmt: skip
def test_a_registration_that_breaks_a_rule_is_rejected(change):
    assert verdict_of(added("rigs", a_rig("newbie") | change), by="newbie").verdict == REJECT


def test_two_confusable_handles_do_not_come_in_one_pull_request():
    rows = [added("rigs", a_rig(handle, dolthub_org="newbie-org")) for handle in ("newbie", "New-Bie")]
    assert verdict_of(*rows, by="newbie").verdict == REJECT


def test_a_rig_changes_its_own_profile():
    own = a_rig("worker")
    assert verdict_of(changed("rigs", own, display_name="W", last_seen=T1), by="worker").verdict == AUTO


@pytest.mark.parametrize(
    ("rows", "by"),
    [
        ([changed("rigs", a_rig("worker"), display_name="W")], "stranger"),
        ([changed("rigs", a_rig("worker"), dolthub_org="stranger-org")], "stranger"),
        ([changed("rigs", a_rig("worker"), trust_level=3)], "worker"),
        ([changed("rigs", a_rig("worker"), trust_level=3, display_name="W")], "worker"),
        ([changed("rigs", a_rig("worker"), dolthub_org="other")], "worker"),
        ([changed("rigs", a_rig("worker"), registered_at=T0)], "worker"),
        ([changed("rigs", a_rig("worker"), parent_rig="val")], "worker"),
        ([changed("rigs", a_rig("worker"), trust_level=3)], "poster"),
        ([removed("rigs", a_rig("worker"))], "worker"),
        ([removed("rigs", a_rig("worker"))], "stranger"),
        ([removed("rigs", a_rig("worker")), added("rigs", a_rig("worker2", dolthub_org="worker-org"))], "worker"),
    ],
    ids=["stranger", "take-over", "trust", "trust with profile", "org", "age", "parent", "trust by the creator",
         "removed", "removed by a stranger", "renamed"],
)  # fmt: skip
def test_a_change_of_a_rig_that_breaks_a_rule_is_rejected(rows, by):
    assert verdict_of(*rows, by=by).verdict == REJECT


# keys and roles


@pytest.mark.parametrize(
    ("made", "by"),
    [
        (inception("worker", key=KEYS["stranger"])[1], "stranger"),
        (inception("worker", key=KEYS["mallory"])[1], "worker"),
        (inception("newbie", wasteland=THERE)[1], "newbie"),
        (inception("newbie")[1] | {"seq": 3}, "newbie"),
        (inception("newbie")[1] | {"key_id": KEYS["worker"].did}, "newbie"),
        (inception("newbie")[1] | {"payload": "{}"}, "newbie"),
        (inception("newbie")[1] | {"payload": "x", "signatures": "x"}, "newbie"),
        (inception("newbie")[1] | {"signatures": '[{"sig":"AAAA"}]'}, "newbie"),
    ],
    ids=["another handle", "a second inception", "another wasteland", "column seq", "column key", "empty", "nonsense",
         "unsigned"],
)  # fmt: skip
def test_a_key_event_that_does_not_hold_is_rejected(made, by):
    rows = [added("wl_key_events", made)]
    if by == "newbie":
        rows.append(added("rigs", a_rig("newbie")))
    judged = verdict_of(*rows, by=by)
    assert judged.verdict == REJECT
    assert "KEYS" in {f.rule for f in judged.findings}


def test_key_events_are_never_changed_nor_removed():
    _, row = inception("worker")
    assert verdict_of(changed("wl_key_events", row, kind="rotate"), by="worker").verdict == REJECT
    assert verdict_of(removed("wl_key_events", row), by="worker").verdict == REJECT


def roles_row(envelope, version=2):
    return added("wl_roles", {"version": version, **envelope.to_columns()})


def test_a_new_version_of_the_roles_by_a_root_is_for_a_person():
    made = roles_document(2, FIRST_ROLES, validator=[ME["val"], ME["worker"]])
    assert verdict_of(roles_row(made)).verdict == REVIEW


@pytest.mark.parametrize(
    "row",
    [
        roles_row(roles_document(2, FIRST_ROLES, by="worker", root=[ME["worker"]])),
        roles_row(roles_document(2, FIRST_ROLES, by="val")),
        roles_row(roles_document(1, by="worker", root=[ME["worker"]]), version=1),
        roles_row(roles_document(3, FIRST_ROLES), version=3),
        roles_row(roles_document(2), version=2),
        roles_row(roles_document(2, FIRST_ROLES), version=9),
        roles_row(inception("poster")[0]),
        roles_row(Envelope(b"{}", FIRST_ROLES.signatures)),
        changed("wl_roles", {"version": 1, **FIRST_ROLES.to_columns()}, signatures="[]"),
        removed("wl_roles", {"version": 1, **FIRST_ROLES.to_columns()}),
    ],
    ids=["by who wants to be root", "by a validator", "another first version", "a version left out", "no predecessor",
         "column version", "a key event", "empty", "changed", "removed"],
)  # fmt: skip
def test_roles_that_no_root_signed_are_rejected(row):
    judged = verdict_of(row)
    assert judged.verdict == REJECT
    assert {f.rule for f in judged.findings} == {"ROLES"}


# the rest


@pytest.mark.parametrize(
    "table", ["_meta", "badges", "boot_blocks", "chain_meta", "rig_links", "leaderboard", "wl_log", "x\ny"]
)
def test_rows_of_other_tables_are_rejected(table):
    judged = verdict_of(added(table, {"id": "1"}))
    assert judged.verdict == REJECT
    assert [f.rule for f in judged.findings] == ["G-UNKNOWN"]


def test_one_bad_row_spoils_a_good_pull_request():
    assert verdict_of(CLAIM, added("badges", {"id": "1"}), by="worker", **NO_COMPLETION).verdict == REJECT


def test_the_worst_finding_is_the_verdict():
    judged = Judgement()
    assert judged.verdict == REJECT
    for verdict in (AUTO, REVIEW, REJECT, QUARANTINE):
        judged.add(verdict, "RULE", "why")
        assert judged.verdict == verdict


@pytest.mark.parametrize(
    ("diff", "clean"),
    [
        (TableDiff("wanted", "modified", data=True, schema=False), True),
        (TableDiff("wanted", "modified", data=True, schema=True), False),
        (TableDiff("wanted", "modified", data=False, schema=True), False),
        (TableDiff("stamps", "dropped", data=True, schema=True), False),
        (TableDiff("stamps", "dropped", data=False, schema=False), False),
        (TableDiff("stamps", "renamed", data=False, schema=True), False),
        (TableDiff("extra", "added", data=True, schema=True), False),
        (TableDiff("extra", "added", data=True, schema=False), False),
        *((TableDiff(f"dolt_{name}", "modified", data=True, schema=False), False)
          for name in ("schemas", "procedures", "ignore", "query_catalog", "docs", "rebase", "tests")),
    ],
    ids=lambda value: f"{value.table} {value.kind}" if isinstance(value, TableDiff) else "",
)  # fmt: skip
def test_what_is_not_rows_of_a_table_is_found(diff, clean):
    found = objects([diff])
    assert (found == []) is clean
    assert all(diff.table in one for one in found)


def test_every_object_is_named():
    diffs = [
        TableDiff("dolt_schemas", "added", data=True, schema=True),
        TableDiff("b", "dropped", data=True, schema=True),
    ]
    assert len(objects(diffs)) == 2


def test_a_second_history_of_ones_own_chain_is_rejected():
    stamp, attestation = signed_stamp()
    _, other = signed_stamp()
    earlier = Envelope.from_columns(attestation["payload"], attestation["signatures"])
    rows = (ACCEPTED, validated(), added("stamps", stamp), added("wl_attestations", attestation))
    assert other["payload_sha256"] == attestation["payload_sha256"]
    assert verdict_of(*rows, attestations=lambda _handle, _places: [earlier]).verdict == AUTO
    again, second = signed_stamp(score=5)
    rows = (ACCEPTED, validated(), added("stamps", again), added("wl_attestations", second))
    judged = verdict_of(*rows, attestations=lambda _handle, _places: [earlier])
    assert judged.verdict == REJECT
    assert any("another history" in finding.detail for finding in judged.findings)
    assert verdict_of(*rows).verdict == AUTO


def test_of_an_authors_chain_only_the_places_that_are_added_are_asked_for():
    stamp, first = signed_stamp()
    asked = []

    def attestations(handle, places):
        asked.append((handle, set(places)))
        return []

    verdict_of(
        ACCEPTED, validated(), added("stamps", stamp), added("wl_attestations", first), attestations=attestations
    )
    assert asked == [("poster", {first["chain_seq"]})]


def test_an_attestation_may_not_name_somebody_elses_row():
    _, attestation = signed_stamp()
    alone = added("wl_attestations", attestation)
    assert verdict_of(alone).verdict == AUTO
    assert verdict_of(alone, stamp_authors={"s-1": "poster"}).verdict == AUTO
    assert verdict_of(alone, stamp_authors={"s-1": "val"}).verdict == REJECT
    theirs = (ACCEPTED, validated("val"), added("stamps", a_stamp(author="val")), alone)
    assert verdict_of(*theirs).verdict == REJECT


def test_one_completion_comes_with_one_done():
    done = changed("wanted", an_item(status="claimed", claimed_by="worker"), status="in_review", updated_at=T1)
    one, two = added("completions", a_completion()), added("completions", a_completion(id="c-2"))
    assert verdict_of(done, one, by="worker", completions={}).verdict == AUTO
    assert verdict_of(done, one, two, by="worker", completions={}).verdict == REJECT


def test_roles_are_not_founded_by_a_pull_request():
    document = roles_document()
    row = {"version": 1, **document.to_columns()}
    assert verdict_of(added("wl_roles", row), role_documents=[]).verdict == REJECT


@pytest.mark.parametrize(
    "change", [{"status": None}, {"status": "validated"}, {"id": "register/x"}, {"id": "w-\x1b[31m"}]
)
def test_an_item_needs_an_id_and_a_status_that_items_have(change):
    assert verdict_of(added("wanted", an_item())).verdict == AUTO
    assert verdict_of(added("wanted", an_item(**change))).verdict == REJECT


# leases


def a_lease(rig="worker", *, since=timedelta(0), renewed=None, lasting=timedelta(days=7), **changes):
    """A row of wl_leases of w-1, claimed `since` before noon; naive times, as the database gives them."""
    noon = NOON.replace(tzinfo=None)
    beat = noon - (since if renewed is None else renewed)
    row = {"wanted_id": "w-1", "rig": rig, "claimed_at": noon - since, "renewed_at": beat, "expires_at": beat + lasting}
    return row | changes


GONE = a_lease(since=timedelta(days=7, hours=1))  # it ended an hour ago
CLAIMED = an_item(status="claimed", claimed_by="worker")


def leased(lease=None, item=CLAIMED, **facts):
    """Upstream with a lease of w-1, at noon."""
    held = {"leases": {"w-1": lease}, "leased": {"w-1": item}} if lease else {}
    return {"now": NOON, "completions": {}, **held, **facts}


def take_over(by="stranger", **changes):
    return changed("wanted", CLAIMED, **{"claimed_by": by, "updated_at": T1} | changes)


TAKEN = take_over()
RENEWED = a_lease(since=timedelta(days=2), renewed=timedelta(0))
HALFWAY = a_lease(since=timedelta(days=2))
SENT_BACK = [REJECTED, removed("completions", a_completion())]
REVIEWED = {"completions": {"c-1": a_completion()}}


@pytest.mark.parametrize(
    ("rows", "by", "facts"),
    [
        ([CLAIM, added("wl_leases", a_lease())], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=timedelta(days=7)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=timedelta(minutes=-10)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(lasting=timedelta(0)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=timedelta(days=20), renewed=timedelta(days=1)))], "worker", leased()),
        ([CLAIM, changed("wl_leases", a_lease("val"), **a_lease())], "worker", leased(a_lease("val"))),
        ([*SENT_BACK, added("wl_leases", a_lease())], "poster", leased(**REVIEWED)),
        ([*SENT_BACK, changed("wl_leases", GONE, **a_lease())], "poster", leased(GONE, **REVIEWED)),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "worker", leased(HALFWAY)),
        ([changed("wl_leases", GONE, **(RENEWED | {"claimed_at": GONE["claimed_at"]}))], "worker", leased(GONE)),
        ([UNCLAIM, removed("wl_leases", a_lease())], "worker", leased(a_lease())),
        ([UNCLAIM, removed("wl_leases", a_lease())], "poster", leased(a_lease())),
        ([DONE, added("completions", a_completion()), removed("wl_leases", a_lease())], "worker", leased(a_lease())),
        ([ACCEPTED, removed("wl_leases", a_lease())], "poster", leased(a_lease(), **REVIEWED)),
        ([step("open", "withdrawn"), removed("wl_leases", a_lease())], "poster", leased(a_lease())),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("stranger"))], "stranger", leased(GONE)),
        ([take_over(status="open", claimed_by=None), removed("wl_leases", GONE)], "stranger", leased(GONE)),
        ([DONE, added("completions", a_completion())], "worker", leased(a_lease())),
        ([UNCLAIM], "worker", leased(a_lease())),
    ],
    ids=["claim", "claim of a week ago", "claim by a fast clock", "claim for no time", "claim renewed while it waits",
         "claim over what another left", "reject", "reject over what a peer left", "renew", "renew what has ended",
         "unclaim", "unclaim by poster", "done", "close", "delete", "takeover", "takeover and unclaim",
         "done by a peer", "unclaim by a peer"],
)  # fmt: skip
def test_a_lease_that_follows_the_claim_lands_by_itself(rows, by, facts):
    judged = verdict_of(*rows, by=by, **facts)
    assert judged.verdict == AUTO, judged.findings
    assert judged.actor == by


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("rows", "by", "facts"),
    [
        ([CLAIM, added("wl_leases", a_lease("stranger"))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(wanted_id="w-2"))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(lasting=timedelta(days=7, seconds=1)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=timedelta(days=7, seconds=1)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=timedelta(minutes=-11)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=DAY, renewed=timedelta(minutes=-11)))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(since=DAY, renewed=2 * DAY, lasting=5 * DAY))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(lasting=-DAY))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(expires_at=None))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease(expires_at="soon"))], "worker", leased()),
        ([CLAIM, added("wl_leases", a_lease())], "worker", NO_COMPLETION),
        ([CLAIM, removed("wl_leases", a_lease())], "worker", leased(a_lease())),
        ([added("wl_leases", a_lease())], "worker", leased()),
        ([added("wl_leases", a_lease())], "worker", leased(item=CLAIMED, leased={"w-1": CLAIMED})),
        ([removed("wl_leases", a_lease())], "worker", leased(a_lease())),
        ([removed("wl_leases", a_lease())], "stranger", leased(a_lease())),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "stranger", leased(HALFWAY)),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "poster", leased(HALFWAY)),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "worker", leased(HALFWAY, item=an_item())),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "worker", leased()),
        ([changed("wl_leases", HALFWAY, **RENEWED)], "worker", leased(HALFWAY, leased={})),
        ([changed("wl_leases", HALFWAY, rig="stranger")], "worker", leased(HALFWAY)),
        ([changed("wl_leases", HALFWAY, **(RENEWED | {"claimed_at": T1}))], "worker", leased(HALFWAY)),
        ([changed("wl_leases", RENEWED, **HALFWAY)], "worker", leased(RENEWED)),
        ([changed("wl_leases", HALFWAY, expires_at=T1 + 30 * DAY)], "worker", leased(HALFWAY)),
        ([changed("wl_leases", HALFWAY, expires_at="never")], "worker", leased(HALFWAY)),
        ([DONE, added("completions", a_completion()), changed("wl_leases", HALFWAY, **RENEWED)], "worker",
         leased(HALFWAY)),
        ([DONE, added("completions", a_completion()), added("wl_leases", a_lease())], "worker", leased()),
        ([*SENT_BACK, added("wl_leases", a_lease("poster"))], "poster", leased(**REVIEWED)),
        ([*SENT_BACK, removed("wl_leases", a_lease())], "poster", leased(a_lease(), **REVIEWED)),
        ([*SENT_BACK, added("wl_leases", a_lease(since=6 * DAY, lasting=DAY))], "poster", leased(**REVIEWED)),
        ([TAKEN], "stranger", leased(GONE)),
        ([TAKEN, removed("wl_leases", GONE)], "stranger", leased(GONE)),
        ([TAKEN, changed("wl_leases", GONE, **a_lease())], "stranger", leased(GONE)),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("stranger"))], "stranger", leased(HALFWAY)),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("stranger"))], "stranger", leased(GONE, now=NOON - DAY)),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("stranger"))], "stranger", leased()),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("val"))], "stranger", leased(GONE)),
        ([TAKEN, changed("wl_leases", GONE, **a_lease("stranger", lasting=8 * DAY))], "stranger", leased(GONE)),
        ([take_over("val"), changed("wl_leases", GONE, **a_lease("val"))], "stranger", leased(GONE)),
    ],
    ids=[
        "claim for another", "claim of another item", "too long", "too old", "still to come", "renewed in time to come",
        "renewed before it was claimed", "ends before it begins", "without an end", "end is text", "no clock",
        "claim that removes", "no claim", "no claim and no lease", "removed by the holder", "removed by a stranger",
        "renew by a stranger", "renew by the poster", "renew of an open item", "renew of what upstream has not",
        "renew of what upstream does not know", "give away", "claimed anew", "turned back", "made longer",
        "end becomes text", "done that renews", "done that leases", "reject for the poster", "reject that removes",
        "reject with what has ended",
        "takeover without a lease", "takeover that removes", "takeover that leaves the holder",
        "takeover of a running lease", "takeover too early", "takeover without upstream's lease",
        "takeover that leases to another", "takeover for too long", "takeover for another",
    ],
)  # fmt: skip
def test_a_lease_that_breaks_a_rule_is_rejected(rows, by, facts):
    judged = verdict_of(*rows, by=by, **facts)
    assert judged.verdict == REJECT, judged.findings
    assert {f.rule for f in judged.findings if f.verdict == REJECT} & {"LEASE", "WANT-STEP", "G-CELL"}


def test_why_a_lease_is_rejected_is_said():
    judged = verdict_of(CLAIM, added("wl_leases", a_lease(lasting=8 * DAY)), by="worker", **leased())
    assert [f.detail for f in judged.findings if f.rule == "LEASE"] == [
        "the lease of w-1 cannot be true: it holds longer than 7 d"
    ]


def test_a_claim_without_a_lease_is_a_peers_and_lands():
    assert verdict_of(CLAIM, by="worker", **leased()).verdict == AUTO


def test_the_limit_of_a_lease_is_that_of_its_item():
    item = an_item(effort_level="trivial")
    claim = changed("wanted", item, status="claimed", claimed_by="worker", updated_at=T1)
    assert verdict_of(claim, added("wl_leases", a_lease(lasting=DAY)), by="worker", **leased()).verdict == AUTO
    assert verdict_of(claim, added("wl_leases", a_lease(lasting=2 * DAY)), by="worker", **leased()).verdict == REJECT
    small = a_lease(since=DAY, lasting=DAY)
    renewed = changed("wl_leases", small, renewed_at=T1, expires_at=T1 + 2 * DAY)
    facts = leased(small, item | {"status": "claimed", "claimed_by": "worker"})
    assert verdict_of(renewed, by="worker", **facts).verdict == REJECT


def test_the_lease_names_the_rig_that_acts_where_an_owner_has_several():
    rigs = {name: a_rig(name) for name in ORGS} | {"a-bot": a_rig("a-bot", dolthub_org="worker-org")}
    judged = verdict_of(changed("wl_leases", HALFWAY, **RENEWED), by="worker", **leased(HALFWAY, rigs=rigs))
    assert (judged.actor, judged.verdict) == ("worker", AUTO), judged.findings
