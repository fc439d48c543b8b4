"""Text that strangers wrote: what may be stored, and how it is shown.  Pure.

The caps are those of the review rules G-CELL and TEXT; a title is one line
because older peers split their listings at newlines.
"""

from __future__ import annotations

import re
import unicodedata

from wasteland.addresses import without_secrets
from wasteland.errors import Usage

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")

CAPS = {
    "title": 200,
    "description": 8192,
    "evidence": 8192,
    "message": 2000,
    "reason": 500,
    "project": 64,
    "tag": 64,
    "display_name": 255,
    "owner_email": 255,
}
MANY_LINES = frozenset({"description", "evidence", "message", "reason"})

# Characters that draw nothing or turn the direction of what follows them.
INVISIBLE = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u2028\u2029\u3164\ufeff\uffa0")


def name(value: str, what: str) -> str:
    """`value` if it is a name of an org, database or rig; else Usage."""
    if not NAME.match(value):
        raise Usage(
            f"invalid {what} {show(value)!r}: use 1 to 64 ASCII letters, digits, '-' or '_', "
            "starting with a letter or digit",
            about=what,
        )
    return value


def org_db(value: str) -> tuple[str, str]:
    """`org/db` split and checked; else Usage."""
    org, slash, db = value.partition("/")
    if not slash:
        raise Usage(f"invalid wasteland {show(value)!r}: must be org/database", about=show(value))
    return name(org, "organisation"), name(db, "database")


def _hostile(char: str) -> bool:
    category = unicodedata.category(char)
    return category in ("Cc", "Cs", "Cf", "Zl", "Zp") or char in INVISIBLE


def checked(value: str, field: str) -> str:
    """`value` as it may be stored in `field`: addresses in it hold no secret; Usage where it may not be.

    Refused: control and invisible characters (newline and tab are allowed in
    the fields of many lines), text that is not NFC, text over the cap.
    """
    value = without_secrets(value)
    cap = CAPS[field]
    if len(value) > cap:
        raise Usage(f"the {field} is {len(value)} characters long; at most {cap} are allowed", about=field)
    allowed = "\n\t" if field in MANY_LINES else ""
    for at, char in enumerate(value):
        if char not in allowed and _hostile(char):
            where = "only one line is allowed" if char in "\n\t" else "control and invisible characters are not allowed"
            raise Usage(f"the {field} has U+{ord(char):04X} at position {at + 1}: {where}", about=field)
    if not unicodedata.is_normalized("NFC", value):
        raise Usage(f"the {field} is not in Unicode normal form C", about=field, hint="normalise the text to NFC")
    return value


def show(value: object) -> str:
    """`value` on one line, safe for a terminal: what draws nothing is escaped."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if _hostile(char) else char for char in text)


def masked(text: str) -> str:
    """A text that may hold addresses, with `…` for the user names, passwords and tokens in them."""
    return without_secrets(text, "…")


def show_lines(value: str, indent: str) -> str:
    """`value` of many lines, each indented, so that none can pass for one of ours."""
    return "\n".join(indent + show(line.replace("\t", "    ")) for line in value.split("\n"))


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
