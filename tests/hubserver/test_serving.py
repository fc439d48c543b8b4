"""The hub's REST server, over real HTTP, with a real Dolt behind it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest

from tests.hubs import COMMAND, Hub, environment, one_hub, one_shared_hub  # noqa: F401  (fixtures)
from wasteland.errors import Refused, Usage
from wasteland.hubserver import dolt_keys, queries

OPEN = "UPDATE wanted SET status = 'claimed', claimed_by = '{who}' WHERE id = '{id}'"


class Api:
    """Requests of users to a hub, in both generations."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.http = httpx2.Client(base_url=hub.api, timeout=30)

    def close(self) -> None:
        self.http.close()

    def v1(self, method: str, path: str, user: str | None = None, **rest: Any) -> httpx2.Response:
        headers = {"authorization": f"token {self.hub.tokens[user]}"} if user else {}
        return self.http.request(method, f"/api/v1alpha1/{path}", headers=headers, **rest)

    def v2(self, method: str, path: str, user: str | None = None, **rest: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.hub.tokens[user]}"} if user else {}
        return self.http.request(method, f"/api/v2/{path}", headers=headers, **rest)

    def data(self, method: str, path: str, user: str | None = None, **rest: Any) -> Any:
        done = self.v2(method, path, user, **rest)
        assert done.status_code < 300, done.text
        return done.json()["data"]

    def ended(self, accepted: httpx2.Response, user: str) -> dict[str, Any]:
        """An operation of v2, when it has ended."""
        assert accepted.status_code == 202, accepted.text
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.data("GET", accepted.json()["data"]["href"].removeprefix("/api/v2/"), user)
            if found["status"] in ("succeeded", "failed"):
                return found
            time.sleep(0.01)
        raise AssertionError("the operation does not end")

    def polled(self, path: str, name: str, user: str) -> httpx2.Response:
        """The last poll of an operation of v1."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.v1("GET", path, user, params={"operationName": name})
            said = found.json()
            if found.status_code != 200 or said.get("done") or said.get("job_status") in ("Completed", "Failed"):
                return found
            time.sleep(0.01)
        raise AssertionError("the operation does not end")

    def fork(self, repo: str, user: str) -> None:
        found = self.ended(self.v2("POST", f"databases/{repo}/forks", user, json={"owner": user}), user)
        assert found["status"] == "succeeded", found

    def write(self, repo: str, user: str, sql: str, branch: str = "main", base: str = "main") -> dict[str, Any]:
        asked = {"from_branch": base, "to_branch": branch, "q": sql}
        return self.ended(self.v2("POST", f"databases/{repo}/sql-writes", user, json=asked), user)

    def rows(self, repo: str, sql: str, user: str | None = None, ref: str = "main") -> list[list[str | None]]:
        found = self.data("GET", f"databases/{repo}/sql", user, params={"q": sql, "ref": ref})
        assert found["status"] == "success", found
        rows: list[list[str | None]] = found["rows"]
        return rows

    def claim(self, item: str, user: str, base: str = "acme/commons") -> int:
        """A claim on a branch of the user's fork, and its pull request."""
        fork = f"{user}/{base.partition('/')[2]}"
        done = self.write(fork, user, OPEN.format(who=user, id=item), f"wl/{user}/{item}")
        assert done["status"] == "succeeded", done
        return self.pull(base, user, f"wl/{user}/{item}")

    def pull(self, base: str, user: str, branch: str, source: str | None = None, to: str = "main") -> int:
        owner, name = (source or f"{user}/{base.partition('/')[2]}").split("/")
        made = self.data("POST", f"databases/{base}/pulls", user, json={
            "title": f"claim {branch}", "description": "text", "to_branch": to,
            "from_branch": {"database": {"owner": owner, "name": name}, "branch_name": branch},
        })  # fmt: skip
        return int(made["pull_number"])

    def merge(self, base: str, number: int, user: str) -> dict[str, Any]:
        return self.ended(self.v2("POST", f"databases/{base}/pulls/{number}/merge", user), user)


def prepared(hub: Hub) -> Api:
    """Acme's board, its maintainer, two forks, a reader, a token that only reads and a stranger."""
    for name in ("mia", "ada", "bob", "eve", "rita"):
        hub.add_user(name)
    hub.tokens["mia-read"] = hub.wl("token", "add", "mia", "--read-only")["token"]
    hub.wl("org", "add", "acme")
    hub.wl("org", "member", "acme", "mia", "--role", "admin")
    hub.wl("org", "member", "acme", "rita", "--role", "reader")
    hub.seed("acme", "commons", user="mia")
    made = Api(hub)
    for user in ("ada", "bob"):
        made.fork("acme/commons", user)
    return made


@pytest.fixture(scope="module")
def api(shared_hub: Hub) -> Iterator[Api]:
    made = prepared(shared_hub)
    made.hub.seed("acme", "secret", user="mia", private=True)
    yield made
    made.close()


@pytest.fixture
def faulty(api: Api) -> Iterator[Api]:
    """The hub, whose faults are off again afterwards."""
    yield api
    api.hub.faults()


# What it is


def test_it_says_what_it_is_without_a_token(api: Api) -> None:
    found = api.http.get("/.well-known/wasteland-hub").json()
    assert found == {"hub": "wl", "remote": api.hub.remote, "versions": ["v2", "v1alpha1"], "keys": True}


def test_a_token_tells_who_one_is_whatever_the_case_of_its_scheme(api: Api) -> None:
    assert api.v1("GET", "user", "ada").json()["username"] == "ada"
    assert api.data("GET", "user", "ada")["username"] == "ada"
    for scheme in ("TOKEN ", "bearer ", ""):
        header = {"AUTHORIZATION": f"{scheme}{api.hub.tokens['ada']}"}
        assert api.http.get("/api/v2/user", headers=header).json()["data"]["username"] == "ada"


def test_a_bad_token_is_said_as_each_generation_says_it(api: Api) -> None:
    header = {"authorization": "token nonsense"}
    v1 = api.http.get("/api/v1alpha1/acme/commons/main", headers=header)
    assert (v1.status_code, v1.json()["message"]) == (400, "invalid authorization")
    v2 = api.http.get("/api/v2/databases/acme/commons", headers=header)
    assert (v2.status_code, v2.json()["code"]) == (401, "UNAUTHENTICATED")
    assert v2.headers["content-type"] == "application/problem+json"


def test_a_token_ends_when_it_is_revoked_and_when_its_time_is_over(api: Api) -> None:
    hub = api.hub
    made = hub.wl("token", "add", "eve", "--days", "1")
    hub.tokens["eve-2"] = made["token"]
    assert api.v2("GET", "user", "eve-2").status_code == 200
    with sqlite3.connect(hub.folder / ".hub" / "hub.sqlite") as db:
        db.execute("UPDATE tokens SET expires = '2001-01-01T00:00:00Z' WHERE id = ?", (made["id"],))
    db.close()
    assert api.v2("GET", "user", "eve-2").status_code == 401
    again = hub.wl("token", "add", "eve")
    hub.tokens["eve-3"] = again["token"]
    assert api.v2("GET", "user", "eve-3").status_code == 200
    hub.wl("token", "revoke", str(again["id"]))
    assert api.v2("GET", "user", "eve-3").status_code == 401


