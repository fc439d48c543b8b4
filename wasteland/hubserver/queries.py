"""Which SQL a client may send: the first of two fences, for clear words.  Pure.

The second fence are the rights of the account that runs it, and the plan of
the statement, in which the server has resolved the views that a database may
carry.
"""

from __future__ import annotations

import re

from wasteland.errors import Refused

READ = re.compile(r"[\s(]*(select|with|show|describe|desc|explain)\b", re.IGNORECASE)
SHOWN = re.compile(
    r"\s*show\s+(full\s+)?(tables|columns|fields|index|indexes|keys|create\s+table|create\s+view|databases)\b",
    re.IGNORECASE,
)
WRITE = re.compile(r"\s*(insert|update|delete|replace)\b", re.IGNORECASE)
READS = re.compile(r"\b(select|table|with)\b", re.IGNORECASE)
BANNED = re.compile(
    r"\b(load_file|sleep|benchmark|get_lock|release_lock|dolt_query_diff|dolt_test_run)\s*`?\s*\("
    r"|\b(outfile|dumpfile|processlist|dolt_remotes|dolt_remote_branches)\b|\bmysql\s*`?\s*\.|@@|:=",
    re.IGNORECASE,
)
# The same as the server prints it in a plan: what a view hides shows there.
PLANNED = re.compile(
    r"\bprocesslist\b|\b(load_file|sleep|benchmark|get_lock|dolt_query_diff|dolt_test_run)\(", re.IGNORECASE
)
TOKEN = re.compile(
    r"""(?P<name>`(?:[^`]|``)*`)|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|(?P<comment>/\*|--(?:\s|\Z)|\#)""", re.DOTALL
)
ELSEWHERE = re.compile(r"\bas\s+of\b|`[^`]*/[^`]*`", re.IGNORECASE)


def plain(sql: str) -> str:
    """The statement with `?` for its strings; Refused where it has comments or is more than one."""

    def kept(found: re.Match[str]) -> str:
        if found["comment"]:
            raise Refused("comments are not allowed in a statement")
        return found["name"] or "?"

    text = TOKEN.sub(kept, sql).strip().removesuffix(";").rstrip()
    if ";" in text:
        raise Refused("only one statement is allowed")
    if "'" in TOKEN.sub("", text) or '"' in TOKEN.sub("", text) or text.count("`") % 2:
        raise Refused("a quotation in the statement does not end")
    found = BANNED.search(text)
    if found:
        raise Refused(f"{found.group().strip(' (`')} is not allowed in a statement")
    return text


def reading(sql: str) -> bool:
    """Whether a statement that may read has a plan that can be asked for; Refused where it may not read."""
    text = plain(sql)
    first = READ.match(text)
    if not first or (first[1].lower() == "show" and not SHOWN.match(text)):
        raise Refused("only SELECT, SHOW TABLES, DESCRIBE, EXPLAIN and WITH may be read")
    if first[1].lower() in ("select", "with"):
        return True
    if first[1].lower() != "explain" and re.search(r"\b(select|with|where)\b", text, re.IGNORECASE):
        raise Refused("SHOW and DESCRIBE may not select")
    return False


def writing(sql: str) -> bool:
    """Whether a statement that may write also reads; Refused where it may not write."""
    text = plain(sql)
    if not WRITE.match(text):
        raise Refused("only INSERT, UPDATE, DELETE and REPLACE may be written")
    reads = bool(READS.search(text))
    if reads and ELSEWHERE.search(text):
        raise Refused("a statement that writes may not read other revisions")
    return reads
