"""Whose keys and roles count: the key log of a handle and the roles of a wasteland.  Pure.

A key log is trusted from its inception, which key 0 signs itself, and goes on
by rotation to the key that the event before committed to (`next_sha256`).  The
roles go on by TUF's rule: a version is signed by a root of the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from wasteland.errors import BadSignature
from wasteland.trust.envelope import (
    KEY_EVENT,
    ROLES,
    ZERO,
    Check,
    Envelope,
    Statement,
    checked_statement,
    kind_of,
    parse,
    public_of,
    sha256,
    verify_envelope,
)
from wasteland.values import dataclass


class Undecided(BadSignature):
    """Something that would decide the matter is not here; nobody is accused."""


@dataclass(frozen=True)
class LoggedKey:
    """A key of a handle; `last_good` is the last seq of the author chain it may have signed, None: no bound."""

    public: bytes
    did: str
    seq: int
    kind: str
    last_good: int | None = None


@dataclass(frozen=True)
class KeyLog:
    """The keys of a handle in one wasteland, oldest first; the last one is current."""

    handle: str
    keys: tuple[LoggedKey, ...]
    head: str
    next_sha256: str | None
    dolthub_org: str


def read_key_log(events: Iterable[Envelope], handle: str, wasteland: str, check: Check) -> KeyLog:
    """The keys of `handle`, every event verified.

    Raises Undecided where there is no inception, an event is missing, or one
    is of a kind that this program does not know (it might end a key);
    BadSignature where an event does not hold or two stand in one place.
    """
    places: dict[int, Statement] = {}
    digests: dict[int, str] = {}
    for envelope in {one.sha256: one for one in events}.values():
        statement = _event(envelope, handle, wasteland, check)
        seq = statement["predicate"]["seq"]
        if seq in places:
            raise BadSignature(f"{handle} signed two key events {seq} (equivocation)")
        places[seq], digests[seq] = statement, envelope.sha256
    if 0 not in places:
        raise Undecided(f"there is no key event of {handle} here", hint="a rig publishes its key when it joins")
    log = KeyLog(handle, (), ZERO, None, places[0]["predicate"]["dolthub_org"])
    for seq in range(max(places) + 1):
        if seq not in places:
            raise Undecided(f"key event {seq} of {handle} is not here")
        log = _applied(log, places[seq]["predicate"], digests[seq])
    return log


def _event(envelope: Envelope, handle: str, wasteland: str, check: Check) -> Statement:
    """A key event that the key it names signed, for this handle and wasteland."""
    claimed = parse(envelope.payload).get("predicate")
    key = claimed.get("key") if isinstance(claimed, dict) else None
    if not isinstance(key, str):
        raise BadSignature(f"a key event of {handle} names no key")
    statement = verify_envelope(envelope, [public_of(key)], check)
    said = statement["predicate"]
    if kind_of(statement) != KEY_EVENT or said["handle"] != handle or said["wasteland"] != wasteland:
        raise BadSignature(f"a key event of {handle} is for another handle or wasteland")
    if statement["subject"][0] != {"name": key, "digest": {"sha256": sha256(public_of(key))}}:
        raise BadSignature(f"a key event of {handle} has another subject than its key")
    return statement


def _applied(log: KeyLog, said: dict[str, Any], digest: str) -> KeyLog:
    """The log after one more event."""
    seq, kind, public = said["seq"], said["kind"], public_of(said["key"])
    if said["prev"] != log.head:
        raise BadSignature(f"key event {seq} of {log.handle} does not follow the one before it")
    if kind not in ("inception", "rotate"):
        raise Undecided(f"key event {seq} of {log.handle} is of kind {kind}, which this program does not know")
    if (kind == "inception") != (seq == 0):
        raise BadSignature(f"key event {seq} of {log.handle} may not be of kind {kind}")
    if kind == "rotate" and sha256(public) != log.next_sha256:
        raise BadSignature(f"key event {seq} of {log.handle} rotates to a key that was not committed to")
    ended = {one["key"]: one["last_good_chain_seq"] for one in said.get("revokes") or []}
    kept = tuple(_ended(key, ended.get(key.did)) for key in log.keys)
    keys = (*kept, LoggedKey(public, said["key"], seq, kind))
    return replace(log, keys=keys, head=digest, next_sha256=said["next_sha256"])


def _ended(key: LoggedKey, last_good: int | None) -> LoggedKey:
    """`key` with the narrower of its bound and `last_good`: a later event gives nothing back."""
    if last_good is None:
        return key
    return replace(key, last_good=last_good if key.last_good is None else min(key.last_good, last_good))


def read_roles(
    envelopes: Sequence[Envelope], wasteland: str, check: Check, pinned: str | None = None
) -> dict[str, Any] | None:
    """The predicate of the newest roles document, every version before it verified; None where there is none.

    `envelopes` are those of wl_roles in any order; `pinned` is the digest of
    version 1 as shown at join.  BadSignature where a version is missing, does
    not follow the one before, or was not signed by one of its roots.  That the
    newest is not older than one seen before is for the caller to remember.
    """
    newest: dict[str, Any] | None = None
    before = ZERO
    by_version = sorted(envelopes, key=_version)
    if by_version and pinned is not None and by_version[0].sha256 != pinned:
        raise BadSignature("version 1 of the roles is not the one that was pinned at join")
    for version, envelope in enumerate(by_version, start=1):
        roots = (newest or parse(envelope.payload)["predicate"])["roles"]["root"]
        statement = verify_envelope(envelope, [public_of(one["did"]) for one in roots], check)
        said = statement["predicate"]
        if kind_of(statement) != ROLES or said["wasteland"] != wasteland:
            raise BadSignature("the roles document is not one of this wasteland")
        if said["version"] != version or said["prev"] != before:
            raise BadSignature(f"version {said['version']} of the roles does not follow version {version - 1}")
        newest, before = said, envelope.sha256
    return newest


def _version(envelope: Envelope) -> int:
    """The version a roles document claims, once its shape was found good; BadSignature else."""
    statement = checked_statement(parse(envelope.payload))
    if kind_of(statement) != ROLES:
        raise BadSignature("the roles document is not one of this wasteland")
    return int(statement["predicate"]["version"])
