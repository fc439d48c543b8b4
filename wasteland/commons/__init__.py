"""The queries of the commons, a module a table: functions of a Database.

Ids are those of the protocol: `w-` with 10 hex digits, `c-` and `s-` with 16,
from a SHA-256.  Those of completions and stamps also take in a random text
here, so that two in one second differ.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import secrets
from datetime import datetime
from pathlib import Path

from wasteland.errors import NotFound, Usage
from wasteland.text import show

ID_LIMIT = 255  # characters; no column of ids or handles is wider


def schema(file: str) -> list[str]:
    """The statements of a file in schema/."""
    packaged = importlib.resources.files("wasteland") / "schema" / file
    path = packaged if packaged.is_file() else Path(__file__).parents[2] / "schema" / file
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("--")]
    return [text for part in "\n".join(lines).split(";\n") if (text := part.strip().rstrip(";"))]


def new_id(prefix: str, size: int, *parts: str) -> str:
    """`prefix` and `size` hex digits of the SHA-256 of `parts` and 8 random bytes."""
    text = "|".join([*parts, secrets.token_hex(8)])
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:size]


def stamp_time(now: datetime) -> str:
    """A time as the commons keeps it: UTC, whole seconds."""
    return now.strftime("%Y-%m-%d %H:%M:%S")


def only(found: list[str], text: str) -> str:
    """The one id that a prefix names; NotFound for none, Usage for several."""
    if not found:
        raise NotFound(f'no wanted item matching "{show(text)}"', about=text, hint="wl browse lists them")
    if len(found) > 1:
        names = ", ".join(show(one) for one in found[:3])
        more = ", …" if len(found) > 3 else ""
        raise Usage(f'ambiguous prefix "{show(text)}" matches: {names}{more}', about=text)
    return found[0]