def test_no_token_is_kept_where_somebody_could_read_it(api: Api) -> None:
    for file in (api.hub.folder / ".hub").glob("hub.sqlite*"):
        found = file.read_bytes()
        assert not [name for name, token in api.hub.tokens.items() if token.encode() in found]


def test_a_route_that_is_not_there_and_a_method_that_is_not_allowed(api: Api) -> None:
    assert api.v2("GET", "nonsense").json()["code"] == "NOT_FOUND"
    assert api.v2("DELETE", "databases").json()["code"] == "METHOD_NOT_ALLOWED"


def test_bodies_that_are_not_what_they_should_be_are_refused_in_words(api: Api) -> None:
    for body in (b"{", b"[]", b'{"owner": 7}', b"[" * 200_000):
        done = api.v2("POST", "databases", "ada", content=body)
        assert (done.status_code, done.json()["code"]) == (400, "VALIDATION_FAILED")
    assert api.v2("POST", "databases", "ada", content=b"x" * (5 << 20)).status_code == 413


def test_keys_of_dolt_creds_are_registered_once_and_belong_to_one_user(api: Api) -> None:
    public = dolt_keys.encoded(b"k" * 32)
    made = api.data("POST", "user/keys", "ada", json={"public_key": public})
    assert made["key_id"] == dolt_keys.key_id(b"k" * 32)
    assert api.data("GET", "user/keys", "ada") == [made]
    assert api.v2("POST", "user/keys", "bob", json={"public_key": public}).status_code == 409
    assert api.v2("DELETE", "user/keys", "bob", params={"public_key": public}).status_code == 404
    assert api.v2("DELETE", "user/keys", "ada", params={"public_key": public}).status_code == 200
    for nonsense in ("", "xyz", public[:-1], "z" * 52, "/" * 52):
        assert api.v2("POST", "user/keys", "ada", json={"public_key": nonsense}).status_code == 400


# Databases and forks


def test_a_database_is_made_once_and_by_its_owner_only(api: Api) -> None:
    asked = {"ownerName": "bob", "repoName": "made", "visibility": "public", "description": "d"}
    done = api.v1("POST", "database", "bob", json=asked)
    assert done.json() == {"status": "Success", "description": "d", "repository_owner": "bob",
                           "repository_name": "made", "visibility": "public"}  # fmt: skip
    again = api.v1("POST", "database", "bob", json=asked)
    assert again.status_code == 409
    assert "already exists" in again.json()["message"]
    v2 = {"owner": "bob", "name": "MADE", "visibility": "public"}
    assert api.v2("POST", "databases", "bob", json=v2).json()["code"] == "CONFLICT"
    assert api.v2("POST", "databases", "eve", json=v2 | {"name": "x"}).status_code == 403
    assert api.v2("POST", "databases", None, json=v2 | {"name": "x"}).status_code == 401
    assert api.v2("POST", "databases", "bob", json=v2 | {"name": "../x"}).status_code == 400
    assert api.v2("POST", "databases", "rita", json=v2 | {"owner": "acme", "name": "x"}).status_code == 403
    assert api.data("GET", "databases/bob/made")["owner"] == "bob"


def test_a_new_database_has_no_branch_and_takes_any_first_push(api: Api) -> None:
    clone = api.hub.seed("ada", "fresh")
    assert [one["name"] for one in api.data("GET", "databases/ada/fresh/branches")] == ["main"]
    api.hub.dolt("ada", clone, "sql", "-q", "UPDATE wanted SET status='x'; CALL DOLT_COMMIT('-am', 'second')")
    api.hub.dolt("ada", clone, "push", "--user", "ada", "origin", "main")
    assert api.rows("ada/fresh", "SELECT DISTINCT status FROM wanted") == [["x"]]


def test_an_empty_database_can_be_neither_read_nor_cloned_nor_forked(api: Api) -> None:
    api.data("POST", "databases", "ada", json={"owner": "ada", "name": "empty"})
    assert api.data("GET", "databases/ada/empty/branches") == []
    done = api.v1("GET", "ada/empty/main", None, params={"q": "SELECT 1"})
    assert (done.status_code, done.json()["query_execution_message"]) == (200, "branch not found")
    assert api.v1("GET", "ada/empty/hub-empty", None).json()["query_execution_message"] == "branch not found"
    assert api.v2("POST", "databases/ada/empty/forks", "bob", json={"owner": "bob"}).status_code == 422
    found = api.hub.dolt("eve", api.hub.folder, "clone", f"{api.hub.remote}/ada/empty", "x-empty", check=False)
    assert found.returncode != 0


def test_the_main_of_a_database_may_be_deleted_by_a_push_and_pushed_again(api: Api) -> None:
    clone = api.hub.seed("eve", "moved")
    api.hub.dolt("eve", clone, "push", "--user", "eve", "origin", "main:other")
    api.hub.dolt("eve", clone, "push", "--user", "eve", "origin", ":main", check=False)
    assert [one["name"] for one in api.data("GET", "databases/eve/moved/branches")] == ["other"]
    assert len(api.rows("eve/moved", "SELECT * FROM wanted", ref="other")) == 2
    api.hub.dolt("eve", clone, "push", "--user", "eve", "origin", "main")
    assert len(api.rows("eve/moved", "SELECT * FROM wanted")) == 2


def test_a_fork_has_the_history_and_the_branches_of_its_parent(api: Api) -> None:
    clone = api.hub.seed("ada", "parent")
    api.hub.dolt("ada", clone, "push", "--user", "ada", "origin", "main:wl/ada/w-9")
    done = api.v1("POST", "fork", "bob", json={
        "ownerName": "bob", "parentOwnerName": "ada", "parentDatabaseName": "parent",
    })  # fmt: skip
    asked = done.json()
    assert (asked["status"], asked["forked_owner"]) == ("Success", "bob")
    polled = api.polled("fork", asked["operation_name"], "bob").json()
    assert (polled["database_owner"], polled["database_name"]) == ("bob", "parent")
    for repo in ("ada/parent", "bob/parent"):
        heads = {one["name"]: one["head_commit_sha"] for one in api.data("GET", f"databases/{repo}/branches")}
        assert set(heads) == {"main", "wl/ada/w-9"}
    assert api.rows("bob/parent", "SELECT commit_hash FROM dolt_log") == api.rows(
        "ada/parent", "SELECT commit_hash FROM dolt_log"
    )
    listed = api.v1("GET", "ada/parent/forks").json()
    assert listed["forks"] == [{"owner_name": "bob", "database_name": "parent"}]
    assert listed["fork_network_count"] == 2
    assert [one["owner"] for one in api.data("GET", "databases/ada/parent/forks")] == ["bob"]


