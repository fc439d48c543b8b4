"""What comes into a company's wasteland from the one that it was forked from: `wl valve in`.

Three states of a row decide: the parent's now, ours now, and ours as it came.
A row of ours that is not as it came was changed here, and stays.
"""

from __future__ import annotations

import json
from dataclasses import field
from typing import Any

from wasteland.commons import parents
from wasteland.commons.parents import Parent
from wasteland.dolt.database import Database
from wasteland.errors import Misconfigured, NotFound, Refused, WastelandError
from wasteland.local import config as configuration
from wasteland.member.send_up import need_parent, rules, upstream_url
from wasteland.models import JSON_COLUMNS
from wasteland.node import landing, levelling, standing
from wasteland.node.node import Node
from wasteland.node.upgrade import more_than_rows
from wasteland.review import land
from wasteland.rules.lifecycle import handle_key
from wasteland.rules.valve import INWARD, Rules
from wasteland.text import show
from wasteland.values import dataclass

REMOTE = "parent"


@dataclass
class Taken:
    """What came in, or would: rows by table and key; `kept` are those that stay as they are here, and why."""

    head: str
    new: list[tuple[str, str]] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)
    signed: int = 0
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As `wl valve in --json` prints it."""
        return {
            "schema_version": 1, "head": self.head, "signed": self.signed,
            "new": [{"table": t, "id": key} for t, key in self.new],
            "changed": [{"table": t, "id": key} for t, key in self.changed],
            "kept": [{"table": t, "id": key, "why": why} for t, key, why in self.kept],
        }  # fmt: skip


@dataclass(frozen=True)
class Theirs:
    """What the parent holds: its rows at `head`, those at the commit that we were forked from, and its signatures."""

    head: str
    rows: dict[str, dict[str, dict[str, Any]]]
    base: dict[str, dict[str, dict[str, Any]]]
    signed: dict[str, list[dict[str, Any]]]


def take_in(node: Node, *, dry_run: bool = False) -> Taken:
    """Bring what the rules let in from the parent to our main, as one commit.

    A row that was changed here since it came stays as it is.  For maintainers.
    Raises Unreachable where the parent does not answer, Refused where it is
    not the parent any more or its history was rewritten.
    """
    known = need_parent(node)
    said = rules(node.paths, node.config.upstream)
    if not dry_run:
        land.need_maintainer(node)
    with node.db.locked():
        if node.has_remotes:
            levelling.refresh(node)
            if not dry_run:
                landing.land_leftovers(node)  # what a killed command took in is here, and nobody else has it yet
        theirs = _theirs(node, known, said)
        taken = _plan(node, said, known, theirs)
        if dry_run or not (taken.rows or taken.signed):
            return taken

        def act() -> Taken:
            main = node.db.at("main")
            found = _plan(node, said, known, theirs)
            for table, row in found.rows:
                parents.take(main, table, row)
            parents.keep_signed(main, known.wasteland, theirs.signed)
            return found

        message = f"wl valve in: {known.upstream} at {theirs.head}"
        return landing.landing(node, message, act, push=node.has_remotes)


def _theirs(node: Node, known: Parent, said: Rules) -> Theirs:
    head = _fetched(node, known)
    views = [node.db.at(head), node.db.at(known.base)]
    tables = [table for table in INWARD if table in said.inward.tables]
    rows, base = ({table: parents.by_key(view, table) for table in tables} for view in views)
    signed = parents.signed_in(views[0]) if said.inward.tables & {"completions", "stamps"} else {}
    return Theirs(head, rows, base, signed)


def _fetched(node: Node, known: Parent) -> str:
    """The parent's main as it is now, once it was seen to be the parent, with the history that it had."""
    db = node.db
    if REMOTE not in db.remotes():
        db.add_remote(REMOTE, _parent_url(node, known))
    db.fetch(REMOTE)
    head = db.find(f"{REMOTE}/main")
    if head is None:
        raise NotFound(f"{show(known.upstream)} has no branch main", about=known.upstream)
    urn = standing.id_of(db.at(head))
    if urn != known.wasteland:
        raise Refused(f"{show(known.upstream)} now says it is {show(urn)}, not {show(known.wasteland)}", about=urn)
    seen = node.config.node.get("seen_parent") or known.base
    if db.find(seen) and not db.is_ancestor(seen, head):
        raise Refused(
            f"the history of {show(known.upstream)} was rewritten: its main was {seen} and is now {head}",
            about=known.upstream, hint="ask its maintainers; nothing came in",
        )  # fmt: skip
    more = more_than_rows(db, known.base, head)
    if more:
        raise Refused(f"{show(known.upstream)} carries more than rows: {show(', '.join(more))}", about=known.upstream)
    node.config.node["seen_parent"] = head
    node.config.save_node()
    return head


