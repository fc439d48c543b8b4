"""What of upstream's schema is taken over at a sync."""

from __future__ import annotations

import pytest

from tests.conftest import User, World
from wasteland.commons import schema


@pytest.fixture
def pair(world: World) -> tuple[User, User]:
    poster = world.create("poster")
    return poster, world.join("worker", by=poster)


def ddl(user: User, *statements: str, message: str = "schema") -> None:
    """Change upstream's schema, as its owner can with Dolt itself."""
    words = [*statements, f"CALL DOLT_COMMIT('-Am', '{message}')"]
    user.python(f"d.as_root({words!r})\nd.push('origin', 'main')")


VERSION = "UPDATE _meta SET value = '{}' WHERE `key` = 'schema_version'"


def test_a_minor_version_that_only_adds_is_taken(pair):
    poster, worker = pair
    ddl(poster, "ALTER TABLE wanted ADD COLUMN bounty INT", "CREATE TABLE guilds (id INT PRIMARY KEY)",
        VERSION.format("1.3"))  # fmt: skip
    done = worker.wl("sync").ok()
    assert "grew" in done.err
    assert worker.python("print('bounty' in d.columns('wanted'))") == "True"
    item = poster.json("post", "--title", "After the upgrade", "--no-push")
    assert item["item"]["status"] == "open"


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE wanted ADD COLUMN bounty INT"],
        ["ALTER TABLE wanted DROP COLUMN sandbox_scope", VERSION.format("1.3")],
        ["ALTER TABLE wanted ADD COLUMN must INT NOT NULL", VERSION.format("1.3")],
        ["CREATE VIEW wl_parent_rows AS SELECT * FROM wanted"],
        ["CREATE VIEW mine AS SELECT 1", "CREATE TRIGGER t BEFORE INSERT ON wanted FOR EACH ROW SET NEW.title = 'x'"],
        ["CREATE PROCEDURE p() SELECT 1"],
        ["RENAME TABLE badges TO medals"],
        ["DROP TABLE rig_links"],
        ["ALTER TABLE wanted ADD CONSTRAINT c CHECK (status <> 'claimed')", VERSION.format("1.3")],
        ["ALTER TABLE wanted ADD COLUMN twice INT GENERATED ALWAYS AS (priority * 2) STORED", VERSION.format("1.3")],
        [
            "CREATE TABLE g (id VARCHAR(64) PRIMARY KEY, FOREIGN KEY (id) REFERENCES wanted (id) ON DELETE CASCADE)",
            VERSION.format("1.3"),
        ],
        ["CREATE TRIGGER t BEFORE INSERT ON wanted FOR EACH ROW SET NEW.title = 'x'", VERSION.format("1.9")],
        ["CREATE TRIGGER t BEFORE INSERT ON wanted FOR EACH ROW SET NEW.title = 'x'", VERSION.format("2.0")],
    ],
)
def test_what_no_version_announces_and_what_is_no_table_is_not_taken(pair, statements):
    poster, worker = pair
    before = worker.python("print(d.hash_of('main'))")
    ddl(poster, *statements)
    refused = worker.wl("sync")
    assert refused.code == 6
    assert "not rows" in refused.err
    if any("TRIGGER" in one for one in statements):
        assert worker.wl("sync", "--upgrade").code == 6, "never"
    assert worker.python("print(d.hash_of('main'))") == before


def test_what_upstream_has_of_its_own_comes_and_goes_and_stops_nobody(world, pair):
    poster, worker = pair
    fill = "INSERT INTO {} VALUES ({})"
    ddl(poster, "CREATE TABLE notes (t text)", fill.format("notes", "'a'"), fill.format("notes", "'b'"),
        "CREATE TABLE guilds (id INT PRIMARY KEY, size INT NOT NULL CHECK (size > 0))", fill.format("guilds", "1, 2"),
        "CREATE VIEW unclaimed AS SELECT id FROM wanted WHERE status = 'open'",
        fill.format("dolt_docs", "'README.md', 'Read this'"))  # fmt: skip
    came = worker.json("sync")["incoming"]
    assert came["notes"] == {"added": 2, "modified": 0, "removed": 0}
    item = worker.json("post", "--title", "On top of it")
    ddl(poster, "RENAME TABLE guilds TO companies", fill.format("companies", "3, 4"), "DROP TABLE notes",
        "ALTER TABLE companies DROP PRIMARY KEY", "ALTER TABLE companies ADD PRIMARY KEY (id, size)",
        "DROP VIEW unclaimed", "CREATE VIEW few AS SELECT 1")  # fmt: skip
    worker.ok("sync")
    poster.ok("merge", str(item["pull"]["number"]))
    assert worker.json("claim", item["item"]["id"])["pull"]["number"]
    world.join("later", by=poster)
    ddl(poster, "DROP TABLE companies", "DROP VIEW few", "DELETE FROM dolt_docs")
    worker.ok("sync")
    assert worker.python("print(d.columns('companies'), d.rows('SELECT * FROM dolt_schemas'))") == "[] []"