def test_a_second_fork_is_refused_as_each_generation_does(api: Api) -> None:
    done = api.v1("POST", "fork", "ada", json={
        "ownerName": "ada", "parentOwnerName": "acme", "parentDatabaseName": "commons",
    })  # fmt: skip
    assert done.status_code == 400
    assert "already exists" in done.json()["message"]
    again = api.v2("POST", "databases/acme/commons/forks", "ada", json={"owner": "ada"})
    assert (again.status_code, again.json()["code"]) == (422, "UNPROCESSABLE")


def test_nobody_forks_into_the_name_of_another(api: Api) -> None:
    assert api.v2("POST", "databases/acme/commons/forks", "eve", json={"owner": "rita"}).status_code == 403
    assert api.v2("POST", "databases/acme/commons/forks", None, json={"owner": "eve"}).status_code == 401
    assert api.v2("POST", "databases/acme/commons/forks", "eve", json={"owner": "nobody"}).status_code == 403


def test_branches_are_listed_and_made_at_branches_and_commits(api: Api) -> None:
    head = api.data("GET", "databases/ada/commons/branches")[0]["head_commit_sha"]
    made = api.v1("POST", "ada/commons/branches", "ada", json={
        "revisionType": "branch", "revisionName": "main", "newBranchName": "wl/ada/b-1",
    })  # fmt: skip
    assert made.json()["status"] == "Success"
    commit = {"name": "b-2", "from": {"commit": head}}
    assert api.data("POST", "databases/ada/commons/branches", "ada", json=commit)["head_commit_sha"] == head
    assert {"branch_name": "wl/ada/b-1"} in api.v1("GET", "ada/commons/branches").json()["branches"]
    assert api.v2("POST", "databases/ada/commons/branches", "ada", json=commit).status_code == 409
    assert api.v2("POST", "databases/ada/commons/branches", "bob", json=commit | {"name": "b-3"}).status_code == 403
    gone = {"name": "b-4", "from": {"branch": "nope"}}
    assert api.v2("POST", "databases/ada/commons/branches", "ada", json=gone).status_code == 404
    odd = {"name": "b'; DROP", "from": {"branch": "main"}}
    assert api.v2("POST", "databases/ada/commons/branches", "ada", json=odd).status_code == 404


# Reading


def test_rows_are_read_in_the_shapes_of_both_generations(api: Api) -> None:
    sql = "SELECT id, claimed_by FROM wanted WHERE id LIKE 'w-1%'"
    v1 = api.v1("GET", "acme/commons/main", "ada", params={"q": sql}).json()
    assert v1["query_execution_status"] == "Success"
    assert v1["rows"] == [{"id": "w-1", "claimed_by": None}]
    assert v1["schema"] == [{"columnName": "id", "columnType": "varchar"},
                            {"columnName": "claimed_by", "columnType": "varchar"}]  # fmt: skip
    assert (v1["repository_owner"], v1["commit_ref"], v1["sql_query"]) == ("acme", "main", sql)
    v2 = api.data("GET", "databases/acme/commons/sql", None, params={"q": sql, "ref": "main"})
    assert v2["rows"] == [["w-1", None]]
    assert v2["columns"][0] == {"name": "id", "type": "varchar", "is_primary_key": True, "source_table": "wanted"}
    assert api.data("POST", "databases/acme/commons/sql", None, json={"q": sql})["rows"] == [["w-1", None]]


def test_a_ref_is_one_segment_and_may_be_a_branch_a_commit_or_a_tag(api: Api) -> None:
    api.write("ada/commons", "ada", "UPDATE wanted SET title = 'Ref' WHERE id = 'w-2'", "wl/ada/ref")
    found = api.v1("GET", "ada/commons/wl%2Fada%2Fref", "ada", params={"q": "SELECT title FROM wanted WHERE id='w-2'"})
    assert found.json()["rows"] == [{"title": "Ref"}]
    heads = {one["name"]: one["head_commit_sha"] for one in api.data("GET", "databases/ada/commons/branches")}
    at = api.v1("GET", f"ada/commons/{heads['main']}", None, params={"q": "SELECT title FROM wanted WHERE id='w-2'"})
    assert at.json()["rows"] == [{"title": "Two"}]
    diff = "SELECT to_title FROM dolt_diff('main', 'wl/ada/ref', 'wanted')"
    assert api.rows("ada/commons", diff, ref="wl/ada/ref") == [["Ref"]]
    assert len(api.rows("ada/commons", "SELECT * FROM wanted AS OF 'main'", ref="wl/ada/ref")) == 2


def test_without_a_token_the_ref_may_be_left_out_with_one_it_may_not(api: Api) -> None:
    assert (
        api.v1("GET", "acme/commons").json()["rows"] == [{"Tables_in_r1": "wanted"}]
        or api.v1("GET", "acme/commons").json()["query_execution_status"] == "Success"
    )
    done = api.v1("GET", "acme/commons", "ada", params={"q": "SELECT 1"})
    assert done.status_code == 400
    assert "must include a refName" in done.json()["query_execution_message"]


def test_a_branch_that_is_not_there_is_an_error_with_status_200_in_v1(api: Api) -> None:
    done = api.v1("GET", "acme/commons/nope", None, params={"q": "SELECT 1"})
    assert (done.status_code, done.json()["query_execution_status"]) == (200, "Error")
    assert done.json()["query_execution_message"] == "branch not found"
    assert api.v2("GET", "databases/acme/commons/sql", None, params={"ref": "nope"}).status_code == 404


def test_wrong_sql_is_400_in_v1_and_200_with_a_status_in_v2(api: Api) -> None:
    v1 = api.v1("GET", "acme/commons/main", None, params={"q": "SELECT nope FROM wanted"})
    assert (v1.status_code, v1.json()["query_execution_status"]) == (400, "Error")
    v2 = api.data("GET", "databases/acme/commons/sql", None, params={"q": "SELECT nope FROM wanted"})
    assert (v2["status"], v2["rows"]) == ("error", [])


def test_more_rows_than_the_cap_are_cut_and_it_is_said(api: Api) -> None:
    sql = "SELECT a.id FROM information_schema.collations a, information_schema.collations b LIMIT 100000"
    v1 = api.v1("GET", "acme/commons/main", None, params={"q": sql}).json()
    assert (v1["query_execution_status"], len(v1["rows"])) == ("RowLimit", 1000)
    v2 = api.data("GET", "databases/acme/commons/sql", None, params={"q": sql, "limit": "5"})
    assert (v2["status"], len(v2["rows"])) == ("row_limit", 5)


def test_a_read_that_takes_too_long_is_ended(api: Api) -> None:
    many = ", ".join(f"information_schema.collations c{n}" for n in range(6))
    started = time.monotonic()
    asked = {"q": f"SELECT COUNT(*) FROM {many} WHERE c0.id + c5.id = -1", "timeout_ms": "300"}
    found = api.data("GET", "databases/acme/commons/sql", None, params=asked)
    assert found["status"] == "timeout"
    assert time.monotonic() - started < 10
    assert api.rows("acme/commons", "SELECT 1") == [["1"]]


