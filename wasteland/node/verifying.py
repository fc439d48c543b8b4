"""Whether what was signed holds: all that verdicts need is loaded at once, then judged in `trust`.

What was found of main is remembered beside the clone as of a commit, and
brought up to date by the rows that differ since; see `trust.verified`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wasteland.commons import ID_LIMIT, by_ids, parents, signatures
from wasteland.dolt.database import Database
from wasteland.errors import NotFound, Usage, WastelandError
from wasteland.local.memory import Memory
from wasteland.models import RowDiff, loaded
from wasteland.node.node import Node
from wasteland.node.standing import check, wasteland_id
from wasteland.text import show
from wasteland.trust.authors import Authors, Chain
from wasteland.trust.envelope import Envelope
from wasteland.trust.verification import Context, Report, verify_completion, verify_stamp
from wasteland.trust.verified import (
    PARENTS,
    TABLES,
    FoundCompletion,
    FoundStamp,
    Touched,
    Verified,
    nothing,
    of_handles,
    read,
    read_standings,
    scores,
    touched,
    written,
)

MAIN = "main"
FEW = 2000  # rows that are judged again by themselves; beyond that all are
ROWS = 4 * FEW  # rows that are looked at to find those
Row = dict[str, Any]
About = dict[tuple[str, str], list[Envelope]]


class Facts:
    """What the verdicts on some rows of a commons need, or those on all rows, read in a few queries.

    `stamps` and `completions` are ids, or None for all there are; `chains` are
    chains that were checked before, by wasteland and handle.
    """

    def __init__(
        self,
        node: Node,
        db: Database,
        stamps: Sequence[str] | None = None,
        completions: Sequence[str] | None = None,
        chains: Mapping[str, Mapping[str, Chain]] | None = None,
    ) -> None:
        self._node, self._db = node, db
        self._chains = chains or {}
        self._authors: dict[str, Authors] = {}
        self.signed = signatures.supported(db)
        self.stamps = by_ids(db, "stamps", stamps)
        judged = None if completions is None or stamps is None else {
            *completions, *(str(row["context_id"]) for row in self.stamps.values() if row.get("context_id"))
        }  # fmt: skip
        self.completions = by_ids(db, "completions", judged)
        self.items = by_ids(db, "wanted", {str(row["wanted_id"]) for row in self.completions.values()})
        self.home = wasteland_id(node, db)
        self._about: dict[str, About] = {}
        self._said: dict[str, dict[str, list[Envelope]]] = {}
        self._whole = judged is None
        self._origins: dict[tuple[str, str, str], str] = {}
        if self.signed:
            self._load(stamps, judged)

    def _load(self, stamps: Iterable[str] | None, completions: Iterable[str] | None) -> None:
        ids = None if completions is None or stamps is None else [*stamps, *completions]
        self._keep(self.home, signatures.about(self._db, ids))
        known = parents.recorded(self._db)
        trusted = self._node.config.node.get("parents")
        self._parents = {urn: name for urn, name in known.items() if trusted is None or urn in trusted}
        for urn in self._parents:
            rows = parents.about(self._db, ids, wasteland=urn)
            self._keep(urn, rows)
            for row in rows:
                place = (str(row["subject_table"]), str(row["subject_id"]), str(row["payload_sha256"]))
                self._origins.setdefault(place, urn)

    def _keep(self, urn: str, rows: Iterable[Row]) -> None:
        about, said = self._about.setdefault(urn, {}), self._said.setdefault(urn, {})
        for row in rows:
            for envelope in signatures.readable([row]):
                about.setdefault((str(row["subject_table"]), str(row["subject_id"])), []).append(envelope)
                if self._whole:
                    said.setdefault(str(row["signer"]), []).append(envelope)

    def authors(self, urn: str) -> Authors:
        """The keys and chains of a wasteland: this one's, or a parent's as they were kept."""
        if urn not in self._authors:
            events, of_signer = signatures.key_events, signatures.of_signer
            if urn != self.home:
                events = functools.partial(parents.key_events, wasteland=urn)
                of_signer = functools.partial(parents.of_signer, wasteland=urn)
            said = self._said.get(urn, {})
            self._authors[urn] = Authors(
                urn,
                lambda handle: events(self._db, handle) if self.signed else [],
                lambda handle: said.get(handle, []) if self._whole else of_signer(self._db, handle),
                check,
                self._chains.get(urn),
            )
        return self._authors[urn]

    def chains(self) -> dict[str, dict[str, Chain]]:
        """All chains that were looked at."""
        return {urn: authors.chains for urn, authors in self._authors.items()}

    def stamp(self, row_id: str) -> Report:
        """The verdict on a stamp; NotFound where there is none."""
        row = _found(self.stamps, "stamp", row_id)
        done = self.completions.get(str(row.get("context_id")))
        item = self.items.get(str(done.get("wanted_id"))) if done else None
        urn, name = self._origin("stamps", row)
        return verify_stamp(
            Context(
                self.authors(urn), row, self._on(urn, "stamps", row_id), item, done,
                self._on(urn, "completions", str(done["id"])) if done else [], name,
            )
        )  # fmt: skip

    def completion(self, row_id: str) -> Report:
        """The verdict on a completion; NotFound where there is none."""
        row = _found(self.completions, "completion", row_id)
        item = self.items.get(str(row.get("wanted_id")))
        urn, name = self._origin("completions", row)
        return verify_completion(
            Context(self.authors(urn), row, self._on(urn, "completions", row_id), item, wasteland_name=name)
        )

    def _on(self, urn: str, table: str, row_id: str) -> list[Envelope]:
        return self._about.get(urn, {}).get((table, row_id), [])

    def _origin(self, table: str, row: Row) -> tuple[str, str]:
        """The wasteland that a row was signed in, and what it is called.

        A parent is one that this commons records as such and that was pinned at
        join; what any other wasteland's id is in never counts as signed.
        """
        urn = self._origins.get((table, str(row["id"]), str(row.get("block_hash"))))
        if urn is None:
            return self.home, self._node.config.upstream
        return urn, f"from {self._parents[urn] or 'the parent'}"


def _found(rows: Mapping[str, Row], kind: str, row_id: str) -> Row:
    if row_id not in rows:
        raise NotFound(f"there is no {kind} {show(row_id)}", about=row_id)
    return rows[row_id]


def verify(node: Node, kind: str, row_id: str, db: Database | None = None) -> Report:
    """The verdict on one stamp or completion; NotFound where there is none, Usage for another kind.

    Without a `db`, main is searched and then this rig's branches that have not landed.
    """
    if kind not in ("stamp", "completion"):
        raise Usage("wl verify takes: stamp ID, completion ID, --all, or --last N")
    if len(row_id) > ID_LIMIT:
        raise NotFound(f"there is no {show(kind)} {show(row_id)}", about=row_id)
    db = db or _holding(node, f"{kind}s", row_id)
    wanted = {"stamps": [row_id], "completions": []} if kind == "stamp" else {"stamps": [], "completions": [row_id]}
    facts = Facts(node, db, **wanted, chains=_chains(node, db))
    return facts.stamp(row_id) if kind == "stamp" else facts.completion(row_id)


def _holding(node: Node, table: str, row_id: str) -> Database:
    views = [node.db.at(MAIN)]
    if not by_ids(views[0], table, [row_id]):
        views += [node.db.at(branch) for branch in node.db.branches(f"wl/{node.handle}/")]
    return next((view for view in views if by_ids(view, table, [row_id])), views[0])


def verify_all(node: Node) -> list[tuple[str, Report]]:
    """The verdicts on every stamp and completion, oldest first; nothing that was remembered is used for them."""
    found, reports = _judged(node, node.db.hash_of(MAIN))
    _memory(node).write(written(found, found.standings()))
    return reports


def standing(node: Node, handle: str) -> dict[str, Any]:
    """What a rig has to show on main; see `Verified.standings`."""
    return _standings(node).get(handle) or nothing(handle)


def leaderboard(node: Node) -> list[dict[str, Any]]:
    """The standing of every rig that completed something: most verified stamps first, then quality, then name."""
    found = [one for one in _standings(node).values() if one["completions"]]
    return sorted(found, key=lambda s: (-s["stamps"]["verified"], -s["scores"].get("quality", 0), s["handle"]))


def _judged(node: Node, head: str) -> tuple[Verified, list[tuple[str, Report]]]:
    """All verdicts at a commit, from nothing."""
    facts = Facts(node, node.db.at(head))
    found = Verified(head)
    reports = list(_put(found, facts, facts.stamps, facts.completions))
    found.chains = facts.chains()
    return found, reports


def _put(
    found: Verified, facts: Facts, stamps: Iterable[str], completions: Iterable[str]
) -> Iterator[tuple[str, Report]]:
    """Judge rows that are there, and note what came of it."""
    for row_id in stamps:
        report, row = facts.stamp(row_id), facts.stamps[row_id]
        found.stamps[row_id] = FoundStamp(
            report.verdict.value, str(row.get("subject")), str(row.get("author")), str(row.get("context_id")),
            scores(loaded(row.get("valence"))),
        )  # fmt: skip
        yield "stamp", report
    for row_id in completions:
        report, row = facts.completion(row_id), facts.completions[row_id]
        by = str(row.get("completed_by") or "")
        found.completions[row_id] = FoundCompletion(report.verdict.value, by, str(row.get("wanted_id")))
        yield "completion", report


def _memory(node: Node) -> Memory:
    """The memory of this clone's verdicts; void when what was pinned at join is another."""
    pinned = [node.config.upstream, node.config.node.get("wasteland_id"), node.config.node.get("parents")]
    return Memory(node.db.server.folder / "verified", node.paths.keys, repr(pinned))


