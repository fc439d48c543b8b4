"""Rows of a diff as SQL without bound values: what they make is what they were made from, to the byte."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.conftest import World
from wasteland.dolt.statements import literal, statements
from wasteland.errors import WastelandError
from wasteland.local.config import Paths
from wasteland.models import RowDiff
from wasteland.node.node import Node, open_node

TEXTS = ("", "it's", "back\\slash", "\\", "\\'", "'; DROP TABLE wanted; --", "line\nand\r\nline\tend", "null\0byte",
         "\x1a", "ünïcode 🦄 e\u0301", "%s :name @@x := /* */ # --", '"quoted"', "`tick`")  # fmt: skip


def test_each_kind_of_value_has_one_literal():
    assert literal(None) == "NULL"
    assert literal(True) == "1"
    assert literal(-7) == "-7"
    assert literal(Decimal("1.50")) == "1.50"
    assert literal(b"\x00'") == "X'0027'"
    assert literal(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "'2026-01-02 03:04:05.000006'"
    assert literal(date(2026, 1, 2)) == "'2026-01-02'"
    assert literal(-timedelta(hours=30, seconds=1)) == "'-30:00:01.000000'"
    for wrong in (float("nan"), float("inf"), object()):
        with pytest.raises(WastelandError):
            literal(wrong)


def test_wanted_comes_last_and_a_strange_column_is_refused():
    rows = [
        RowDiff("wanted", {"id": "w-1", "status": "open"}, {"id": "w-1", "status": "claimed"}),
        RowDiff("wl_leases", None, {"id": "l-1", "note": None}),
        RowDiff("completions", {"id": "c-1"}, None),
    ]
    assert statements(rows) == [
        "DELETE FROM `completions` WHERE `id` = 'c-1'",
        "INSERT INTO `wl_leases` (`id`) VALUES ('l-1')",
        "UPDATE `wanted` SET `status` = 'claimed' WHERE `id` = 'w-1'",
    ]
    with pytest.raises(WastelandError):
        statements([RowDiff("wanted", None, {"id": "w-1", "a` = 1 --": 2})])


def test_a_row_goes_before_another_takes_its_place():
    event = {"handle": "ada", "seq": 0}
    rows = [
        RowDiff("wl_key_events", None, {"event_sha256": "00", **event}),
        RowDiff("wl_key_events", {"event_sha256": "ff", **event}, None),
    ]
    assert [words.split()[0] for words in statements(rows)] == ["DELETE", "INSERT"]


def test_what_is_written_is_what_was_meant(tmp_path):
    world = World(tmp_path)
    try:
        user = world.create("ada")
        node: Node = open_node("acme/commons", Paths(user.home, user.home / ".config", user.home / ".local/share"))
        db = node.db
        first = db.hash_of("main")
        with db.change("texts of every kind"):
            for number, text in enumerate(TEXTS):
                db.run(
                    "INSERT INTO wanted (id, title, description, tags, status, created_at, updated_at)"
                    " VALUES (:id, :title, :text, :tags, 'open', :at, :at)",
                    id=f"w-{number:010d}", title=f"Number {number}", text=text, tags=json.dumps([text, number]),
                    at=datetime(2026, 1, 2, 3, 4, 5),
                )  # fmt: skip
        second = db.hash_of("main")
        with db.change("changed and removed"):
            db.run("UPDATE wanted SET description = NULL, title = :text WHERE id = 'w-0000000000'", text=TEXTS[4])
            db.run("DELETE FROM wanted WHERE id = 'w-0000000001'")
        for old, new in ((first, second), (second, db.hash_of("main"))):
            db.branch("copy", old)
            found = statements(db.diff_all(old, new))
            with db.at("copy").change("written again") as copy:
                for sql in found:
                    copy._procedure(sql)
            assert db.diff_tables(new, db.hash_of("copy")) == []
            db.delete_branch("copy")
        node.close()
    finally:
        world.stop()