def _parent_url(node: Node, known: Parent) -> str:
    """The URL of the parent, where this user has joined it; another clone than the creator's lacks the remote."""
    try:
        joined = Node(configuration.load(node.paths, known.upstream), node.paths)
    except WastelandError as error:
        raise Misconfigured(
            f"this clone does not know where {show(known.upstream)} is", about=known.upstream,
            hint=f"wl join {show(known.upstream)}, or in the clone: dolt remote add parent URL",
        ) from error  # fmt: skip
    return upstream_url(joined)


def _plan(node: Node, said: Rules, known: Parent, theirs: Theirs) -> Taken:
    """What would be written on our main as it is now."""
    main = node.db.at("main")
    plan = _Plan(main, said, theirs, parents.taken(main), Taken(theirs.head))
    for table in theirs.rows:
        plan.table(table)
    plan.taken.signed = parents.missing_signed(main, known.wasteland, theirs.signed)
    return plan.taken


@dataclass
class _Plan:
    """The tables in their order: an item before its completion, a completion before its stamp."""

    main: Database
    said: Rules
    theirs: Theirs
    came: dict[tuple[str, str], str]
    taken: Taken
    passed: set[tuple[str, str]] = field(default_factory=set)

    def table(self, table: str) -> None:
        """Decide on every row of one table of the parent's."""
        ours = parents.by_key(self.main, table)
        columns = parents.columns(self.main, table)
        members = {handle_key(h): h for h in ours} if table == "rigs" else {}
        keyed = {str(r["handle"]) for r in self.main.rows("SELECT DISTINCT handle FROM wl_key_events")}
        for key, row in self.theirs.rows[table].items():
            here = ours.get(key)
            found = self.said.comes_in(table, _arriving(table, row), known=here is not None)
            if found is None or not self._belongs(table, row):
                continue
            found = {n: _written(n, v) for n, v in found.items() if n in columns}
            if here is None:
                twin = members.get(handle_key(key)) if table == "rigs" else None
                self._note(table, key, found, f"its handle can be taken for {twin}" if twin else None, fresh=True)
                members.setdefault(handle_key(key), key)
            elif parents.digest({n: here.get(n) for n in found}) == parents.digest(found):
                self.passed.add((table, key))
            else:
                changed = (table == "rigs" and key in keyed) or self._changed(table, key, here)
                self._note(table, key, found, "it was changed here" if changed else None, fresh=False)

    def _note(self, table: str, key: str, row: dict[str, Any], why: str | None, *, fresh: bool) -> None:
        if why is not None:
            self.taken.kept.append((table, key, why))
            return
        self.passed.add((table, key))
        (self.taken.new if fresh else self.taken.changed).append((table, key))
        self.taken.rows.append((table, row))

    def _belongs(self, table: str, row: dict[str, Any]) -> bool:
        """Whether what a row is about is here as the parent has it."""
        if table == "completions":
            return ("wanted", str(row.get("wanted_id"))) in self.passed
        return table != "stamps" or ("completions", str(row.get("context_id"))) in self.passed

    def _changed(self, table: str, key: str, here: dict[str, Any]) -> bool:
        """Whether a row is another one than came through the valve, or with the fork."""
        came = self.came.get((table, key))
        if came is None:
            base = self.theirs.base[table].get(key)
            came = parents.digest(_arriving(table, base)) if base is not None else None
        return came != parents.digest(here)


def _arriving(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of the parent's as it stands outside of it: a rank that was given there is none here."""
    return row | {"trust_level": 0} if table == "rigs" else row


def _written(name: str, value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if name in JSON_COLUMNS and isinstance(value, list) else value