REFUSED = (
    "DELETE FROM wanted",
    "UPDATE wanted SET title = 'x'",
    "CALL DOLT_BRANCH('x')",
    "SET @@GLOBAL.max_connections = 1",
    "USE mysql",
    "DROP TABLE wanted",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT 1 INTO OUTFILE '/tmp/never'",
    "SELECT 1 INTO DUMPFILE '/tmp/never'",
    "SELECT SLEEP(5)",
    "SELECT BENCHMARK(1000000, MD5('x'))",
    "SELECT GET_LOCK('x', 1)",
    "SELECT * FROM mysql.user",
    "SELECT * FROM `mysql`.`user`",
    "SELECT * FROM information_schema.processlist",
    "SELECT * FROM information_schema.`PROCESSLIST`",
    "SHOW PROCESSLIST",
    "SHOW GRANTS",
    "SHOW VARIABLES",
    "SELECT @@datadir",
    "SELECT * FROM dolt_remotes",
    "SELECT * FROM dolt_query_diff('SELECT 1', 'SELECT 2')",
    "SELECT 1; SELECT 2",
    "SELECT /*! 1 */ 2",
    "WITH a AS (SELECT 1) DELETE FROM wanted",
    "EXPLAIN ANALYZE DELETE FROM wanted",
)


@pytest.mark.parametrize("sql", REFUSED)
def test_sql_that_does_more_than_read_rows_is_refused(api: Api, sql: str) -> None:
    v1 = api.v1("GET", "acme/commons/main", "mia", params={"q": sql})
    assert v1.json()["query_execution_status"] == "Error", v1.text
    assert "rows" not in v1.json()
    assert api.data("POST", "databases/acme/commons/sql", "mia", json={"q": sql})["status"] == "error"
    assert len(api.rows("acme/commons", "SELECT * FROM wanted")) == 2


def test_what_stands_in_a_string_is_not_taken_for_sql() -> None:
    assert queries.reading("SELECT 'sleep(1); -- /* mysql.user @@x' AS a;")
    assert queries.reading("SELECT \"its; load_file\" FROM wanted WHERE a = '\\';sleep'")
    assert queries.writing("UPDATE wanted AS `x'` SET title = (SELECT MAX(info) FROM nosy) WHERE id = 'w-1'")
    assert not queries.writing("UPDATE wanted SET title = 'select ; /* sleep(1) */ # -- '")
    for hidden in ("SELECT 'a' -- b", "SELECT 1 # b", "SELECT `'` FROM a; DROP TABLE b -- '", "SELECT 'a", 'SELECT "a',
                   "SELECT `a", "SELECT `'`, sleep(9), `'`", "SHOW TABLES WHERE 1 = (SELECT 1)"):  # fmt: skip
        with pytest.raises(Refused):
            queries.reading(hidden)


def test_words_that_are_refused_as_functions_may_stand_in_texts_and_names(api: Api) -> None:
    plain = "SELECT COUNT(*) AS `sleep` FROM wanted WHERE title LIKE '%benchmark%';"
    assert api.rows("acme/commons", plain) == [["0"]]


def test_no_statement_reaches_another_repository(api: Api) -> None:
    with sqlite3.connect(api.hub.folder / ".hub" / "hub.sqlite") as db:
        (number,) = db.execute("SELECT id FROM repositories WHERE owner = 'acme' AND name = 'secret'").fetchone()
    db.close()
    for name in (
        f"r{number}.wanted",
        f"`r{number}/main`.wanted",
        f"`r{number}`.dolt_log",
        f"`r{number}`.dolt_branches",
    ):
        found = api.data("GET", "databases/acme/commons/sql", "eve", params={"q": f"SELECT * FROM {name}"})
        assert (found["status"], found["rows"]) == ("error", []), name
        done = api.write("bob/commons", "bob", f"INSERT INTO wanted SELECT 'w-9', 't', 's', NULL FROM {name}", "steal")
        assert done["status"] == "failed", name
    listed = api.rows("acme/commons", "SELECT schema_name FROM information_schema.schemata", "eve")
    assert not [row for row in listed if f"r{number}" == (row[0] or "").partition("/")[0]]


def test_a_view_cannot_hide_what_a_statement_may_not_do(api: Api) -> None:
    sql = (
        "CREATE TABLE wanted (id INT PRIMARY KEY, t TEXT); INSERT INTO wanted VALUES (1, 'a');"
        "CREATE VIEW fine AS SELECT t FROM wanted;"
        "CREATE VIEW nosy AS SELECT info FROM information_schema.processlist;"
        "CREATE VIEW slow AS SELECT SLEEP(30) AS s"
    )
    api.hub.seed("eve", "views", sql)
    assert api.rows("eve/views", "SELECT * FROM fine") == [["a"]]
    for query in ("SELECT * FROM nosy", "WITH a AS (SELECT * FROM nosy) SELECT (SELECT MAX(info) FROM a)",
                  "SELECT * FROM wanted WHERE t IN (SELECT info FROM nosy)", "SELECT * FROM slow"):  # fmt: skip
        found = api.data("GET", "databases/eve/views/sql", "eve", params={"q": query})
        assert (found["status"], found["rows"]) == ("error", []), query
    done = api.write("eve/views", "eve", "UPDATE wanted SET t = (SELECT MAX(info) FROM nosy)")
    assert done["status"] == "failed"


def test_a_branch_with_triggers_takes_no_writes(api: Api) -> None:
    sql = (
        "CREATE TABLE wanted (id INT PRIMARY KEY, t TEXT); "
        "CREATE TRIGGER t BEFORE INSERT ON wanted FOR EACH ROW SET NEW.t = 'by trigger'"
    )
    api.hub.seed("eve", "triggers", sql)
    assert api.write("eve/triggers", "eve", "INSERT INTO wanted VALUES (1, 'a')")["status"] == "failed"
    assert api.rows("eve/triggers", "SELECT * FROM wanted") == []


# Writing


def test_a_write_makes_its_branch_and_is_one_commit_by_the_user(api: Api) -> None:
    path = "ada/commons/write/main/wl%2Fada%2Fw-1a"
    asked = api.v1("POST", path, "ada", params={"q": "UPDATE wanted SET title = 'by ada' WHERE id = 'w-1'"}).json()
    assert (asked["from_branch_name"], asked["to_branch_name"]) == ("main", "wl/ada/w-1a")
    found = api.polled("ada/commons/write", asked["operation_name"], "ada").json()["res_details"]
    assert found["query_execution_status"] == "Success"
    log = "SELECT commit_hash, committer FROM dolt_log LIMIT 2"
    (commit, who), (before, _) = api.rows("ada/commons", log, ref="wl/ada/w-1a")
    assert (found["from_commit_id"], found["to_commit_id"], who) == (before, commit, "ada")
    assert api.rows("ada/commons", "SELECT title FROM wanted WHERE id = 'w-1'") == [["One"]]


def test_the_query_of_a_write_may_come_in_the_body(api: Api) -> None:
    body = {"query": "UPDATE wanted SET title = 'body' WHERE id = 'w-1'"}
    asked = api.v1("POST", "ada/commons/write/main/from-body", "ada", json=body).json()
    assert api.polled("ada/commons/write", asked["operation_name"], "ada").json()["res_details"]["to_commit_id"]