def test_a_table_of_upstreams_own_that_holds_on_to_items_is_asked_about(pair):
    poster, worker = pair
    ddl(poster, "CREATE TABLE g (id VARCHAR(64) PRIMARY KEY, FOREIGN KEY (id) REFERENCES wanted (id))")
    refused = worker.wl("sync")
    assert (refused.code, "wl sync --upgrade" in refused.err) == (6, True)
    worker.ok("sync", "--upgrade")


def test_a_major_version_is_explained_and_taken_on_request(pair):
    poster, worker = pair
    ddl(poster, "ALTER TABLE wanted ADD COLUMN must INT NOT NULL DEFAULT 0", VERSION.format("2.0"))
    refused = worker.wl("sync")
    assert refused.code == 6
    assert "2.0" in refused.err
    assert "--upgrade" in refused.err
    worker.ok("sync", "--upgrade")
    assert worker.python("print('must' in d.columns('wanted'))") == "True"
    worker.ok("sync")


def test_a_table_of_ours_may_come_later(pair):
    poster, worker = pair
    statements = [one for one in schema("attest.sql") if "wl_leases" in one]
    ddl(poster, "DROP TABLE wl_leases", message="as before leases")
    assert worker.wl("sync").code == 6
    worker.ok("sync", "--upgrade")
    ddl(poster, *statements, message="leases")
    assert "wl_leases" in worker.wl("sync").ok().err
    ddl(poster, "CREATE TABLE wl_notes (id INT PRIMARY KEY)")
    assert worker.wl("sync").code == 6, "not one that we define"


def test_tables_may_come_before_or_after_the_version_that_announces_them(pair):
    poster, worker = pair
    ddl(poster, VERSION.format("1.3"), message="first the version")
    worker.ok("sync")
    ddl(poster, "ALTER TABLE wanted ADD COLUMN bounty INT DEFAULT 3", message="then the tables")
    assert "grew" in worker.wl("sync").ok().err
    ddl(poster, VERSION.format("2.0"), message="a major version without tables")
    assert worker.wl("sync").code == 6
    worker.ok("sync", "--upgrade")
    ddl(poster, "ALTER TABLE wanted RENAME COLUMN bounty TO reward", message="its tables")
    assert worker.wl("sync").code == 6
    worker.ok("sync", "--upgrade")


def test_the_forks_main_follows_upstreams(pair):
    poster, worker = pair
    poster.ok("merge", str(poster.json("post", "--title", "New")["pull"]["number"]))
    worker.ok("sync", "--level")
    code = "d.fetch('origin'); print(d.hash_of('origin/main') == d.hash_of('upstream/main'))"
    assert worker.python(code) == "True"


def test_a_rewritten_upstream_is_refused_with_both_heads(pair):
    poster, worker = pair
    before = worker.python("print(d.hash_of('upstream/main'))")
    poster.python("d.as_root([\"CALL DOLT_RESET('--hard', 'HEAD~1')\", \"UPDATE rigs SET display_name = 'x'\","
           " \"CALL DOLT_COMMIT('-Am', 'other')\"])\nd.push('origin', 'main', force=True)")  # fmt: skip
    after = poster.python("print(d.hash_of('main'))")
    refused = worker.wl("sync")
    assert refused.code == 6
    assert before in refused.err
    assert after in refused.err
    assert worker.python("print(d.hash_of('main'))") == before
