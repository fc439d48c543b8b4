"""What a pull request may change: row diffs in, findings out.  Pure; rules read `lifecycle`.

This judges by the object check, the lifecycle table and ownership at
upstream.  Limits, trust levels and rules about text get their place here.

Everything is read from upstream's own data at the merge base's side: the
actor is the owner of the fork, never a column of the fork.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wasteland.errors import BadSignature, Refused
from wasteland.models import RowDiff, TableDiff, loaded, unsound
from wasteland.rules.lease import Lease, bad_times
from wasteland.rules.lifecycle import (
    BY_VERB,
    CLAIMED,
    COMPLETED,
    IN_REVIEW,
    LEASE_ENDS,
    LEASE_GIVEN,
    OPEN,
    WITHDRAWN,
    Item,
    Transition,
    forbidden,
    handle_key,
    path,
    same_person,
)
from wasteland.text import NAME
from wasteland.trust.binding import ChainState, Signed, check_chain, check_completion_row, check_stamp_row, signed_link
from wasteland.trust.envelope import COMPLETION, STAMP, Check, Envelope, kind_of, parse, public_of, verify_envelope
from wasteland.trust.registry import read_key_log, read_roles
from wasteland.trust.statements import attestation_row, key_event_row

QUARANTINE, REJECT, REVIEW, AUTO = "quarantine", "reject", "review", "auto"
ORDER = (AUTO, REVIEW, REJECT, QUARANTINE)
ROWS = 2000  # of one proposal, at most: nobody looks through more
PROFILE = frozenset({"display_name", "hop_uri", "owner_email", "gt_version", "last_seen"})
ITEM_ID = re.compile(r"w-[A-Za-z0-9][A-Za-z0-9-]{0,61}\Z")
STATUSES = frozenset({OPEN, CLAIMED, IN_REVIEW, COMPLETED, WITHDRAWN})
RESERVED = frozenset({"register"})  # wl/register/… is where registrations are
VALIDATION = frozenset({"validated_by", "stamp_id", "validated_at"})
SEVERITIES = ("leaf", "branch", "root")


@dataclass(frozen=True)
class Finding:
    """What a rule says of one row or table: its verdict, the rule's name, and a sentence."""

    verdict: str
    rule: str
    detail: str


@dataclass(frozen=True)
class Upstream:
    """What the rules read of upstream: rows at its main, by id."""

    wasteland: str
    rigs: Mapping[str, Mapping[str, Any]]
    completions: Mapping[str, Mapping[str, Any]]
    roles: Callable[[str], frozenset[str]]
    key_events: Callable[[str], Sequence[Envelope]]
    role_documents: Sequence[Envelope] = ()
    attestations: Callable[[str], Sequence[Envelope]] = lambda _: ()
    stamp_authors: Mapping[str, str] = field(default_factory=dict)
    leases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # rows of wl_leases, by item
    leased: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # and the rows of `wanted` that they are of
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)  # no lease has ended by then, and none may be written


@dataclass
class Judgement:
    """All findings about one pull request; `steps` are the item's transitions it holds."""

    findings: list[Finding] = field(default_factory=list)
    steps: dict[str, list[Transition]] = field(default_factory=dict)
    actor: str | None = None

    @property
    def verdict(self) -> str:
        """The worst of all findings; `reject` for a change that holds nothing."""
        return max((f.verdict for f in self.findings), key=ORDER.index, default=REJECT)

    def add(self, verdict: str, rule: str, detail: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(verdict, rule, detail))


def objects(tables: Iterable[TableDiff]) -> list[str]:
    """What a diff carries besides rows of ordinary tables, as sentences; empty where it is clean."""
    found = []
    for diff in tables:
        if diff.table.startswith("dolt_"):
            found.append(f"system table {diff.table} {diff.kind}")
        elif diff.schema or diff.kind in ("dropped", "renamed", "added"):
            found.append(f"the schema of {diff.table} {'changed' if diff.kind == 'modified' else 'was ' + diff.kind}")
    return found