def test_a_write_that_changes_nothing_is_the_400_of_the_service(api: Api) -> None:
    asked = api.v1("POST", "ada/commons/write/main/same", "ada", params={"q": "UPDATE wanted SET id = id"}).json()
    found = api.polled("ada/commons/write", asked["operation_name"], "ada")
    assert found.status_code == 400
    assert "SqlWrite.toCommitId" in found.json()["query_execution_message"]
    v2 = api.write("ada/commons", "ada", "DELETE FROM wanted WHERE id = 'nope'", "same")
    assert (v2["status"], v2["result"]) == ("succeeded", {"commit_sha": None})


def test_an_empty_query_merges_the_first_branch_into_the_second(api: Api) -> None:
    api.write("ada/commons", "ada", "UPDATE wanted SET title = 'merged' WHERE id = 'w-2'", "side")
    api.data("POST", "databases/ada/commons/branches", "ada", json={"name": "into", "from": {"branch": "main"}})
    asked = api.v1("POST", "ada/commons/write/side/into", "ada", params={"q": ""}).json()
    found = api.polled("ada/commons/write", asked["operation_name"], "ada").json()["res_details"]
    head = {one["name"]: one["head_commit_sha"] for one in api.data("GET", "databases/ada/commons/branches")}["into"]
    assert (found["from_commit_id"], found["to_commit_id"]) == (head, "")
    assert api.rows("ada/commons", "SELECT title FROM wanted WHERE id = 'w-2'", ref="into") == [["merged"]]


@pytest.mark.parametrize("sql", [
    "CREATE TABLE x (a INT PRIMARY KEY)", "DROP TABLE wanted", "CALL DOLT_RESET('--hard')", "SELECT 1",
    "DELETE FROM wanted; DELETE FROM wanted", "INSERT INTO wanted VALUES (LOAD_FILE('/etc/passwd'), 'x', 'x', 'x')",
    "UPDATE wanted SET title = (SELECT MAX(info) FROM information_schema.processlist)",
    "UPDATE wanted SET title = @@datadir", "INSERT INTO mysql.user VALUES (1)", "nonsense",
    "UPDATE wanted SET nope = 1",
])  # fmt: skip
def test_a_write_that_is_no_plain_change_of_rows_fails_and_leaves_nothing(api: Api, sql: str) -> None:
    before = api.data("GET", "databases/ada/commons/branches")
    found = api.write("ada/commons", "ada", sql, "never-made")
    assert found["status"] == "failed"
    assert found["error"]["message"]
    assert api.data("GET", "databases/ada/commons/branches") == before


def test_operations_are_listed_for_their_user_and_for_writers(api: Api) -> None:
    api.write("ada/commons", "ada", "UPDATE wanted SET title = 'listed' WHERE id = 'w-1'", "listed")
    mine = api.v1("GET", "users/ada/operations", "ada", params={"operationType": "SqlWrite"}).json()["operations"]
    assert (mine[0]["operation_type"], mine[0]["status"]) == ("SqlWrite", "Success")
    assert len(mine) <= 15
    assert api.v1("GET", "users/ada/operations", "bob").status_code == 400
    assert api.v1("GET", "ada/commons/jobs", "ada").json()["jobs"][0]["status"] == "Succeeded"
    assert api.v1("GET", "ada/commons/jobs", "bob").status_code == 403
    assert api.data("GET", "databases/ada/commons/operations", "ada")[0]["type"] == "sql_write"
    assert api.data("GET", "operations", "ada")[0]["status"] == "succeeded"


def test_nobody_sees_the_operation_of_another(api: Api) -> None:
    asked = {"from_branch": "main", "to_branch": "mine", "q": "UPDATE wanted SET title = 'mine' WHERE id = 'w-1'"}
    accepted = api.v2("POST", "databases/ada/commons/sql-writes", "ada", json=asked)
    href = accepted.json()["data"]["href"].removeprefix("/api/v2/")
    assert api.v2("GET", href, "bob").status_code == 404
    assert api.v2("GET", href).status_code == 404
    assert api.ended(accepted, "ada")["status"] == "succeeded"


# Pull requests


def test_a_pull_request_from_its_opening_to_its_merge_in_v1(api: Api) -> None:
    api.write("ada/commons", "ada", "UPDATE wanted SET title = 'One by v1' WHERE id = 'w-1'", "wl/ada/v1")
    made = api.v1("POST", "acme/commons/pulls", "ada", json={
        "title": "by v1", "description": "d", "fromBranchOwnerName": "ada", "fromBranchRepoName": "commons",
        "fromBranchName": "wl/ada/v1", "toBranchOwnerName": "acme", "toBranchRepoName": "commons",
        "toBranchName": "main",
    }).json()  # fmt: skip
    number = made["pull_id"]
    assert (made["from_owner_name"], made["to_branch_name"]) == ("ada", "main")
    path = f"acme/commons/pulls/{number}"
    found = api.v1("GET", path).json()
    assert (found["state"], found["author"], found["from_branch"], found["from_branch_name"]) == (
        "Open", "ada", "wl/ada/v1", "wl/ada/v1",
    )  # fmt: skip
    listed = api.v1("GET", "acme/commons/pulls").json()["pulls"]
    (mine,) = [one for one in listed if one["pull_id"] == number]
    assert (mine["creator"], "from_branch" in mine) == ("ada", False)
    assert api.v1("PATCH", path, "ada", json={"title": "new"}).json()["title"] == "new"
    assert api.v1("POST", f"{path}/comments", "eve", json={"comment": "nice"}).json()["comment"] == "nice"
    assert api.v1("POST", f"{path}/merge", "ada").status_code == 403
    started = api.v1("POST", f"{path}/merge", "mia").json()
    assert api.polled(f"{path}/merge", started["operation_name"], "mia").json()["job_status"] == "Completed"
    assert api.v1("GET", path).json()["state"] == "Merged"
    assert api.rows("acme/commons", "SELECT title FROM wanted WHERE id = 'w-1'") == [["One by v1"]]
    who, message = api.rows("acme/commons", "SELECT committer, message FROM dolt_log LIMIT 1")[0]
    assert (who, message) == ("mia", f"Merge pull request #{number} from ada/commons/wl/ada/v1")
    assert api.v1("POST", f"{path}/merge", "mia").status_code == 400
    assert api.v2("POST", f"databases/{path}/merge", "mia").status_code == 422