def _remembered(node: Node, text: str | None) -> Verified | None:
    """What the text of the memory says, where the commit that it is of is here."""
    found = read(text) if text else None
    return found if found and node.db.find(found.head) else None


def _standings(node: Node) -> dict[str, dict[str, Any]]:
    """What each rig has to show on main as it is: as remembered, with what has changed since judged anew."""
    head, memory = node.db.hash_of(MAIN), _memory(node)
    text = memory.read()
    if text and (standings := read_standings(text, head)) is not None:
        return standings
    known = _remembered(node, text)
    found = _advanced(node, known, head) if known else None
    if found is None:
        found, _ = _judged(node, head)
    standings = found.standings()
    memory.write(written(found, standings))
    return standings


def _advanced(node: Node, known: Verified, head: str) -> Verified | None:
    """What was found at one commit, brought to another; None where that is as much as to begin anew."""
    rows = _differences(node, known.head, head)
    what = touched(known, rows) if rows is not None else None
    if what is None or len(what.stamps) + len(what.completions) > FEW:
        return None
    db = node.db.at(head)
    chains = _prolonged(node, db, known, what)
    if len(what.stamps) + len(what.completions) > FEW:
        return None
    facts = Facts(node, db, sorted(what.stamps), sorted(what.completions), chains)
    for row_id in what.stamps:
        known.stamps.pop(row_id, None)
    for row_id in what.completions:
        known.completions.pop(row_id, None)
    for _ in _put(known, facts, facts.stamps, what.completions & facts.completions.keys()):
        pass
    known.head = head
    known.chains = {urn: {**chains.get(urn, {}), **by_handle} for urn, by_handle in (chains | facts.chains()).items()}
    return known


