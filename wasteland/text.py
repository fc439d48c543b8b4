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
ELLIPSIS = "..."
COMBINING = "\u0300"  # the first letter that does not take one column; what draws nothing below it is escaped before
REASON = 300  # characters of a program's words that are repeated
# Of what programs, git and dolt above all, say when they fail.
ERROR = re.compile(r"(?:remote: *)?(?:(?:fatal|error|panic): |ERROR\b|! ?\[)|.*\blevel=(?:fatal|error|panic)\b")
REPEATS = re.compile(
    r"Could not read from remote repository|remote end hung up|early EOF|unexpected disconnect|protocol error"
    r"|expected flush|failed to push some refs|invalid index-pack output|index-pack failed|unpack-objects failed"
    r"|fetch-pack: |unpack failed|did not send all necessary objects|aborting due to possible repository corruption"
)
WARNING = re.compile(r"(?:remote: *)?warning:|.*\blevel=warning\b", re.IGNORECASE)
ADVICE = re.compile(
    r"(?:remote: *)?(?:hint:|Please (?:make sure|tell me)|and the repository exists|\*\*\*|\(see |usage:|or: |To |Try )"
    r"|.*\blevel=(?:info|debug)\b|Use '--'|'git <command>|git config --global|dolt config --global|Run$",
    re.IGNORECASE,
)
USAGE = re.compile(r" *(?:usage:|or: )", re.IGNORECASE)
NOISE = re.compile(
    r"(?:remote: *)?(?:Enumerating|Counting|Compressing|Receiving|Resolving|Writing|Unpacking|Total|Delta) "
    r"|remote: *\Z|cloning |Cloning into|Processed |.*latest released|Everything up-to-date"
)
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


def width(text: str) -> int:
    """The columns that a line of text takes on a terminal: wide letters take two, combining ones none."""
    if text.isascii() or max(text) < COMBINING:
        return len(text)
    import wcwidth

    return wcwidth.width(text)


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns, `...` for what is left out; a letter keeps all that combines with it."""
    if width(text) <= columns:
        return text
    room = columns - len(ELLIPSIS)
    if text.isascii():
        return text[:room] + ELLIPSIS
    from wcwidth import iter_graphemes

    kept = ""
    for grapheme in iter_graphemes(text):
        room -= width(grapheme)
        if room < 0:
            break
        kept += grapheme
    return kept + ELLIPSIS


def masked(text: str) -> str:
    """A text that may hold addresses, with `…` for the user names, passwords and tokens in them."""
    return without_secrets(text, "…")


def reason(output: str, otherwise: str = "it said nothing", *, newest: bool = False) -> str:
    """The line of a program's complaints that says why it failed, safe to print and without secrets; else `otherwise`.

    What a program says last is often advice, usage, or that something failed
    which it has explained before.  An error that explains comes first, then a
    plain line, an error that only repeats, a warning, a hint; of equals the
    first, or in a log the `newest`.
    """
    lines = _said(output)
    if newest:
        lines.reverse()
    ranks = [_rank(line) for line in lines]
    return masked(show(lines[ranks.index(min(ranks))][:REASON])) if lines else otherwise


def _said(output: str) -> list[str]:
    """The lines of an output that say something, as a terminal leaves them: no progress, no options after usage."""
    found: list[str] = []
    skipping = False
    for whole in output.split("\n"):
        line = whole.rstrip("\r").rpartition("\r")[2]
        if not line.strip():
            skipping = False
        elif USAGE.match(line) and found:
            skipping = True
        elif (not skipping or ERROR.match(line.strip())) and not NOISE.match(line.strip()):
            found.append(line.strip())
    return found


def _rank(line: str) -> int:
    if ADVICE.match(line):
        return 4
    if WARNING.match(line):
        return 3
    if REPEATS.search(line):
        return 2
    return 0 if ERROR.match(line) else 1


def show_lines(value: str, indent: str) -> str:
    """`value` of many lines, each indented, so that none can pass for one of ours."""
    return "\n".join(indent + show(line.replace("\t", "    ")) for line in value.split("\n"))


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