def test_a_pull_request_is_closed_and_opened_again_by_its_author_or_a_writer(api: Api) -> None:
    api.write("bob/commons", "bob", "UPDATE wanted SET status = 'closing' WHERE id = 'w-2'", "wl/bob/close")
    path = f"databases/acme/commons/pulls/{api.pull('acme/commons', 'bob', 'wl/bob/close')}"
    assert api.v2("PATCH", path, "ada", json={"state": "closed"}).status_code == 403
    assert api.v2("PATCH", path, None, json={"state": "closed"}).status_code == 401
    assert api.data("PATCH", path, "bob", json={"state": "closed"})["state"] == "closed"
    assert api.data("PATCH", path, "bob", json={"state": "closed"})["state"] == "closed"
    assert api.v2("POST", f"{path}/merge", "mia").status_code == 422
    assert api.v1("PATCH", path.removeprefix("databases/"), "bob", json={"state": "open"}).status_code == 400
    assert api.data("PATCH", path, "mia", json={"state": "open"})["state"] == "open"
    assert api.v2("PATCH", path, "mia", json={"state": "merged"}).status_code == 400
    assert api.v1("PATCH", path.removeprefix("databases/"), "mia", json={"state": "closed"}).json()["state"] == "Closed"
    listed = api.data("GET", "databases/acme/commons/pulls", None, params={"state": "closed"})
    assert {one["state"] for one in listed} == {"closed"}


def test_comments_are_read_in_order_by_v2(api: Api) -> None:
    api.write("bob/commons", "bob", "UPDATE wanted SET status = 'talk' WHERE id = 'w-2'", "wl/bob/talk")
    path = f"databases/acme/commons/pulls/{api.pull('acme/commons', 'bob', 'wl/bob/talk')}"
    for user, text in (("eve", "first"), ("mia", "second")):
        assert api.data("POST", f"{path}/comments", user, json={"body": text})["body"] == text
    found = api.data("GET", f"{path}/comments")
    assert [(one["author"], one["body"]) for one in found] == [("eve", "first"), ("mia", "second")]
    assert api.v2("POST", f"{path}/comments", None, json={"body": "x"}).status_code == 401
    assert api.v2("POST", f"{path}/comments", "mia-read", json={"body": "x"}).status_code == 403
    assert api.v2("POST", f"{path}/comments", "eve", json={"body": "  "}).status_code == 400


def test_a_pull_request_needs_a_source_that_is_there_and_of_the_same_family(api: Api) -> None:
    def opened(user: str, owner: str, repo: str, branch: str) -> int:
        source = {"database": {"owner": owner, "name": repo}, "branch_name": branch}
        asked = {"title": "t", "to_branch": "main", "from_branch": source}
        return api.v2("POST", "databases/acme/commons/pulls", user, json=asked).status_code

    api.hub.seed("bob", "stranger")
    assert opened("bob", "bob", "stranger", "main") == 422
    assert opened("bob", "bob", "commons", "nope") == 404
    assert opened("bob", "ada", "commons", "main") == 403
    assert opened("eve", "bob", "commons", "main") == 403
    assert opened("bob", "acme", "secret", "main") == 404


def test_rival_claims_of_one_item_end_in_one_merge_and_one_conflict(api: Api) -> None:
    first, second = api.claim("w-2", "ada"), api.claim("w-2", "bob")
    assert api.merge("acme/commons", first, "mia")["status"] == "succeeded"
    lost = api.merge("acme/commons", second, "mia")
    assert lost["status"] == "failed"
    assert "conflict" in lost["error"]["message"]
    assert api.data("GET", f"databases/acme/commons/pulls/{second}")["state"] == "open"
    assert api.rows("acme/commons", "SELECT claimed_by FROM wanted WHERE id = 'w-2'") == [["ada"]]


def test_merges_at_the_same_time_land_one_after_the_other(api: Api) -> None:
    api.hub.seed("mia", "busy", "CREATE TABLE wanted (id INT PRIMARY KEY, t TEXT)")
    for number in range(6):
        api.write("mia/busy", "mia", f"INSERT INTO wanted VALUES ({number}, 'x')", f"b-{number}")
        api.pull("mia/busy", "mia", f"b-{number}")
    started = [api.v2("POST", f"databases/mia/busy/pulls/{number}/merge", "mia") for number in range(1, 7)]
    assert {api.ended(one, "mia")["status"] for one in started} == {"succeeded"}
    assert len(api.rows("mia/busy", "SELECT * FROM wanted")) == 6


def test_a_fork_is_levelled_by_a_pull_request_from_upstream(api: Api) -> None:
    api.hub.seed("mia", "upper")
    api.fork("mia/upper", "eve")
    api.write("mia/upper", "mia", "UPDATE wanted SET title = 'news' WHERE id = 'w-1'")
    api.write("eve/upper", "eve", "UPDATE wanted SET title = 'own' WHERE id = 'w-2'")
    number = api.pull("eve/upper", "eve", "main", source="mia/upper")
    assert api.merge("eve/upper", number, "eve")["status"] == "succeeded"
    assert api.rows("eve/upper", "SELECT title FROM wanted ORDER BY id") == [["news"], ["own"]]
    head = api.rows("mia/upper", "SELECT commit_hash FROM dolt_log LIMIT 1")[0][0]
    assert [head] in api.rows("eve/upper", "SELECT commit_hash FROM dolt_log")
    again = api.pull("eve/upper", "eve", "main", source="mia/upper")
    assert api.merge("eve/upper", again, "eve")["status"] == "succeeded"


def test_pull_requests_come_in_pages(api: Api) -> None:
    api.hub.seed("mia", "many")
    api.data("POST", "databases/mia/many/branches", "mia", json={"name": "b", "from": {"branch": "main"}})
    with sqlite3.connect(api.hub.folder / ".hub" / "hub.sqlite") as db:
        (repo,) = db.execute("SELECT id FROM repositories WHERE name = 'many'").fetchone()
        db.executemany(
            "INSERT INTO pulls VALUES (?, ?, 't', '', 'open', 'mia', ?, 'b', 'main', '2026', NULL, NULL)",
            [(repo, number, repo) for number in range(1, 251)],
        )
    db.close()
    for path, key, call in (
        ("mia/many/pulls", "pageToken", api.v1),
        ("databases/mia/many/pulls", "page_token", api.v2),
    ):
        seen, token = [], ""
        for size in (100, 100, 50):
            found = call("GET", path, None, params={key: token} if token else {}).json()
            rows = found.get("pulls") or found["data"]
            assert len(rows) == size
            seen += [int(one.get("pull_id") or one["pull_number"]) for one in rows]
            token = found.get("next_page_token") or found.get("meta", {}).get("next_page_token", "")
        assert (seen, token) == (list(range(1, 251)), "")


# Who may do what


def test_a_private_database_is_not_there_for_those_who_may_not_see_it(api: Api) -> None:
    for user in (None, "ada", "eve"):
        v1 = api.v1("GET", "acme/secret/main", user, params={"q": "SELECT 1"})
        assert (v1.status_code, v1.json()["message"]) == (400, "no such repository")
        for path in ("", "/sql", "/branches", "/pulls", "/forks", "/pulls/1"):
            assert api.v2("GET", f"databases/acme/secret{path}", user).status_code == 404
        assert api.v2("POST", "databases/acme/secret/forks", user, json={"owner": user or "x"}).status_code == 404
    gone = api.v2("GET", "databases/acme/nothing", "ada").json()
    assert {**gone, "request_id": ""} == {**api.v2("GET", "databases/acme/secret", "ada").json(), "request_id": ""}
    for user in ("mia", "rita", "mia-read"):
        assert len(api.rows("acme/secret", "SELECT * FROM wanted", user)) == 2


