"""Which item is meant, and what the rules need to know of it."""

from __future__ import annotations

from wasteland.commons import ID_LIMIT, completions, only, wanted
from wasteland.dolt.database import Database
from wasteland.errors import NotFound
from wasteland.node.node import Node
from wasteland.rules.lifecycle import Item


def facts(db: Database, wanted_id: str) -> Item:
    """What the rules need to know of an item; NotFound where there is none."""
    row = db.row(wanted.GET, id=wanted_id)
    if row is None:
        raise NotFound(f'no wanted item matching "{wanted_id}"', about=wanted_id)
    completion = completions.of_item(db, wanted_id)
    return Item.of(row, completion.completed_by if completion else None)


def resolve(node: Node, text: str) -> str:
    """The id of the item that `text` is or begins, on the board or on a branch of this rig."""
    if len(text) > ID_LIMIT:
        return only([], text)
    found = {text} if node.db.at("main").row("SELECT id FROM wanted WHERE id = :id", id=text) else set()
    if not found and text:
        rows = node.db.at("main").rows(wanted.IDS, prefix=text, size=len(text))
        start = f"wl/{node.handle}/"
        branches = [name[len(start) :] for name in node.db.branches(start)]
        found = {str(row["id"]) for row in rows} | {i for i in branches if i.startswith(text)}
    return only(sorted(found), text)
