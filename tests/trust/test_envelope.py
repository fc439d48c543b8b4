"""The signing design against its worked vectors, and what must never verify."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from wasteland.errors import BadSignature
from wasteland.local.keys import verify_signature as check
from wasteland.trust import envelope as attest
from wasteland.trust import statements
from wasteland.trust.authors import Authors
from wasteland.trust.binding import ChainState, Signed, check_chain, check_completion_row, check_stamp_row
from wasteland.trust.envelope import Envelope, canonical, parse
from wasteland.trust.registry import Undecided, read_key_log, read_roles
from wasteland.trust.statements import Link, Party
from wasteland.trust.verification import Context, Verdict, verify_completion, verify_stamp

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEYS = {name: bytes.fromhex(key["public_hex"]) for name, key in VECTORS["keys"].items()}
WASTELAND = VECTORS["wasteland_id"]
STAMPS = [Envelope.from_dsse(one["envelope"]) for one in VECTORS["stamps"]]
COMPLETION = Envelope.from_dsse(VECTORS["completion"]["envelope"])
EVENTS = [Envelope.from_dsse(one["envelope"]) for one in VECTORS["key_events"]]
WANTED = VECTORS["wanted"]["fields"]
STAMP_ROW = VECTORS["stamps"][0]["row"]
# The published vector repeats the first stamp's block_hash in the second row.
SECOND_ROW = VECTORS["stamps"][1]["row"] | {"block_hash": STAMPS[1].sha256}
COMPLETION_ROW = {
    "id": "c-9fdee79ca0f60cac",
    "wanted_id": WANTED["id"],
    "completed_by": "alice",
    "evidence": VECTORS["evidence_manifest"]["object"]["uri"],
    "completed_at": datetime(2026, 3, 1, 12),
    "block_hash": COMPLETION.sha256,
}


def signed(statement, who, *more):
    from wasteland.local.keys import Key, sign_statement

    made = [
        sign_statement(
            Key(one, VECTORS["keys"][one]["did"], KEYS[one], "", bytes.fromhex(VECTORS["keys"][one]["seed_hex"])),
            statement,
        )
        for one in (who, *more)
    ]
    return replace(made[0], signatures=tuple(s for one in made for s in one.signatures))


def inception(who, handle, following=b"next", wasteland=WASTELAND):
    statement = statements.key_event_statement(
        wasteland=wasteland,
        handle=handle,
        public=KEYS[who],
        next_sha256=attest.sha256(following),
        dolthub_org=handle,
        issued_at=datetime(2026, 2, 1, tzinfo=UTC),
    )
    return signed(statement, who)


def a_context(**changes):
    loaded = {
        "wasteland": WASTELAND,
        "key_events": EVENTS[:1],
        "chain": STAMPS,
        "worker_key_events": [inception("alice0", "alice")],
    }
    loaded |= {name: changes.pop(name) for name in list(changes) if name in loaded}
    keys = {"maint": loaded["key_events"], "alice": loaded["worker_key_events"]}
    made = Context(
        authors=Authors(
            loaded["wasteland"], lambda handle: keys.get(handle, loaded["key_events"]), lambda _: loaded["chain"], check
        ),
        row=STAMP_ROW,
        attestations=[STAMPS[0]],
        wanted=WANTED,
        completion=COMPLETION_ROW,
        completion_attestations=[COMPLETION],
    )
    return replace(made, **changes)


def a_stamp(**changes):
    said = VECTORS["stamps"][0]["statement"]["predicate"]
    made = {
        "wasteland": WASTELAND,
        "stamp_id": said["stamp_id"],
        "author": Party(**said["author"]),
        "rig": Party(**said["rig"]),
        "scores": {dim: (one["score"], one["confidence"]) for dim, one in said["scores"].items()},
        "confidence": 700,
        "severity": "branch",
        "completion": COMPLETION_ROW["id"],
        "completion_sha256": COMPLETION.sha256,
        "wanted": WANTED["id"],
        "wanted_sha256": VECTORS["wanted"]["sha256"],
        "evidence_sha256": VECTORS["evidence_manifest"]["sha256"],
        "commit": "2" * 40,
        "skill_tags": ["go", "federation"],
        "message": STAMP_ROW["message"],
        "issued_at": datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC),
        "chain": Link(0),
    }
    return statements.stamp_statement(**made | changes)


@pytest.mark.parametrize("name", KEYS)
def test_a_key_and_its_did_name_each_other(name):
    assert attest.did_key(KEYS[name]) == VECTORS["keys"][name]["did"]
    assert attest.public_of(VECTORS["keys"][name]["did"]) == KEYS[name]


def test_no_small_order_key_has_a_name_or_verifies_anything():
    assert len(attest.SMALL_ORDER) == 14
    for public in attest.SMALL_ORDER:
        with pytest.raises(BadSignature, match="small order"):
            attest.did_key(public)
        assert not check(public, b"", public + bytes(32))
        with pytest.raises(BadSignature):
            attest.verify_envelope(STAMPS[0], [public], lambda *_: True)


@pytest.mark.parametrize("did", ["", "did:key:z", "did:web:x", "did:key:z6Mk0OIl" + "1" * 40, "did:key:z1" + "6" * 47])
def test_what_is_no_did_key_is_refused(did):
    with pytest.raises(BadSignature):
        attest.public_of(did)


def test_digests_of_wanted_and_evidence_are_those_of_the_vectors():
    assert statements.wanted_digest(WANTED) == VECTORS["wanted"]["sha256"]
    assert statements.wanted_digest(WANTED | {"tags": '["go", "federation"]'}) == VECTORS["wanted"]["sha256"]
    manifest = VECTORS["evidence_manifest"]
    assert canonical(manifest["object"]).decode() == manifest["canonical_utf8"]
    assert statements.manifest_digest(manifest["object"]) == manifest["sha256"]


def test_text_evidence_has_the_digest_of_its_text_and_a_uri_only_if_it_is_one():
    assert statements.text_manifest("done")["uri"] == ""
    assert statements.text_manifest("https://x.org/1")["uri"] == "https://x.org/1"
    assert statements.text_manifest("é")["sha256"] == attest.sha256("é".encode())


def test_builders_make_the_payloads_of_the_vectors():
    said = VECTORS["completion"]["statement"]["predicate"]
    done = statements.completion_statement(
        wasteland=WASTELAND,
        completion=said["completion"],
        author=Party(**said["author"]),
        wanted=said["wanted"],
        wanted_sha256=said["wanted_sha256"],
        evidence=said["evidence"],
        sandbox_level="bwrap",
        sandbox_network="none",
        issued_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        chain=Link(0),
    )
    assert canonical(done) == COMPLETION.payload
    assert canonical(a_stamp()) == STAMPS[0].payload
    assert signed(a_stamp(), "maint0") == STAMPS[0]
    assert STAMPS[0].sha256 == VECTORS["stamps"][0]["payload_sha256_block_hash"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_stamp_envelope_is_the_vector_and_survives_both_of_its_forms(number):
    vector, envelope = VECTORS["stamps"][number], STAMPS[number]
    assert attest.pae(envelope.payload_type, envelope.payload).hex() == vector["pae_hex"]
    assert attest.verify_envelope(envelope, [KEYS["maint0"]], check) == vector["statement"]
    assert envelope.to_dsse() == vector["envelope"]
    assert Envelope.from_columns(**envelope.to_columns()) == envelope


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=lambda one: one["name"])
def test_every_negative_vector_is_refused(vector):
    because = vector["because"].removeprefix("ValueError: ")
    known = {
        "payload is not in canonical (JCS) form": "canonical",
        "float": "not an integer",
        "duplicate key '_type'": "twice",
    }
    with pytest.raises(BadSignature, match=known.get(because, because)):
        attest.verify_envelope(Envelope.from_dsse(vector["envelope"]), [KEYS["maint0"]], check)


def test_the_vector_inception_and_rotation_are_a_key_log():
    log = read_key_log(reversed(EVENTS), "maint", WASTELAND, check)
    assert [key.public for key in log.keys] == [KEYS["maint0"], KEYS["maint1"]]
    assert [key.last_good for key in log.keys] == [1, None]
    assert EVENTS[0].sha256 == VECTORS["key_events"][0]["payload_sha256"]


@pytest.mark.parametrize(("handle", "wasteland"), [("ada", WASTELAND), ("maint", "urn:uuid:other")])
def test_an_inception_is_for_one_handle_in_one_wasteland(handle, wasteland):
    with pytest.raises(BadSignature, match="another handle or wasteland"):
        read_key_log(EVENTS[:1], handle, wasteland, check)


# Characters that JSON writers treat differently; all of Unicode takes Hypothesis seconds to prepare.
ODD = 'a0"\\/\n\x00\x1f\x7fé\u2028\ufb01\U0001f600'
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(ODD, max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abAB_:~ ", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abz", max_size=3), json_values, max_size=4))
def test_what_is_canonical_parses_to_itself(value):
    assert parse(canonical(value)) == value


@given(st.dictionaries(st.text("abz", max_size=3), json_values, max_size=4))
def test_what_is_canonical_is_what_another_program_writes(value):
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [1.0, 2**53, {"é": 1}, {1: 1}, b"x", "\ud800", {"a": {"\n": 1}}])
def test_what_the_profile_leaves_out_is_not_canonical(value):
    with pytest.raises(BadSignature):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 9000,
        b"[]",
        b"\xff",
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":9' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_not_exactly_canonical_is_not_parsed(data):
    with pytest.raises(BadSignature):
        parse(data)


@given(st.integers(0, len(STAMPS[0].payload) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_payload_verifies(at, by):
    payload = bytearray(STAMPS[0].payload)
    payload[at] ^= by
    with pytest.raises(BadSignature):
        attest.verify_envelope(replace(STAMPS[0], payload=bytes(payload)), [KEYS["maint0"]], check)


@given(st.sampled_from(sorted(STAMP_ROW)), st.one_of(st.text(ODD, max_size=5), st.integers(), st.floats(), st.none()))
def test_no_changed_field_of_a_row_verifies(column, value):
    report = verify_stamp(a_context(row=STAMP_ROW | {column: value}))
    redacted = column == "message" and value is None
    same = STAMP_ROW[column] == value
    assert (report.verdict is Verdict.VERIFIED) == (redacted or same)


def test_a_row_as_mysql_gives_it_matches():
    row = STAMP_ROW | {
        "valence": json.dumps(STAMP_ROW["valence"]),
        "skill_tags": '["go", "federation"]',
        "confidence": Decimal("0.7"),
        "created_at": datetime(2026, 3, 1, 12, 34, 56),
    }
    statement = VECTORS["stamps"][0]["statement"]
    assert check_stamp_row(statement, row) == []
    assert check_stamp_row(statement, row | {"confidence": 0.699999988079071}) == []
    assert check_stamp_row(statement, row | {"valence": STAMP_ROW["valence"] | {"volume": 5}}) == ["valence"]
    assert check_stamp_row(statement, {}) != []
    assert check_stamp_row(VECTORS["stamps"][1]["statement"], VECTORS["stamps"][1]["row"]) == ["block_hash"]


def test_a_completion_row_is_bound_to_what_the_worker_signed():
    statement = VECTORS["completion"]["statement"]
    assert check_completion_row(statement, COMPLETION_ROW) == []
    for column in COMPLETION_ROW:
        assert check_completion_row(statement, COMPLETION_ROW | {column: "x"}) == [column]


def a_chain(length):
    prev = attest.ZERO
    for seq in range(length):
        yield Signed(seq, prev, attest.sha256(b"%d" % seq))
        prev = attest.sha256(b"%d" % seq)


@given(st.permutations(list(a_chain(6))))
def test_the_order_in_which_links_are_read_does_not_matter(links):
    assert check_chain(links) == dict.fromkeys(range(6), ChainState.OK)


@given(st.integers(0, 4))
def test_after_a_gap_nothing_is_decided(gap):
    states = check_chain(link for link in a_chain(6) if link.seq != gap)
    assert all((state is ChainState.MISSING) == (seq > gap) for seq, state in states.items())


@given(st.integers(0, 5), st.randoms())
def test_two_payloads_in_one_place_are_an_equivocation(fork, random):
    links = list(a_chain(6))
    links.append(links[fork]._replace(sha256="f" * 64))
    random.shuffle(links)
    found = {seq for seq, state in check_chain(links).items() if state is ChainState.EQUIVOCATION}
    assert found == {fork}


def test_a_link_onto_another_history_accuses_both_places():
    links = list(a_chain(3))
    links[2] = links[2]._replace(prev="f" * 64)
    assert check_chain(links) == {0: ChainState.OK, 1: ChainState.EQUIVOCATION, 2: ChainState.EQUIVOCATION}


def test_the_vector_stamp_is_verified_and_told_in_order():
    report = verify_stamp(a_context())
    assert report.verdict is Verdict.VERIFIED
    assert report.verdict.exit_code == 0
    names = ["wasteland", "signature", "payload", "row", "chain", "context", "evidence", "log", "scores"]
    assert [one.name for one in report.checks] == names
    assert "  row         14/14 columns match" in report.lines()
    assert "  log         not in a checkpoint (pending)" in report.lines()


def test_the_second_stamp_stands_on_the_first():
    second = {"row": SECOND_ROW, "attestations": [STAMPS[1]]}
    assert verify_stamp(a_context(**second)).verdict is Verdict.VERIFIED
    assert verify_stamp(a_context(**second, chain=[])).verdict is Verdict.UNDECIDED


def test_the_vector_completion_is_verified():
    context = a_context(row=COMPLETION_ROW, attestations=[COMPLETION], chain=[])
    assert verify_completion(context).verdict is Verdict.VERIFIED
    changed = replace(context, row=COMPLETION_ROW | {"evidence": "https://elsewhere"})
    assert verify_completion(changed).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"attestations": [], "row": STAMP_ROW | {"block_hash": None}}, Verdict.UNSIGNED),
        ({"attestations": []}, Verdict.UNDECIDED),
        ({"key_events": []}, Verdict.UNDECIDED),
        ({"key_events": EVENTS[1:]}, Verdict.UNDECIDED),
        ({"key_events": [EVENTS[0], inception("alice0", "maint")]}, Verdict.INVALID),
        ({"key_events": [inception("alice0", "maint")]}, Verdict.INVALID),
        (
            {"wasteland": "urn:uuid:other", "key_events": [inception("maint0", "maint", wasteland="urn:uuid:other")]},
            Verdict.INVALID,
        ),
        ({"wanted": None}, Verdict.UNDECIDED),
        ({"wanted": WANTED | {"title": "x"}}, Verdict.INVALID),
        ({"completion": None}, Verdict.UNDECIDED),
        ({"completion": COMPLETION_ROW | {"completed_by": "bob"}}, Verdict.INVALID),
        ({"completion_attestations": []}, Verdict.UNDECIDED),
        ({"worker_key_events": []}, Verdict.UNDECIDED),
        ({"chain": [signed(a_stamp(severity="root"), "maint0")]}, Verdict.INVALID),
        ({"chain": [signed(a_stamp(severity="root"), "alice0")]}, Verdict.VERIFIED),
        ({"key_events": EVENTS}, Verdict.VERIFIED),
    ],
)
def test_what_is_missing_is_undecided_and_what_is_wrong_is_invalid(changes, verdict):
    assert verify_stamp(a_context(**changes)).verdict is verdict


def test_a_stamp_after_the_last_good_one_of_a_revoked_key_is_invalid():
    late = signed(a_stamp(chain=Link(2, STAMPS[1].sha256)), "maint0")
    row = STAMP_ROW | {"block_hash": late.sha256}
    late_one = {"row": row, "attestations": [late]}
    assert verify_stamp(a_context(**late_one, key_events=EVENTS)).verdict is Verdict.INVALID
    assert verify_stamp(a_context(**late_one, key_events=EVENTS[:1])).verdict is Verdict.VERIFIED


def a_roles(version, root, prev=attest.ZERO):
    party = Party(root, VECTORS["keys"][root]["did"])
    when = datetime(2026, 1, version, tzinfo=UTC)
    return statements.roles_statement(
        wasteland=WASTELAND, version=version, root=[party], maintainer=[party], validator=[], issued_at=when, prev=prev
    )


def test_roles_go_on_by_the_hand_of_the_version_before():
    first = signed(a_roles(1, "maint0"), "maint0")
    second = signed(a_roles(2, "alice0", first.sha256), "maint0")
    roles = read_roles([second, first], WASTELAND, check, pinned=first.sha256)
    assert roles["roles"]["root"][0]["handle"] == "alice0"
    usurped = signed(a_roles(2, "alice0", first.sha256), "alice0")
    for wrong in ([first, usurped], [second], [first, signed(a_roles(3, "maint0", first.sha256), "maint0")]):
        with pytest.raises(BadSignature):
            read_roles(wrong, WASTELAND, check)
    with pytest.raises(BadSignature, match="pinned"):
        read_roles([first], WASTELAND, check, pinned="0" * 64)


@settings(max_examples=50)
@given(st.text(ODD, max_size=40))
def test_what_is_no_envelope_is_refused(text):
    with pytest.raises(BadSignature):
        Envelope.from_dsse(text)
    with pytest.raises(BadSignature):
        Envelope.from_columns("{}", text)


def test_no_key_event_is_undecided_not_forged():
    with pytest.raises(Undecided):
        read_key_log([], "maint", WASTELAND, check)


@pytest.mark.parametrize("column", ["id", "author", "subject", "severity", "context_id", "context_type", "block_hash"])
def test_a_column_of_a_stamp_that_differs_is_named(column):
    assert check_stamp_row(VECTORS["stamps"][0]["statement"], STAMP_ROW | {column: "x"}) == [column]


@pytest.mark.parametrize("dim", ["quality", "quality_confidence"])
def test_scores_and_confidences_are_bound(dim):
    valence = STAMP_ROW["valence"] | {dim: 0}
    found = check_stamp_row(VECTORS["stamps"][0]["statement"], STAMP_ROW | {"valence": valence})
    assert [name.split()[0] for name in found] == ["valence"]


def test_evidence_that_is_no_text_matches_nothing():
    from wasteland.trust.binding import evidence_matches
    from wasteland.trust.statements import text_manifest

    assert not evidence_matches(text_manifest("x"), None)


@pytest.mark.parametrize("change", [{"_type": "https://in-toto.io/Statement/v0.1"}, {"predicateType": "urn:x:other:v1"},
                                    {"predicate": {}}, {"subject": []}])  # fmt: skip
def test_a_statement_of_another_shape_is_none_of_ours(change):
    statement = VECTORS["stamps"][0]["statement"]
    assert attest.checked_statement(statement) == statement
    with pytest.raises(BadSignature):
        attest.checked_statement(statement | change)
