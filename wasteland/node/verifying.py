"""Whether what was signed holds: all that a verdict needs is loaded, then judged in `trust`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from wasteland.commons import ID_LIMIT, completions, parents, signatures, stamps, wanted
from wasteland.dolt.database import Database
from wasteland.errors import NotFound, Usage
from wasteland.node.node import Node
from wasteland.node.standing import check, wasteland_id
from wasteland.text import show
from wasteland.trust.envelope import Envelope
from wasteland.trust.verification import Context, Report, Verdict, verify_completion, verify_stamp


def verify(node: Node, kind: str, row_id: str, db: Database | None = None) -> Report:
    """The verdict on one stamp or completion; NotFound where there is none, Usage for another kind.

    Without a `db`, main is searched and then this rig's branches that have not landed.
    """
    if len(row_id) > ID_LIMIT:
        raise NotFound(f"there is no {show(kind)} {show(row_id)}", about=row_id)
    db = db or _holding(node, f"{kind}s", row_id)
    if kind == "stamp":
        return verify_stamp(_stamp_context(node, db, row_id), check)
    if kind == "completion":
        return verify_completion(_completion_context(node, db, row_id), check)
    raise Usage("wl verify takes: stamp ID, completion ID, --all, or --last N")


def _holding(node: Node, table: str, row_id: str) -> Database:
    views = [node.db.at("main")]
    if table in ("stamps", "completions") and not _has(views[0], table, row_id):
        views += [node.db.at(branch) for branch in node.db.branches(f"wl/{node.handle}/")]
    return next((view for view in views if _has(view, table, row_id)), views[0])


def _has(db: Database, table: str, row_id: str) -> bool:
    return table in ("stamps", "completions") and bool(db.row(f"SELECT id FROM {table} WHERE id = :id", id=row_id))


def _raw(db: Database, table: str, row_id: str) -> dict[str, Any]:
    found = db.row(f"SELECT * FROM {table} WHERE id = :id", id=row_id)
    if found is None:
        raise NotFound(f"there is no {table.removesuffix('s')} {show(row_id)}", about=row_id)
    return found


def _home(node: Node, db: Database, table: str, row: dict[str, Any]) -> tuple[str, str, str | None]:
    """The wasteland that a row was signed in, what it is called, and once more its id where it is a parent's.

    A parent is one that this commons records as such and that was pinned at
    join; what any other wasteland's id is in never counts as signed.
    """
    urn = parents.home_of(db, table, str(row.get("id")), row.get("block_hash"))
    if urn is None or urn not in node.config.node.get("parents", [urn]):
        return wasteland_id(node, db), node.config.upstream, None
    return urn, f"from {parents.recorded(db)[urn] or 'the parent'}", urn


def _loaded(db: Database, table: str, row_id: str, signer: str, parent: str | None) -> dict[str, Any]:
    if not signatures.supported(db):
        return {}
    subject, chain, keys = _readers(parent)
    return {"attestations": subject(db, table, row_id), "key_events": keys(db, signer), "chain": chain(db, signer)}


def _readers(parent: str | None) -> tuple[Callable[..., list[Envelope]], ...]:
    """The attestations of a row, those of a signer, and the keys of a handle: here, or as a parent had them."""
    if parent is None:
        return signatures.of_subject, signatures.of_signer, signatures.key_events
    found = (parents.of_subject, parents.of_signer, parents.key_events)
    return tuple(functools.partial(one, wasteland=parent) for one in found)


def _completion_context(node: Node, db: Database, row_id: str) -> Context:
    row = _raw(db, "completions", row_id)
    home, called, parent = _home(node, db, "completions", row)
    item = db.row(wanted.GET, id=row.get("wanted_id"))
    loaded = _loaded(db, "completions", row_id, str(row.get("completed_by")), parent)
    return Context(home, row, wanted=item, wasteland_name=called, **loaded)


def _stamp_context(node: Node, db: Database, row_id: str) -> Context:
    row = _raw(db, "stamps", row_id)
    home, called, parent = _home(node, db, "stamps", row)
    about = db.row("SELECT * FROM completions WHERE id = :id", id=row.get("context_id"))
    loaded = _loaded(db, "stamps", row_id, str(row.get("author")), parent)
    if about is not None and signatures.supported(db):
        subject, _, keys = _readers(parent)
        loaded["completion_attestations"] = subject(db, "completions", str(about["id"]))
        loaded["worker_key_events"] = keys(db, str(about.get("completed_by")))
    item = db.row(wanted.GET, id=about.get("wanted_id")) if about else None
    return Context(home, row, wanted=item, completion=about, wasteland_name=called, **loaded)


def verify_all(node: Node) -> list[tuple[str, Report]]:
    """The verdicts on every stamp and completion."""
    db = node.db.at("main")
    found = [("stamp", verify(node, "stamp", s.id, db)) for s in stamps.all_of(db)]
    ids = db.rows("SELECT id FROM completions ORDER BY completed_at, id")
    return found + [("completion", verify(node, "completion", str(r["id"]), db)) for r in ids]


def standing(node: Node, handle: str) -> dict[str, Any]:
    """What a rig has to show: completions, stamps by verdict, and the means of its verified scores.

    Unsigned stamps are counted as legacy and weigh nothing; so do invalid ones.
    """
    db = node.db.at("main")
    counts = {verdict.name.lower(): 0 for verdict in Verdict}
    totals: dict[str, list[float]] = {}
    for stamp in stamps.all_of(db, handle):
        verdict = verify(node, "stamp", stamp.id, db).verdict
        counts[verdict.name.lower()] += 1
        if verdict is Verdict.VERIFIED:
            for dim in ("quality", "reliability", "creativity"):
                if dim in stamp.valence:
                    sure = float(stamp.valence.get(f"{dim}_confidence", 1))
                    weighed = totals.setdefault(dim, [0.0, 0.0])
                    weighed[0] += sure * float(stamp.valence[dim])
                    weighed[1] += sure
    scores = {dim: round(total / weight, 2) for dim, (total, weight) in totals.items() if weight}
    return {
        "handle": handle,
        "completions": len(completions.by_rig(db, handle, 10_000)),
        "stamps": counts,
        "scores": scores,
    }


def leaderboard(node: Node) -> list[dict[str, Any]]:
    """The standing of every rig that completed something: most verified stamps first, then quality, then name."""
    db = node.db.at("main")
    rows = db.rows("SELECT DISTINCT completed_by AS handle FROM completions WHERE completed_by IS NOT NULL")
    found = [standing(node, str(row["handle"])) for row in rows]
    return sorted(found, key=lambda s: (-s["stamps"]["verified"], -s["scores"].get("quality", 0), s["handle"]))