def test_who_may_write_and_who_may_not(api: Api) -> None:
    asked = {"from_branch": "main", "to_branch": "x", "q": "UPDATE wanted SET title = title"}
    expected = {None: 401, "ada": 403, "eve": 403, "rita": 403, "mia-read": 403, "mia": 202}
    for user, status in expected.items():
        assert api.v2("POST", "databases/acme/commons/sql-writes", user, json=asked).status_code == status
    v1 = api.v1("POST", "acme/commons/write/main/x", "mia-read", params={"q": "DELETE FROM wanted"})
    assert v1.status_code == 403
    assert v1.json()["message"] == "API token is not allowed to operate on this resource"


# Webhooks


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent; the first request fails."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.headers["x-wasteland-signature"], body))
        self.send_response(500 if len(self.got) == 1 else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_events_are_sent_signed_and_sent_again_when_they_fail(api: Api) -> None:
    api.hub.seed("mia", "hooked")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/x"
        secret = api.hub.wl("webhook", "add", "mia/hooked", url)["secret"]
        api.write("mia/hooked", "mia", "UPDATE wanted SET title = 'x' WHERE id = 'w-1'", "side")
        number = api.pull("mia/hooked", "mia", "side")
        api.merge("mia/hooked", number, "mia")
        deadline = time.monotonic() + 10
        while len(Receiver.got) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        server.shutdown()
        server.server_close()
    events = []
    for signature, body in Receiver.got:
        assert signature == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        events.append(json.loads(body))
    assert events[0] == events[1]
    assert [(one["event_name"], one.get("action"), one.get("ref")) for one in events[1:]] == [
        ("branch", "Created", None), ("push", None, "refs/heads/side"), ("pull_request", "Opened", None),
        ("push", None, "refs/heads/main"), ("pull_request", "Merged", None),
    ]  # fmt: skip
    assert events[2]["repository"] == {"owner": "mia", "name": "hooked"}
    assert (events[5]["state"], events[5]["pullID"], events[5]["sender"]) == ("Merged", "1", "mia")


# Faults


def test_a_limited_hub_says_when_to_come_again(faulty: Api) -> None:
    faulty.hub.faults(rate_limit=2)
    found = [faulty.v2("GET", "databases/acme/commons") for _ in range(4)]
    assert sorted(one.status_code for one in found) == [200, 200, 429, 429]
    assert {one.headers.get("retry-after") for one in found if one.status_code == 429} == {"1"}


def test_an_error_before_has_done_nothing_and_an_error_after_has_done_it(faulty: Api) -> None:
    def made(name: str) -> tuple[int, bool]:
        asked = {"name": name, "from": {"branch": "main"}}
        done = faulty.v2("POST", "databases/bob/commons/branches", "bob", json=asked)
        faulty.hub.faults()
        here = [one["name"] for one in faulty.data("GET", "databases/bob/commons/branches")]
        return done.status_code, name in here

    faulty.hub.faults(error_before=1)
    assert made("before") == (500, False)
    faulty.hub.faults(error_after=1)
    assert made("after") == (500, True)


def test_a_dropped_answer_was_carried_out(faulty: Api) -> None:
    faulty.hub.faults(drop_after=1)
    asked = {"name": "dropped", "from": {"branch": "main"}}
    with pytest.raises(httpx2.TransportError):
        faulty.v2("POST", "databases/bob/commons/branches", "bob", json=asked)
    faulty.hub.faults()
    assert "dropped" in [one["name"] for one in faulty.data("GET", "databases/bob/commons/branches")]


def test_a_delay_and_a_stale_read(faulty: Api) -> None:
    faulty.hub.faults(delay=0.2)
    started = time.monotonic()
    faulty.v2("GET", "databases/acme/commons")
    assert time.monotonic() - started >= 0.2
    faulty.hub.faults(stale=30)
    sql = "SELECT title FROM wanted WHERE id = 'w-1'"
    before = faulty.rows("bob/commons", sql, "bob")
    faulty.write("bob/commons", "bob", "UPDATE wanted SET title = 'not stale' WHERE id = 'w-1'")
    assert faulty.rows("bob/commons", sql, "bob") == before
    faulty.hub.faults()
    assert faulty.rows("bob/commons", sql, "bob") == [["not stale"]]


def test_a_poll_is_lost_in_either_way(faulty: Api) -> None:
    asked = {"from_branch": "main", "to_branch": "lost", "q": "UPDATE wanted SET title = 'lost' WHERE id = 'w-2'"}
    accepted = faulty.v2("POST", "databases/bob/commons/sql-writes", "bob", json=asked)
    faulty.ended(accepted, "bob")
    href = accepted.json()["data"]["href"].removeprefix("/api/v2/")
    faulty.hub.faults(lost_poll="404")
    assert faulty.v2("GET", href, "bob").status_code == 404
    polled = {"operationName": f"operations/{href.rpartition('/')[2]}"}
    assert faulty.v1("GET", "bob/commons/write", "bob", params=polled).status_code == 404
    faulty.hub.faults(lost_poll="never")
    assert faulty.v1("GET", "bob/commons/write", "bob", params=polled).json()["done"] is False
    assert faulty.data("GET", href, "bob")["status"] == "running"


def test_a_fork_may_lag_behind_its_operation(faulty: Api) -> None:
    faulty.hub.faults(fork_lag=0.6)
    faulty.hub.seed("mia", "lagging")
    faulty.fork("mia/lagging", "ada")
    missing = faulty.v1("GET", "ada/lagging/main", "ada", params={"q": "SELECT 1"})
    assert (missing.status_code, missing.json()["message"]) == (400, "no such repository")
    time.sleep(0.7)
    assert faulty.v1("GET", "ada/lagging/main", "ada", params={"q": "SELECT 1"}).status_code == 200


def test_names_of_branches_are_spelled_as_told(faulty: Api) -> None:
    faulty.write("bob/commons", "bob", "UPDATE wanted SET title = 'spelt' WHERE id = 'w-1'", "wl/bob/spelt")
    path = f"acme/commons/pulls/{faulty.pull('acme/commons', 'bob', 'wl/bob/spelt')}"
    for spelling, present in (("old", {"from_branch_name"}), ("new", {"from_branch"})):
        faulty.hub.faults(spelling=spelling)
        found = faulty.v1("GET", path).json()
        assert {"from_branch", "from_branch_name"} & found.keys() == present


def test_a_merge_may_lie(faulty: Api) -> None:
    faulty.write("bob/commons", "bob", "UPDATE wanted SET title = 'lied' WHERE id = 'w-1'", "wl/bob/lied")
    number = faulty.pull("acme/commons", "bob", "wl/bob/lied")
    faulty.hub.faults(merge_lies=True)
    assert faulty.merge("acme/commons", number, "mia")["status"] == "succeeded"
    faulty.hub.faults()
    assert faulty.data("GET", f"databases/acme/commons/pulls/{number}")["state"] == "open"
    assert faulty.rows("acme/commons", "SELECT title FROM wanted WHERE id = 'w-1'") != [["lied"]]


def test_schemes_may_have_to_be_as_documented(faulty: Api) -> None:
    faulty.hub.faults(token_header_case=True)
    for path, scheme, status in (("v2", "Bearer", 200), ("v2", "token", 401), ("v1alpha1", "token", 200),
                                 ("v1alpha1", "Token", 400)):  # fmt: skip
        header = {"authorization": f"{scheme} {faulty.hub.tokens['ada']}"}
        assert faulty.http.get(f"/api/{path}/user", headers=header).status_code == status


def test_faults_of_the_command_line_are_checked() -> None:
    from wasteland.hubserver import faults

    assert faults.parsed(("delay=0.5", "merge_lies", "spelling=old")) == {
        "delay": 0.5, "merge_lies": True, "spelling": "old",
    }  # fmt: skip
    for wrong in ("nonsense", "delay", "spelling=odd", "delay=x"):
        with pytest.raises(Usage):
            faults.parsed((wrong,))


# Starting and ending


def refused(*words: str) -> dict[str, Any]:
    done = subprocess.run([*COMMAND, "hub", "serve", *words, "--json"], capture_output=True, text=True,
                          env=environment(), timeout=60)  # fmt: skip
    assert done.returncode != 0
    found: dict[str, Any] = json.loads(done.stdout)["error"]
    return found


def test_it_listens_on_loopback_only_without_tls(tmp_path: Path) -> None:
    for words in (("--listen", "0.0.0.0:0"), ("--remote-listen", "0.0.0.0:0"), ("--listen", "[::]:0"),
                  ("--listen", "example.com:0")):  # fmt: skip
        assert refused(str(tmp_path / "h"), *words)["code"] == "Misconfigured"
    assert refused(str(tmp_path / "h"), "--listen", "nonsense")["code"] == "Usage"
    assert refused(str(tmp_path / "h"), "--tls-cert", "x")["code"] == "Usage"
    assert not (tmp_path / "h" / ".hub").exists()


def test_it_serves_with_a_certificate(tmp_path: Path) -> None:
    import ssl

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    made = Hub.start(tmp_path / "hub", "--tls-cert", str(cert), "--tls-key", str(key))
    try:
        trust = ssl.create_default_context(cafile=str(cert))
        found = httpx2.get(f"{made.api}/.well-known/wasteland-hub", verify=trust).json()
        assert made.api.startswith("https://")
        assert found["remote"] == made.remote
        assert made.remote.startswith("https://")
    finally:
        assert made.stop() == 0


def test_one_folder_has_one_hub_and_an_end_leaves_no_process(hub: Hub) -> None:
    found = refused(str(hub.folder), "--listen", "127.0.0.1:0", "--remote-listen", "127.0.0.1:0")
    assert found["code"] == "Misconfigured"
    assert "another hub" in found["message"]
    assert len(hub.dolt_processes()) == 2
    assert hub.stop() == 0
    assert hub.dolt_processes() == []


def test_a_hub_ends_when_its_database_server_does(hub: Hub) -> None:
    for process in hub.dolt_processes():
        os.kill(process, signal.SIGKILL)
    assert hub.process.wait(20) == 8
    assert "database server" in (hub.process.stdout.read() if hub.process.stdout else "")


def test_nothing_is_lost_when_the_hub_is_killed(hub: Hub) -> None:
    with contextlib.closing(prepared(hub)) as api:
        number = api.claim("w-1", "ada")
        api.data("POST", f"databases/acme/commons/pulls/{number}/comments", "bob", json={"body": "kept"})
        api.data("POST", "databases", "ada", json={"owner": "ada", "name": "unborn"})
        done = api.write("bob/commons", "bob", OPEN.format(who="bob", id="w-2"), "wl/bob/w-2")
    hub.kill()
    assert hub.dolt_processes() == []
    half_done(hub, number)
    again = hub.again()
    try:
        with contextlib.closing(Api(again)) as api:
            path = f"databases/acme/commons/pulls/{number}"
            assert [one["body"] for one in api.data("GET", f"{path}/comments")] == ["kept"]
            heads = {one["name"]: one["head_commit_sha"] for one in api.data("GET", "databases/bob/commons/branches")}
            assert heads["wl/bob/w-2"] == done["result"]["commit_sha"]
            settled(api, path)
            clone = again.folder / "clones" / "mia" / "commons"
            again.dolt("ada", clone, "remote", "add", "unborn", f"{again.remote}/ada/unborn")
            again.dolt("ada", clone, "push", "--user", "ada", "unborn", "main")
            assert len(api.rows("ada/unborn", "SELECT * FROM wanted")) == 2
    finally:
        again.stop()


def half_done(hub: Hub, number: int) -> None:
    """What a hub leaves that is killed during a merge, a write and the making of a database."""
    with sqlite3.connect(hub.folder / ".hub" / "hub.sqlite") as db:
        (base,) = db.execute("SELECT id FROM repositories WHERE owner = 'acme'").fetchone()
        for job, kind, about in (("m", "merge", {"number": number}), ("w", "sql_write", {"query": "x"})):
            row = (job, kind, base, json.dumps(about))
            db.execute("INSERT INTO operations VALUES (?, ?, ?, 'mia', 'running', ?, NULL, NULL, '2026')", row)
        db.execute(
            "INSERT INTO repositories (owner, name, private, description, empty, ready, created) "
            "VALUES ('mia', 'half', 0, '', 1, 0, '2026')"
        )
    db.close()


def settled(api: Api, pull: str) -> None:
    deadline = time.monotonic() + 10
    while api.data("GET", "operations/m", "mia")["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert api.data("GET", "operations/m", "mia")["status"] == "succeeded"
    assert api.data("GET", pull)["state"] == "merged"
    assert api.data("GET", "operations/w", "mia")["status"] == "failed"
    assert api.data("POST", "databases", "mia", json={"owner": "mia", "name": "half"})["name"] == "half"


def test_users_tokens_keys_and_webhooks_are_kept_by_commands(tmp_path: Path) -> None:
    def wl(*words: str, code: int = 0) -> dict[str, Any]:
        done = subprocess.run([*COMMAND, "hub", *words, "--json"], capture_output=True, text=True, env=environment())
        assert done.returncode == code, done.stdout
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    folder = str(tmp_path / "h")
    wl("token", "list", folder, code=9)
    wl("user", "add", folder, "ada")
    wl("user", "add", folder, "ADA", code=5)
    wl("user", "add", folder, "a/b", code=64)
    wl("token", "add", folder, "nobody", code=4)
    made = wl("token", "add", folder, "Ada", "--read-only")
    (listed,) = wl("token", "list", folder)["tokens"]
    assert (listed["user"], listed["scope"], made["token"] in json.dumps(listed)) == ("ada", "read", False)
    wl("key", "add", folder, "ada", dolt_keys.encoded(b"k" * 32))
    wl("key", "add", folder, "ada", "nonsense", code=64)
    wl("webhook", "add", folder, "ada/nothing", "http://127.0.0.1/", code=4)
    wl("webhook", "add", folder, "ada/nothing", "file:///etc/passwd", code=64)
    wl("org", "member", folder, "acme", "ada", code=4)
