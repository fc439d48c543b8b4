"""Public keys as `dolt creds` writes them: base32 in digits and letters up to `v`, ids by SHA-512/224."""

from __future__ import annotations

import base64
import hashlib

from wasteland.errors import Usage

STANDARD, DOLT = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv"
TO_DOLT = str.maketrans(STANDARD, DOLT)
FROM_DOLT = str.maketrans(DOLT, STANDARD)
KEY_BYTES = 32


def encoded(value: bytes) -> str:
    """Bytes in Dolt's base32."""
    return base64.b32encode(value).decode().rstrip("=").translate(TO_DOLT)


def public_key(text: str) -> bytes:
    """The 32 bytes of a public key; Usage where the text is none."""
    words = text.strip()
    if words.isascii() and len(words) == 52 and set(words) <= set(DOLT):
        value = base64.b32decode(words.translate(FROM_DOLT) + "====")
        if len(value) == KEY_BYTES and encoded(value) == words:
            return value
    raise Usage("this is no public key of dolt creds", hint="dolt creds ls shows it", about="public_key")


def key_id(public: bytes) -> str:
    """The id that `dolt creds` gives to a public key."""
    return encoded(hashlib.new("sha512_224", public).digest())
