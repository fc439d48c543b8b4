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
BANNED = re.compile(
    r"\b(load_file|outfile|dumpfile|sleep|benchmark|get_lock|release_lock|processlist|dolt_query_diff|dolt_test_run"
    r"|dolt_remotes|dolt_remote_branches|information_schema\s*`?\s*\.\s*`?\s*processlist)\b|\bmysql\s*`?\s*\.|@@|:=",
    re.IGNORECASE,
)
# The same, as the server prints them in a plan; what a view hides shows there.
PLANNED = re.compile(
    r"\b(load_file|processlist|sleep|benchmark|get_lock|dolt_query_diff|dolt_test_run)\b", re.IGNORECASE
)
QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|(?P<comment>/\*.*?\*/|--\s[^\n]*|\#[^\n]*)""", re.DOTALL
)  # fmt: skip
ELSEWHERE = re.compile(r"\bas\s+of\b|`[^`]*/[^`]*`", re.IGNORECASE)


def plain(sql: str) -> str:
    """The statement without its strings; Refused where it has comments or is more than one."""
    text = QUOTED.sub(lambda found: "/*" if found["comment"] else "''", sql).strip().removesuffix(";").rstrip()
    if "/*" in text or "*/" in text:
        raise Refused("comments are not allowed in a statement")
    if ";" in text:
        raise Refused("only one statement is allowed")
    found = BANNED.search(text)
    if found:
        raise Refused(f"{found.group().strip()} is not allowed in a statement")
    return text


def reading(sql: str) -> bool:
    """Whether a statement that may read has a plan that can be asked for; Refused where it may not read."""
    text = plain(sql)
    first = READ.match(text)
    if not first or (first[1].lower() == "show" and not SHOWN.match(text)):
        raise Refused("only SELECT, SHOW TABLES, DESCRIBE, EXPLAIN and WITH may be read")
    return first[1].lower() in ("select", "with")


def writing(sql: str) -> bool:
    """Whether a statement that may write also reads; Refused where it may not write."""
    text = plain(sql)
    if not WRITE.match(text):
        raise Refused("only INSERT, UPDATE, DELETE and REPLACE may be written")
    reads = bool(re.search(r"\b(select|table|with)\b", text, re.IGNORECASE))
    if reads and ELSEWHERE.search(text):
        raise Refused("a statement that writes may not read other revisions")
    return reads
