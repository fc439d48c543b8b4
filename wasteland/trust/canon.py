"""The bytes under a signature: canonical JSON, DSSE's encoding, did:key names, digests.  Pure.

Callers take these names from `attest`, which adds the envelope to them.

Sources: RFC 8785 (JSON Canonicalization Scheme), DSSE v1 (protocol.md of
secure-systems-lab/dsse), the did:key method of the W3C Credentials Community Group.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wasteland.errors import BadSignature

Statement = dict[str, Any]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_BASE = "urn:x-wasteland"
STAMP, COMPLETION, KEY_EVENT, ROLES = "stamp", "completion", "key-event", "roles"
KINDS = (STAMP, COMPLETION, KEY_EVENT, ROLES)
ZERO = "0" * 64

MAX_INT = 2**53 - 1
MAX_PAYLOAD = 1 << 20
MAX_DEPTH = 32
HEX64 = re.compile(r"[0-9a-f]{64}\Z")
TIME = "%Y-%m-%dT%H:%M:%SZ"

# Every encoding of a point whose order divides 8: under such a key one
# signature fits many messages.
SMALL_ORDER = frozenset(
    bytes.fromhex(start + end)
    for start, ends in (
        ("00" * 31, ("00", "80")),
        ("01" + "00" * 30, ("00", "80")),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc", ("05", "85")),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03", ("7a", "fa")),
        ("ec" + "ff" * 30, ("7f", "ff")),
        ("ed" + "ff" * 30, ("7f", "ff")),
        ("ee" + "ff" * 30, ("7f", "ff")),
    )
    for end in ends
)

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
DID_PREFIX = "did:key:z"
ED25519 = b"\xed\x01"  # multicodec ed25519-pub


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` in lower-case hex, as every digest here is written."""
    return hashlib.sha256(data).hexdigest()


def predicate_type(kind: str) -> str:
    """The predicateType of a statement of `kind`, version 1."""
    return f"{PREDICATE_BASE}:{kind}:v1"


def kind_of(statement: Mapping[str, Any]) -> str | None:
    """Which of KINDS a statement is; None for one that this program does not know."""
    return next((kind for kind in KINDS if statement.get("predicateType") == predicate_type(kind)), None)


def timestamp(when: datetime) -> str:
    """`when` as it is signed: RFC 3339, UTC, whole seconds (Dolt keeps no more)."""
    if when.utcoffset() is None:
        raise ValueError("a time to be signed must carry its time zone")
    return when.astimezone(UTC).strftime(TIME)


def canonical(value: object) -> bytes:
    """The RFC 8785 bytes of `value`, in our narrower profile.

    Objects with printable-ASCII keys, arrays, strings, integers up to 2**53-1,
    booleans, null; no floats, since Dolt does not keep them.  BadSignature
    for anything else.
    """
    _profile(value, 0)
    return _written(value)


def _written(value: object) -> bytes:
    """The bytes of a value that keeps to the profile.

    Without floats and with keys of ASCII, what is left of RFC 8785 is what the
    standard library's encoder writes: keys in order of their code units
    (section 3.2.3), no white space, and its escapes in strings (3.2.2.2).
    """
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadSignature("the document cannot be signed: a text in it is not Unicode") from error


def _profile(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadSignature(f"the document is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, part in value.items():
            _check_key(key)
            _profile(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _profile(part, depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_INT:
            raise BadSignature("a signed document has an integer beyond 2^53-1")
    elif not (value is None or isinstance(value, str | bool)):
        raise BadSignature(f"a signed document may not hold a {type(value).__name__}")


def parse(data: bytes) -> Statement:
    """The object that `data` is the canonical form of; BadSignature if it is not exactly that.

    Strict, because two readers that take one document in two ways is how a
    signature comes to cover what its author never saw: UTF-8 only, no key
    twice, no float, and the same bytes when written again.
    """
    if len(data) > MAX_PAYLOAD:
        raise BadSignature(f"the payload is larger than {MAX_PAYLOAD} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_int=_bounded, parse_float=_no_float,
            parse_constant=_no_float,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise BadSignature("the payload is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise BadSignature("the payload is not a JSON object")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:  # with fewer, nothing can be nested deeper
        _profile(value, 0)
    if _written(value) != data:
        raise BadSignature("the payload is not in canonical (RFC 8785) form")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise BadSignature(f"the payload has the key {key!r} twice")
        _check_key(key)
        made[key] = value
    return made


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key.isascii() or not key.isprintable():
        raise BadSignature(f"the key {key!r} of a signed document is not printable ASCII")


def _bounded(text: str) -> int:
    if len(text) > len(str(-MAX_INT)) or abs(int(text)) > MAX_INT:
        raise BadSignature("a signed document has an integer beyond 2^53-1")
    return int(text)


def _no_float(text: str) -> object:
    raise BadSignature(f"the payload has a number that is not an integer: {text[:32]}")


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE v1 pre-authentication encoding, lengths in bytes."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


@functools.lru_cache(maxsize=4096)
def did_key(public: bytes) -> str:
    """The did:key name of an Ed25519 public key of 32 bytes; BadSignature for one that may not be used."""
    _usable(public)
    data = ED25519 + public
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return DID_PREFIX + text


@functools.lru_cache(maxsize=4096)
def public_of(did: str) -> bytes:
    """The public key that `did` names; BadSignature unless it is the one spelling of a usable Ed25519 key."""
    if not did.startswith(DID_PREFIX) or not 40 <= len(did) <= 64:
        raise BadSignature("not a did:key of an Ed25519 key", about=did)
    number = 0
    for char in did[len(DID_PREFIX) :]:
        digit = BASE58.find(char)
        if digit < 0:
            raise BadSignature("the did:key is not base58btc", about=did)
        number = number * 58 + digit
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) != 34 or not data.startswith(ED25519) or did_key(data[2:]) != did:
        raise BadSignature("not a did:key of an Ed25519 key", about=did)
    return data[2:]


def _usable(public: bytes) -> None:
    if len(public) != 32:
        raise BadSignature("an Ed25519 public key has 32 bytes")
    if public in SMALL_ORDER:
        raise BadSignature("the public key is a point of small order")