def judge(rows: Sequence[RowDiff], org: str, upstream: Upstream, check: Check) -> Judgement:
    """The verdict on the net rows of a pull request from the fork of `org`."""
    verdict = Judgement()
    by_table: dict[str, list[RowDiff]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    for row in rows:
        if row.new is not None and (bad := unsound(row.new)):
            verdict.add(REJECT, "G-CELL", f"{row.table} {row.key} has no sound {', '.join(bad)}")
    if verdict.findings:
        return verdict  # what is below reads these columns
    _rigs(by_table.pop("rigs", []), org, upstream, verdict)
    actor = _actor(rows, org, upstream)
    verdict.actor = actor
    if actor is None and by_table:
        verdict.add(REJECT, "OWNER", f"no rig of {org} is registered upstream, and this does not register one")
        return verdict
    who = actor or ""
    items = by_table.pop("wanted", [])
    _items(items, by_table, who, upstream, verdict)
    _completions(by_table.pop("completions", []), who, rows, verdict)
    _leases(by_table.pop("wl_leases", []), who, items, upstream, verdict)
    _stamps(by_table.pop("stamps", []), who, rows, upstream, verdict)
    _key_events(by_table.pop("wl_key_events", []), who, upstream, check, verdict)
    _attestations(by_table.pop("wl_attestations", []), who, rows, upstream, check, verdict)
    _roles(by_table.pop("wl_roles", []), upstream, check, verdict)
    for table in sorted(by_table):
        verdict.add(REJECT, "G-UNKNOWN", f"rows of {table} are not for pull requests")
    return verdict


def _actor(rows: Sequence[RowDiff], org: str, upstream: Upstream) -> str | None:
    """The handle that acts: the fork owner's rig that the rows speak of, else its only or first one."""
    own = sorted(h for h, rig in upstream.rigs.items() if rig.get("dolthub_org") == org)
    own += [
        str(r.row["handle"])
        for r in rows
        if r.table == "rigs" and r.kind == "added" and r.row.get("dolthub_org") == org
    ]
    named = {
        str(value)
        for row in rows
        for column, value in row.row.items()
        if column in ("claimed_by", "posted_by", "completed_by", "author", "signer", "handle", "validated_by", "rig")
    }
    return next((handle for handle in own if handle in named), own[0] if own else None)


def _rigs(rows: Sequence[RowDiff], org: str, upstream: Upstream, verdict: Judgement) -> None:
    taken = {handle_key(handle): handle for handle in upstream.rigs}
    for row in rows:
        handle = str(row.row.get("handle"))
        if row.kind == "added":
            why = _new_rig(row.row, handle, org, upstream, taken)
            taken.setdefault(handle_key(handle), handle)
            verdict.add(REJECT if why else REVIEW, "RIG-ADD", why or f"registers {handle}")
        elif row.kind == "modified" and (row.old or {}).get("dolthub_org") == org and row.columns <= PROFILE:
            verdict.add(AUTO, "RIG-SELF", f"{handle} changes its own profile")
        else:
            columns = ", ".join(sorted(row.columns))
            verdict.add(REJECT, "RIG-OTHER", f"{org} may not {row.kind.removesuffix('d')} {columns} of rig {handle}")


def _new_rig(row: Mapping[str, Any], handle: str, org: str, upstream: Upstream, taken: Mapping[str, str]) -> str | None:
    if row.get("dolthub_org") != org:
        return f"{handle} is registered for {row.get('dolthub_org')}, but the fork is {org}'s"
    if not NAME.match(handle) or handle in RESERVED:
        return f"the handle {handle} is none that rigs have"
    twin = taken.get(handle_key(handle))
    if twin is not None:
        return f"the handle {handle} can be taken for {twin}"
    if (row.get("trust_level") or 0) > 1:
        return f"{handle} gives itself trust level {row.get('trust_level')}"
    parent = row.get("parent_rig")
    if parent and upstream.rigs.get(parent, {}).get("dolthub_org") != org:
        return f"{handle} names a parent that is not {org}'s"
    return None


def _items(
    rows: Sequence[RowDiff],
    rest: Mapping[str, list[RowDiff]],
    actor: str,
    upstream: Upstream,
    verdict: Judgement,
) -> None:
    roles = upstream.roles(actor)
    for row in rows:
        item_id = str(row.row.get("id"))
        if row.new is None:
            verdict.add(REJECT, "WANT-GONE", f"{item_id} is deleted; items are withdrawn, not removed")
            continue
        if row.new.get("status") not in STATUSES or not ITEM_ID.match(item_id):
            verdict.add(REJECT, "WANT-STEP", f"{item_id} is no id of an item, or its status is none that items have")
            continue
        done = [c for c in upstream.completions.values() if c.get("wanted_id") == item_id]
        worker = str(done[-1]["completed_by"]) if done else None
        try:
            lease = Lease.of(upstream.leases.get(item_id))
            steps = path(row.old, row.new, actor, roles, worker, lease, upstream.now)
        except Refused as error:
            verdict.add(REJECT, "WANT-STEP", error.message)
            continue
        stamped = any(_about(r, item_id) for r in rest.get("completions", []) if r.kind == "modified")
        if steps[-1].verb == "accept" and not stamped:
            steps = [*steps[:-1], BY_VERB["close"]]
            why = forbidden(steps[-1], actor, roles, Item.of(row.old or row.new, worker))
            if why:
                verdict.add(REJECT, "WANT-STEP", why)
                continue
        verdict.steps[item_id] = steps
        missing = _missing_rows(item_id, steps, rest)
        verbs = ", ".join(step.verb for step in steps)
        verdict.add(REJECT if missing else AUTO, "WANT-STEP", missing or f"{actor}: {verbs} {item_id}")


def _about(row: RowDiff, item_id: str) -> bool:
    return row.row.get("wanted_id") == item_id


def _missing_rows(item_id: str, steps: list[Transition], rest: Mapping[str, list[RowDiff]]) -> str | None:
    """Why the rows that must come with the steps are not there; None where they are."""
    found = sorted(row.kind for row in rest.get("completions", []) if _about(row, item_id))
    wanted_rows: frozenset[str] = frozenset().union(*(step.rows for step in steps))
    expected = sorted(
        kind
        for mark, kind in (("+completions", "added"), ("~completions", "modified"), ("-completions", "removed"))
        if mark in wanted_rows
    )
    if found != expected:
        return f"{item_id} must come with one completion that is {' and '.join(expected) or 'left as it is'}"
    if "+stamps" in wanted_rows and not rest.get("stamps"):
        return f"{item_id} is completed without a stamp by a rig that may only accept"
    return None


def _completions(rows: Sequence[RowDiff], actor: str, everything: Sequence[RowDiff], verdict: Judgement) -> None:
    for row in rows:
        said, item_id = row.row, str(row.row.get("wanted_id"))
        verbs = {step.verb for step in verdict.steps.get(item_id, [])}
        if row.kind == "added":
            honest = said.get("completed_by") == actor and not any(said.get(name) for name in VALIDATION)
            ok, rule = (
                "done" in verbs and honest and not _unlike_signed(row, everything, check_completion_row),
                "COMP-ADD",
            )
        elif row.kind == "modified":
            fresh = not (row.old or {}).get("stamp_id") and _stamped_here(said, everything)
            honest = row.columns <= VALIDATION and said.get("validated_by") == actor
            ok, rule = "accept" in verbs and honest and fresh, "COMP-VALIDATE"
        else:
            ok, rule = "reject" in verbs and not said.get("stamp_id"), "COMP-REJECTED"
        verdict.add(AUTO if ok else REJECT, rule, f"completion {said.get('id')} of {item_id} {row.kind} by {actor}")


def _leases(
    rows: Sequence[RowDiff], actor: str, wanted: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> None:
    changed = {str(row.row.get("wanted_id")) for row in rows}
    for item_id, steps in verdict.steps.items():
        if steps[-1].verb == "takeover" and item_id not in changed:
            verdict.add(REJECT, "LEASE", f"{item_id} is taken over, but its lease is not")
    items = {str(row.row.get("id")): row.row for row in wanted}
    for row in rows:
        item_id = str(row.row.get("wanted_id"))
        steps = verdict.steps.get(item_id, [])
        if steps:
            why = _bad_lease(row, actor, steps[-1], items[item_id], upstream)
        else:
            why = _bad_renewal(row, actor, item_id, upstream)
        verdict.add(REJECT if why else AUTO, "LEASE", why or f"the lease of {item_id} is {row.kind} by {actor}")


def _bad_lease(row: RowDiff, actor: str, step: Transition, item: Mapping[str, Any], upstream: Upstream) -> str | None:
    """Why a lease may not be what it is after `step`, the last one of its item; None where it may."""
    what = f"the lease of {item.get('id')}"
    if row.new is None:
        return None if step.rows & LEASE_ENDS else f"{what} is removed, which {step.words} does not do"
    if not step.rows & LEASE_GIVEN:
        return f"{what} is {row.kind}, which {step.words} does not do"
    made = Lease.of(row.new)
    if made is None or made.rig != item.get("claimed_by"):
        return f"{what} is not one of its claimer"
    wrong = bad_times(made, item.get("effort_level"), upstream.now)
    if wrong is None and actor != made.rig and made.expires_at <= upstream.now:
        wrong = "it has ended already, and is given to another"
    return f"{what} cannot be true: {wrong}" if wrong else None


def _bad_renewal(row: RowDiff, actor: str, item_id: str, upstream: Upstream) -> str | None:
    """Why a lease may not be changed while its item stays as it is upstream; None where its holder renews it."""
    what = f"the lease of {item_id}"
    item, before = upstream.leased.get(item_id), Lease.of(upstream.leases.get(item_id))
    made = Lease.of(row.new)
    if item is None or before is None or made is None:
        return f"{what} is {row.kind} without a step of the item"
    why = forbidden(BY_VERB["renew"], actor, (), Item.of(item, None, before, upstream.now))
    if why:
        return why
    if not row.columns <= {"renewed_at", "expires_at"} or made.renewed_at < before.renewed_at:
        return f"{what} may only be renewed"
    wrong = bad_times(made, item.get("effort_level"), upstream.now)
    return f"{what} cannot be true: {wrong}" if wrong else None


def _stamped_here(completion: Mapping[str, Any], everything: Sequence[RowDiff]) -> bool:
    """Whether the stamp that a completion names is added here and is about it."""
    return any(
        (row.row.get("id"), row.row.get("context_id")) == (completion.get("stamp_id"), completion.get("id"))
        for row in everything
        if row.table == "stamps" and row.kind == "added"
    )


def _signed_as(row: RowDiff, everything: Sequence[RowDiff]) -> Mapping[str, Any] | None:
    """The statement added here that a row names as its own; its signature is judged with the attestations."""
    for one in everything:
        if (
            one.table == "wl_attestations"
            and one.kind == "added"
            and one.row.get("payload_sha256") == row.row.get("block_hash")
        ):
            try:
                return parse(str(one.row.get("payload")).encode())
            except (BadSignature, UnicodeEncodeError):
                return None
    return None


def _unlike_signed(
    row: RowDiff, everything: Sequence[RowDiff], compare: Callable[[Any, Mapping[str, Any]], list[str]]
) -> list[str]:
    """The columns that differ from what the row's own attestation says; empty where they agree or there is none."""
    said = _signed_as(row, everything)
    if said is None:
        return []
    try:
        return compare(said, row.row)
    except (KeyError, TypeError, AttributeError):
        return ["block_hash"]  # it names a statement of another kind


def _stamps(
    rows: Sequence[RowDiff], actor: str, everything: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> None:
    for row in rows:
        said = row.row
        why = _bad_stamp(row, actor, everything, upstream, verdict)
        if why:
            verdict.add(REJECT, "STAMP-ADD", why)
            continue
        what = f"{actor} stamps {said.get('subject')} for {said.get('context_id')}"
        doubt = _doubt(row, actor, everything, upstream)
        verdict.add(REVIEW if doubt else AUTO, "STAMP-ADD", f"{what}: {doubt}" if doubt else what)


def _doubt(row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream) -> str | None:
    """Why a person should look at a stamp that breaks no rule; None where nothing speaks for it."""
    mine, theirs = upstream.rigs.get(actor, {}), upstream.rigs.get(str(row.row.get("subject")), {})
    if mine.get("dolthub_org") and mine.get("dolthub_org") == theirs.get("dolthub_org"):
        return f"both rigs belong to {mine.get('dolthub_org')}"
    if theirs.get("parent_rig") == actor or mine.get("parent_rig") == row.row.get("subject"):
        return "one of the rigs is the other's parent"
    return "it is not signed here" if _signed_as(row, everything) is None else None


def _bad_stamp(
    row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> str | None:
    said = row.row
    if row.kind != "added":
        return f"stamp {said.get('id')} was {row.kind}; stamps are never changed"
    if said.get("author") != actor:
        return f"stamp {said.get('id')} is in the name of {said.get('author')}, but {actor} wrote it"
    if same_person(actor, str(said.get("subject"))):
        return "nobody stamps their own work"
    if not str(said.get("subject")).isascii():
        return f"{said.get('subject')} is no handle: it may be made to look like another"
    if bad := _bad_scores(said):
        return f"stamp {said.get('id')} has {bad}"
    if wrong := _unlike_signed(row, everything, check_stamp_row):
        return f"stamp {said.get('id')} differs from what was signed: {', '.join(wrong)}"
    about = upstream.completions.get(str(said.get("context_id")))
    if about is None or about.get("completed_by") != said.get("subject"):
        return f"stamp {said.get('id')} is not about a completion of {said.get('subject')}"
    if "accept" not in {step.verb for step in verdict.steps.get(str(about.get("wanted_id")), [])}:
        return f"stamp {said.get('id')} comes without accepting {about.get('wanted_id')}"
    named = (said.get("context_id"), said.get("id"))
    if not any(r.table == "completions" and (r.row.get("id"), r.row.get("stamp_id")) == named for r in everything):
        return f"stamp {said.get('id')} is not named by its completion"
    return None


def _bad_scores(said: Mapping[str, Any]) -> str | None:
    """What of a stamp's scores no stamp may say; dimensions that we do not know are taken as they are."""
    valence = loaded(said.get("valence"))
    if not isinstance(valence, dict) or not valence:
        return "no scores"
    for name, value in valence.items():
        top = 1 if name.endswith("_confidence") else 5
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
            return f"a {name} that is not 0 to {top}"
    confidence = said.get("confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        return "a confidence that is not 0 to 1"
    return None if said.get("severity") in (None, *SEVERITIES) else "a severity that is unknown"


def _key_events(rows: Sequence[RowDiff], actor: str, upstream: Upstream, check: Check, verdict: Judgement) -> None:
    for row in rows:
        handle = str(row.row.get("handle"))
        why = None
        try:
            envelope = Envelope.from_columns(row.row["payload"], row.row["signatures"])
            if row.kind != "added" or handle != actor:
                why = f"{actor} may not change the keys of {handle}"
            else:
                read_key_log([*upstream.key_events(handle), envelope], handle, upstream.wasteland, check)
                why = _index(row.row, key_event_row(envelope, parse(envelope.payload), row.row["created_at"]))
        except BadSignature as error:
            why = error.message
        verdict.add(REJECT if why else AUTO, "KEYS", why or f"publishes a key of {handle}")


def _index(row: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Columns that repeat the payload must repeat it."""
    wrong = sorted(name for name, value in expected.items() if row.get(name) != value)
    return f"columns {', '.join(wrong)} differ from the signed payload" if wrong else None


def _attestations(
    rows: Sequence[RowDiff],
    actor: str,
    everything: Sequence[RowDiff],
    upstream: Upstream,
    check: Check,
    verdict: Judgement,
) -> None:
    links: list[Signed] = []
    for row in rows:
        why = _bad_attestation(row, actor, everything, upstream, check) or _foreign_row(
            row, actor, everything, upstream
        )
        verdict.add(REJECT if why else AUTO, "ATTEST", why or f"signed by {actor}: {row.row.get('subject_id')}")
        if not why:
            links.append(_link(Envelope.from_columns(row.row["payload"], row.row["signatures"])))
    states = check_chain([*_known_links(upstream.attestations(actor), actor), *links])
    if ChainState.EQUIVOCATION in {states[link.seq] for link in links}:
        verdict.add(
            REJECT, "ATTEST", f"{actor} signed another history before: two links stand in one place of the chain"
        )


def _known_links(envelopes: Iterable[Envelope], actor: str) -> list[Signed]:
    found = []
    for envelope in envelopes:
        try:
            if parse(envelope.payload)["predicate"]["author"]["handle"] == actor:
                found.append(_link(envelope))
        except (BadSignature, KeyError, TypeError):
            continue  # not a link; a reader of the chain passes over it too
    return found


def _link(envelope: Envelope) -> Signed:
    return signed_link(parse(envelope.payload), envelope.sha256)


def _foreign_row(row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream) -> str | None:
    """Why an attestation may not name its row: the row is somebody else's.  A row that is not here yet is no reason."""
    table, row_id = str(row.row.get("subject_table")), str(row.row.get("subject_id"))
    owners = {
        str(one.row.get("author" if table == "stamps" else "completed_by"))
        for one in everything
        if one.table == table and str(one.row.get("id")) == row_id
    }
    if table == "stamps" and row_id in upstream.stamp_authors:
        owners.add(upstream.stamp_authors[row_id])
    if table == "completions" and row_id in upstream.completions:
        owners.add(str(upstream.completions[row_id].get("completed_by")))
    if owners - {actor}:
        return f"an attestation by {actor} names {row_id}, which is {', '.join(sorted(owners - {actor}))}'s"
    return None


def _bad_attestation(
    row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream, check: Check
) -> str | None:
    if row.kind != "added":
        return f"an attestation was {row.kind}; they are never changed"
    if row.row.get("signer") != actor:
        return f"an attestation in the name of {row.row.get('signer')} comes from {actor}"
    try:
        envelope = Envelope.from_columns(row.row["payload"], row.row["signatures"])
        fresh = [
            Envelope.from_columns(r.row["payload"], r.row["signatures"])
            for r in everything
            if r.table == "wl_key_events" and r.kind == "added" and r.row.get("handle") == actor
        ]
        log = read_key_log([*upstream.key_events(actor), *fresh], actor, upstream.wasteland, check)
        statement = verify_envelope(envelope, [key.public for key in log.keys], check)
        if kind_of(statement) not in (STAMP, COMPLETION):
            return "an attestation is a signed document of another kind"
        said = statement["predicate"]
        if said["wasteland"] != upstream.wasteland or said["author"]["handle"] != actor:
            return "an attestation was signed for another wasteland or rig"
        public_of(said["author"]["did"])
        return _index(row.row, attestation_row(envelope, statement, row.row["created_at"]))
    except BadSignature as error:
        return error.message


def _roles(rows: Sequence[RowDiff], upstream: Upstream, check: Check, verdict: Judgement) -> None:
    if not rows:
        return
    try:
        if any(row.kind != "added" for row in rows):
            raise BadSignature("a version of the roles was changed")
        if not upstream.role_documents:
            raise BadSignature("upstream has no roles; only its creator can found them")
        added = [Envelope.from_columns(r.row["payload"], r.row["signatures"]) for r in rows]
        read_roles([*upstream.role_documents, *added], upstream.wasteland, check)
        versions = [parse(envelope.payload)["predicate"]["version"] for envelope in added]
        if versions != [row.row.get("version") for row in rows]:
            raise BadSignature("a version of the roles stands under another number")
    except BadSignature as error:
        verdict.add(REJECT, "ROLES", error.message)
    else:
        verdict.add(REVIEW, "ROLES", "a new version of the roles, signed by a root")