def _differences(node: Node, old: str, new: str) -> list[RowDiff] | None:
    """The rows that differ and that a verdict may rest on; None where they are very many, or tables came or went."""
    found: list[RowDiff] = []
    for table in node.db.diff_tables(old, new):
        if table.table in TABLES or table.table.startswith(PARENTS):
            if table.kind != "modified" or table.schema:
                return None
            found += node.db.diff(old, new, table.table, limit=ROWS + 1)
            if len(found) > ROWS:
                return None
    return found


def _prolonged(node: Node, db: Database, known: Verified, what: Touched) -> dict[str, dict[str, Chain]]:
    """The chains that still hold, with their new links; what a new link makes void besides is added to `what`."""
    home = wasteland_id(node, db)
    chains = {urn: dict(by_handle) for urn, by_handle in known.chains.items()}
    here = chains.setdefault(home, {})
    for handle in what.handles:
        here.pop(handle, None)
    authors = Authors(home, lambda handle: signatures.key_events(db, handle), lambda _: [], check)
    for signer, rows in what.signers.items():
        chain = here.get(signer)
        if chain is None:
            of_handles(known, what, {signer})
            continue
        links = authors.links(signatures.readable(rows), signer)
        if not chain.prolonged_by(links):
            of_handles(known, what, {signer})
        here[signer] = chain.joined(links)
    return chains


def _chains(node: Node, db: Database) -> dict[str, dict[str, Chain]]:
    """The remembered chains, brought to what `db` holds; none where that cannot be."""
    known = _remembered(node, _memory(node).read())
    if known is None or not signatures.supported(db):
        return {}
    try:
        rows = _differences(node, known.head, node.db.hash_of(db.revision))
    except WastelandError:
        return {}
    what = touched(known, rows) if rows is not None else None
    return _prolonged(node, db, known, what) if what is not None else {}
