"""What a signature says: DSSE envelopes, and the shape of the statements in them.  Pure.

Ed25519 itself is a callable `check(public, message, signature) -> bool` that
the caller brings (`keys.verify_signature`), so that this module does no I/O
and needs no cryptography.  The bytes below are in `canon`, whose names are
offered here too; `statements` builds what is signed, `binding` ties it to rows
and chains, `verdict` tells a person what came of it.

Sources: DSSE v1 (secure-systems-lab/dsse), in-toto Statement v1.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from wasteland.errors import BadSignature
from wasteland.trust.canon import (
    COMPLETION,
    HEX64,
    KEY_EVENT,
    KINDS,
    PAYLOAD_TYPE,
    PREDICATE_BASE,
    ROLES,
    SMALL_ORDER,
    STAMP,
    STATEMENT_TYPE,
    ZERO,
    Statement,
    canonical,
    did_key,
    kind_of,
    pae,
    parse,
    predicate_type,
    public_of,
    sha256,
    timestamp,
)
from wasteland.values import dataclass

__all__ = [
    "COMPLETION",
    "KEY_EVENT",
    "KINDS",
    "PAYLOAD_TYPE",
    "PREDICATE_BASE",
    "ROLES",
    "SMALL_ORDER",
    "STAMP",
    "STATEMENT_TYPE",
    "ZERO",
    "Check",
    "Envelope",
    "Signature",
    "Statement",
    "canonical",
    "checked_statement",
    "did_key",
    "kind_of",
    "pae",
    "parse",
    "predicate_type",
    "public_of",
    "sha256",
    "signer_of",
    "timestamp",
    "verify_envelope",
]

Check = Callable[[bytes, bytes, bytes], bool]
MAX_SIGNATURES = 16


class Signature(NamedTuple):
    """One signature of an envelope; `keyid` is a hint and never decides anything."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A DSSE v1 envelope: the exact bytes that were signed, and who says they signed them."""

    payload: bytes
    signatures: tuple[Signature, ...]
    payload_type: str = PAYLOAD_TYPE

    @property
    def sha256(self) -> str:
        """The digest of the payload: `block_hash`, `payload_sha256`, the next link's `prev`."""
        return sha256(self.payload)

    @classmethod
    def from_dsse(cls, data: str | bytes | Mapping[str, Any]) -> Envelope:
        """The envelope that is DSSE JSON; BadSignature where it is malformed."""
        found = data if isinstance(data, Mapping) else _json(data)
        if not isinstance(found, Mapping) or not isinstance(found.get("payloadType"), str):
            raise BadSignature("not a DSSE envelope")
        return cls(_base64(found.get("payload")), _signatures(found.get("signatures")), found["payloadType"])

    @classmethod
    def from_columns(cls, payload: str | bytes, signatures: str | bytes) -> Envelope:
        """The envelope in the columns `payload` and `signatures` of a wl_* table; BadSignature where malformed."""
        try:
            data = payload.encode("utf-8") if isinstance(payload, str) else payload
        except UnicodeEncodeError as error:
            raise BadSignature("the stored payload is not UTF-8") from error
        return cls(data, _signatures(_json(signatures)))

    def to_dsse(self) -> dict[str, Any]:
        """The envelope as DSSE JSON, base64 in the standard alphabet."""
        return {
            "payloadType": self.payload_type,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": self._written(),
        }

    def to_columns(self) -> dict[str, str]:
        """The columns `payload` and `signatures` of a wl_* table."""
        return {
            "payload": self.payload.decode("utf-8"),
            "signatures": json.dumps(self._written(), separators=(",", ":")),
        }

    def _written(self) -> list[dict[str, str]]:
        return [{"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode()} for one in self.signatures]


def _json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise BadSignature("the signatures or the envelope are not JSON") from error


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise BadSignature("the envelope lacks a base64 field")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("the envelope has a field that is not base64") from error


def _signatures(found: object) -> tuple[Signature, ...]:
    if not isinstance(found, list) or not 0 < len(found) <= MAX_SIGNATURES:
        raise BadSignature(f"an envelope carries 1 to {MAX_SIGNATURES} signatures")
    if not all(isinstance(one, dict) and isinstance(one.get("keyid", ""), str) for one in found):
        raise BadSignature("a signature of the envelope is malformed")
    return tuple(Signature(one.get("keyid", ""), _base64(one.get("sig"))) for one in found)


def signer_of(envelope: Envelope, allowed: Iterable[bytes], check: Check) -> bytes | None:
    """The first of the public keys `allowed` under which a signature of `envelope` holds, else None."""
    message = pae(envelope.payload_type, envelope.payload)
    for public in allowed:
        if public not in SMALL_ORDER and any(check(public, message, one.sig) for one in envelope.signatures):
            return public
    return None


def verify_envelope(envelope: Envelope, allowed: Iterable[bytes], check: Check) -> Statement:
    """The statement in `envelope`, if one of the public keys `allowed` signed it; else BadSignature.

    The signature comes first, so nothing unsigned is ever parsed; what is
    signed must then be canonical and of a kind and shape that we know.  What
    the statement is about (wasteland, row, chain) is not looked at here.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise BadSignature(f"the payloadType is not {PAYLOAD_TYPE}")
    if signer_of(envelope, allowed, check) is None:
        raise BadSignature("no valid signature from an allowed key")
    return checked_statement(parse(envelope.payload))


def checked_statement(statement: Statement) -> Statement:
    """`statement` if it is one of ours and every field we read has its type; else BadSignature.

    Fields that we do not know are kept: a newer peer may say more.
    """
    if statement.get("_type") != STATEMENT_TYPE:
        raise BadSignature(f"the statement's _type is not {STATEMENT_TYPE}")
    kind = kind_of(statement)
    if kind is None:
        raise BadSignature("the statement has a predicateType that this program does not know")
    wrong = _misfit(statement, SHAPES[kind], "statement")
    if wrong:
        raise BadSignature(f"the {kind} statement has a wrong or missing field: {wrong}")
    return statement


# The shape of each kind: a test for a value, a dict for an object whose other fields are free.
Test = Callable[[Any], bool]
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")


def _misfit(value: object, shape: Any, where: str) -> str | None:
    """The path of the first field of `value` that does not have its shape; None where all fit."""
    if not isinstance(shape, dict):
        return None if shape(value) else where
    if not isinstance(value, dict):
        return where
    for name, inner in shape.items():
        wrong = _misfit(value.get(name), inner, f"{where}.{name}")
        if wrong:
            return wrong
    return None


def _text(value: object) -> bool:
    return isinstance(value, str)


def _handle(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()


def _hex(value: object) -> bool:
    return isinstance(value, str) and HEX64.match(value) is not None


def _time(value: object) -> bool:
    return isinstance(value, str) and TIME.match(value) is not None


def _int(low: int, high: int) -> Test:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _did(value: object) -> bool:
    try:
        return isinstance(value, str) and len(public_of(value)) == 32
    except BadSignature:
        return False


def _or_null(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _each(shape: Any, at_most: int = 1000) -> Test:
    return lambda value: (
        isinstance(value, list) and len(value) <= at_most and all(_misfit(one, shape, "") is None for one in value)
    )


def _subject(value: object) -> bool:
    return _each({"name": _text, "digest": {"sha256": _hex}}, at_most=1)(value) and bool(value)


def _scores(value: object) -> bool:
    # A dimension named x_confidence could not be told from the confidence of x in `valence`.
    score = {"score": _int(0, 5), "confidence": PER_MILLE}
    return isinstance(value, dict) and all(
        not dim.endswith("_confidence") and _misfit(one, score, "") is None for dim, one in value.items()
    )


SEQ = _int(0, 2**31 - 1)
PER_MILLE = _int(0, 1000)
CHAIN = {"seq": SEQ, "prev": _hex}
PARTY = {"handle": _handle, "did": _did}
SHAPES: dict[str, dict[str, Any]] = {
    STAMP: {
        "subject": _subject,
        "predicate": {
            "wasteland": _text,
            "stamp_id": _text,
            "author": PARTY,
            "rig": {"handle": _handle, "did": _or_null(_did)},
            "scores": _scores,
            "confidence": PER_MILLE,
            "severity": _text,
            "context": {
                "type": _text,
                "completion": _text,
                "completion_sha256": _hex,
                "wanted": _text,
                "wanted_sha256": _hex,
            },
            "skill_tags": _each(_text),
            "message_sha256": _or_null(_hex),
            "passbook_prev": _or_null(_text),
            "issued_at": _time,
            "chain": CHAIN,
        },
    },
    COMPLETION: {
        "subject": _subject,
        "predicate": {
            "wasteland": _text,
            "completion": _text,
            "author": PARTY,
            "wanted": _text,
            "wanted_sha256": _hex,
            "evidence": {"v": _int(1, 1), "kind": _text, "uri": _text},
            "sandbox": {"level": _text, "network": _text},
            "supersedes": _or_null(_hex),
            "issued_at": _time,
            "chain": CHAIN,
        },
    },
    KEY_EVENT: {
        "subject": _subject,
        "predicate": {
            "wasteland": _text,
            "handle": _handle,
            "seq": SEQ,
            "prev": _hex,
            "kind": _text,
            "key": _did,
            "next_sha256": _or_null(_hex),
            "scopes": _each(_text),
            "dolthub_org": _text,
            "revokes": _or_null(_each({"key": _did, "reason": _text, "last_good_chain_seq": _int(-1, 2**31 - 1)})),
            "issued_at": _time,
        },
    },
    ROLES: {
        "subject": _subject,
        "predicate": {
            "wasteland": _text,
            "version": _int(1, 2**31 - 1),
            "prev": _hex,
            "roles": {"root": _each(PARTY), "maintainer": _each(PARTY), "validator": _each(PARTY)},
            "threshold": _int(1, 1),
            "expires": lambda value: value is None,
            "issued_at": _time,
        },
    },
}
