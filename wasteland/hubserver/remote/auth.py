"""Who calls the proxy: a user name with a token, or a key of `dolt creds`.

A caller without credentials is anonymous; one whose credentials do not hold
is Unauthenticated, never anonymous.  No text here repeats a credential.
"""

from __future__ import annotations

import base64
import json
from binascii import Error as NotBase64
from collections.abc import Collection, Sequence
from typing import Any

from wasteland.errors import Unauthenticated
from wasteland.hubserver import Access, Holder
from wasteland.local.keys import verify_signature

LONGEST = 8192
# Dolt signs each token for 30 seconds; clocks differ by less than the leeway.
LEEWAY, LONGEST_LIFE = 30, 300
SUBJECT = "doltClientCredentials/"


def caller(sent: Sequence[str], access: Access, audiences: Collection[str], now: float) -> Holder | None:
    """Who sent these `authorization` headers; None without one, Unauthenticated where they do not hold.

    `audiences` are the host names of this hub, in lower case: a token that a client made for another host is
    worth nothing here, so that no other server can use what was sent to it.
    """
    if not sent:
        return None
    if len(sent) != 1 or len(sent[0]) > LONGEST:
        raise Unauthenticated("the credentials are malformed")
    scheme, _, value = sent[0].partition(" ")
    if scheme.lower() == "basic":
        return _by_token(value, access)
    if scheme.lower() == "bearer":
        return _by_key(value, access, audiences, now)
    raise Unauthenticated("credentials of this kind are not known here")


def _by_token(value: str, access: Access) -> Holder:
    """The holder of the token in `user:token`, if that is the user."""
    try:
        user, _, token = base64.b64decode(value, validate=True).decode().partition(":")
    except (NotBase64, ValueError) as error:
        raise Unauthenticated("the credentials are malformed") from error
    holder = access.whose_token(token) if token else None
    if holder is None or holder.user != user:
        raise Unauthenticated(
            "the user name or the token is wrong", hint="the password of `--user` is a token of this hub"
        )
    return holder


def _by_key(value: str, access: Access, audiences: Collection[str], now: float) -> Holder:
    """The user whose registered key has signed this JWT for this hub, a moment ago."""
    parts = value.split(".")
    if len(parts) != 3:
        raise Unauthenticated("the credentials are malformed")
    header, claims = _document(parts[0]), _document(parts[1])
    key_id = header.get("kid")
    if header.get("alg") != "EdDSA" or not isinstance(key_id, str) or "crit" in header:
        raise Unauthenticated("the credentials are malformed")
    known = access.whose_key(key_id)
    if known is None or not verify_signature(known[1], f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2])):
        raise Unauthenticated("the key is not registered here", hint="register the public key of `dolt creds ls`")
    if claims.get("sub") != SUBJECT + key_id or not _is_for(claims.get("aud"), audiences):
        raise Unauthenticated("the credentials were made for another server")
    if not _is_fresh(claims, now):
        raise Unauthenticated("the credentials have expired", hint="set the clock of this machine")
    return Holder(known[0], True)


def _is_for(audience: Any, audiences: Collection[str]) -> bool:
    named = audience if isinstance(audience, list) else [audience]
    return any(isinstance(host, str) and host.lower() in audiences for host in named)


def _is_fresh(claims: dict[str, Any], now: float) -> bool:
    """Whether the times hold; an end far away was not set by Dolt, and would be a password."""
    expires, begins = claims.get("exp"), claims.get("nbf", now)
    if not isinstance(expires, int | float) or not isinstance(begins, int | float):
        return False
    return now - LEEWAY < expires < now + LONGEST_LIFE and begins <= now + LEEWAY


def _document(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decoded(part))
    except (ValueError, RecursionError) as error:
        raise Unauthenticated("the credentials are malformed") from error
    if not isinstance(found, dict):
        raise Unauthenticated("the credentials are malformed")
    return found


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (NotBase64, ValueError) as error:
        raise Unauthenticated("the credentials are malformed") from error
