"""What a hub's answers mean, in every spelling that was seen; no server, only recorded shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from wasteland.errors import (
    Conflict,
    Misconfigured,
    NotFound,
    Refused,
    Unauthenticated,
    Unreachable,
    Usage,
    WastelandError,
)
from wasteland.hub import Branch, Operation
from wasteland.hub import site as sites
from wasteland.hub.dolthub import DolthubHub
from wasteland.hub.known import Detail, Known
from wasteland.hub.rest import client as rest_module
from wasteland.hub.rest.client import Job, Unsure, Wire
from wasteland.hub.rest.operations import Task, literal
from wasteland.hub.rest.shapes import EPOCH, number_of, summary_of, time_of
from wasteland.hub.rest.v1 import Rest1
from wasteland.hub.rest.v2 import Rest2
from wasteland.hub.site import Site, base_url, discover

API = "https://hub.example"
TOKEN = "dhat.v1.secret-secret"
SOURCE, TARGET = Branch("bob", "commons", "wl/bob/w-1"), Branch("acme", "commons", "main")
Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(rest_module, "FIRST_PAUSE", 0.0)


def answer(status: int, body: Any, **headers: str) -> Handler:
    return lambda request: httpx2.Response(status, json=body, headers=headers)


def rest1(handler: Handler, **words: Any) -> Rest1:
    return Rest1(Wire(API, TOKEN, transport=httpx2.MockTransport(handler), **words))


def rest2(handler: Handler, **words: Any) -> Rest2:
    return Rest2(Wire(API, TOKEN, transport=httpx2.MockTransport(handler), **words))


def a_hub(handler: Handler, cache: Path, version: str = "v2", token: str | None = TOKEN) -> DolthubHub:
    site = Site(API, "https://remote.example", API, (version,), keys=True)
    return DolthubHub(site, token, cache, transport=httpx2.MockTransport(handler), patience=0.3)


PULLS = [
    {"state": "open", "from_branch": "wl/bob/w-1", "from_branch_owner": "bob", "author": "bob"},
    {"status": "Success", "title:": "T", "description:": "B", "state:": "Open", "from_branch_name": "wl/bob/w-1",
     "from_branch_owner": "bob", "from_branch_database": "commons", "to_branch_name": "main",
     "to_branch_owner": "acme", "to_branch_database": "commons", "creator": "bob"},
    {"pull_id": "7", "state": "OPEN", "from_branch": "wl/bob/w-1", "from_owner_name": "bob",
     "from_repository_name": "commons", "to_branch": "main", "to_owner_name": "acme",
     "to_repository_name": "commons", "author": {"username": "bob"}},
    {"_id": 7, "state": "open", "from_branch": "wl/bob/w-1", "from_branch_owner_name": "bob", "to_branch": "main",
     "author": "bob"},
    {"pull_number": 7, "state": "open", "creator": "bob",
     "from_branch": {"database": {"owner": "bob", "name": "commons"}, "branch_name": "wl/bob/w-1"},
     "to_branch": {"database": {"owner": "acme", "name": "commons"}, "branch_name": "main"}},
]  # fmt: skip


@pytest.mark.parametrize("told", PULLS)
def test_a_pull_request_is_the_same_in_every_spelling(told):
    found = summary_of(told, "acme", "commons", 7)

    assert found is not None
    assert (found.number, found.state, found.author) == (7, "open", "bob")
    assert found.source is not None
    assert (found.source.name, found.source.org if "from_branch_owner" in told else "bob") == ("wl/bob/w-1", "bob")
    assert found.target in (TARGET, None)


def test_an_entry_of_a_list_has_no_branches():
    found = summary_of({"pull_id": "7", "state": "Open", "title": "T", "description": "B"}, "acme", "commons")
    assert found is not None
    assert (found.source, found.target, found.title, found.body) == (None, None, "T", "B")
    assert summary_of({"state": "Open"}, "acme", "commons") is None
    assert summary_of(["not", "an", "object"], "acme", "commons") is None


@pytest.mark.parametrize(
    ("told", "number"),
    [({"pull_id": "66"}, 66), ({"_id": "repositoryOwners/a/repositories/b/pulls/12"}, 12), ({"pull_number": 3}, 3),
     ({"pull_id": None, "_id": "4"}, 4), ({"pull_id": "x"}, None), ({"pull_id": True}, None), ({}, None)],
)  # fmt: skip
def test_a_number_is_found_under_all_its_names(told, number):
    assert number_of(told) == number


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123Z", "2026-01-02 03:04:05", "2026-01-02 03:04:05 +0000 UTC",
     "2026-01-02T04:04:05+01:00", "1767323045", 1767323045, 1767323045000, "Fri, 02 Jan 2026 03:04:05 GMT"],
)  # fmt: skip
def test_a_time_is_understood_in_every_format(text):
    assert time_of(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", None, "yesterday", "2026-99-01T00:00:00Z", 10**400, {"a": 1}, "2026-01-02X"])
def test_what_is_no_time_is_1970_and_no_crash(text):
    assert time_of(text) == EPOCH


@pytest.mark.parametrize("key", ["schema", "schema_fragment"])
def test_rows_of_v1_have_all_columns_of_the_schema(key):
    body = {"query_execution_status": "Success", key: [{"columnName": "id"}, {"columnName": "note"}],
            "rows": [{"id": "1", "note": "x"}, {"id": "2"}]}  # fmt: skip
    found = rest1(answer(200, body)).rows("acme", "commons", "main", "SELECT 1")
    assert found == [{"id": "1", "note": "x"}, {"id": "2", "note": None}]


def test_rows_of_v2_come_as_lists():
    body = {"data": {"columns": [{"name": "id"}, {"name": "note"}], "rows": [["1", None]], "status": "success"}}
    assert rest2(answer(200, body)).rows("acme", "commons", "main", "SELECT 1") == [{"id": "1", "note": None}]


ROW_LIMITS = [
    (rest1, {"query_execution_status": "RowLimit", "schema": [], "rows": [{"id": "1"}]}),
    (rest2, {"data": {"status": "row_limit", "columns": [], "rows": [["1"]]}}),
]


@pytest.mark.parametrize(("make", "body"), ROW_LIMITS)
def test_an_answer_that_was_cut_short_is_an_error_that_says_so(make, body):
    with pytest.raises(WastelandError, match="not complete"):
        make(answer(200, body)).rows("acme", "commons", "main", "SELECT 1")


@pytest.mark.parametrize(
    ("make", "body", "kind"),
    [
        (rest1, {"query_execution_status": "Error", "query_execution_message": "branch not found"}, NotFound),
        (rest1, {"query_execution_status": "Error", "query_execution_message": "syntax error"}, Refused),
        (rest1, {"query_execution_status": "Timeout", "query_execution_message": ""}, Unreachable),
        (rest1, {"something": "else"}, WastelandError),
        (rest2, {"data": {"status": "error", "message": "branch not found"}}, NotFound),
        (rest2, {"data": {"status": "error", "message": "syntax error"}}, WastelandError),
        (rest2, {"data": {"status": "timeout"}}, Unreachable),
        (rest2, {"data": None}, WastelandError),
    ],
)
def test_a_query_that_failed_is_an_error_although_the_status_is_200(make, body, kind):
    with pytest.raises(kind):
        make(answer(200, body)).rows("acme", "commons", "main", "SELECT 1")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"status": "Error", "message": "invalid authorization"}, Unauthenticated),
        (401, {}, Unauthenticated),
        (403, {"message": "API token is not allowed to operate on this resource"}, Unauthenticated),
        (403, {"status": "Error", "message": "you may not"}, Refused),
        (400, {"status": "Error", "message": "no such repository"}, NotFound),
        (404, {"status": "Error", "message": "?"}, NotFound),
        (409, {"status": "Error", "message": "?"}, Conflict),
        (200, {"status": "Error", "message": "database already exists"}, Conflict),
        (400, {"status": "Error", "message": "name is too long"}, Refused),
    ],
)
def test_an_error_of_v1_has_its_class(status, body, kind):
    with pytest.raises(kind) as failed:
        rest1(answer(status, body)).create("acme", "commons", False, "")
    assert type(failed.value) is kind


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(401, "UNAUTHENTICATED", Unauthenticated), (403, "PERMISSION_DENIED", Refused), (404, "NOT_FOUND", NotFound),
     (409, "CONFLICT", Conflict), (422, "UNPROCESSABLE", Conflict), (400, "VALIDATION_FAILED", Refused),
     (422, "SOMETHING_NEW", Conflict)],
)  # fmt: skip
def test_an_error_of_v2_is_told_by_its_code(status, code, kind):
    with pytest.raises(kind) as failed:
        rest2(answer(status, {"code": code, "title": "T", "detail": "D", "status": status})).create("a", "b", False, "")
    assert type(failed.value) is kind


def test_a_scope_that_is_missing_says_that_the_token_may_not():
    problem = {"code": "PERMISSION_DENIED", "detail": "API token is not allowed to operate on this resource"}
    with pytest.raises(Unauthenticated, match="token may not"):
        rest2(answer(403, problem)).merge("a", "b", 1)


def test_v1_sends_its_scheme_a_ref_of_one_segment_and_no_cache():
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"query_execution_status": "Success", "rows": []})

    rest1(handler).rows("acme", "commons", "wl/bob/w 1", "SELECT 'é'")
    assert seen[0].headers["authorization"] == f"token {TOKEN}"
    assert seen[0].headers["cache-control"] == "no-cache"
    path, _, query = seen[0].url.raw_path.decode().partition("?")
    assert path == "/api/v1alpha1/acme/commons/wl%2Fbob%2Fw%201"
    assert parse_qs(query) == {"q": ["SELECT 'é'"]}


def test_v2_sends_bearer_and_long_queries_in_the_body():
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"data": {"status": "success", "columns": [], "rows": []}})

    sql = "SELECT 1 -- " + "x" * 5000
    rest2(handler).rows("acme", "commons", "main", sql)
    rest2(handler).rows("acme", "commons", "main", "SELECT 1")
    assert [one.method for one in seen] == ["POST", "GET"]
    assert json.loads(seen[0].content) == {"ref": "main", "q": sql}
    assert seen[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_redirect_to_another_host_is_not_followed_and_one_to_the_same_is():
    seen: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        if request.url.path.endswith("/user") and request.url.query == b"":
            return httpx2.Response(307, headers={"location": "/api/v2/user?x=1"})
        if request.url.query:
            return httpx2.Response(200, json={"data": {"username": "ada"}})
        return httpx2.Response(307, headers={"location": "https://evil.example/api/v2/databases/a/b"})

    assert rest2(handler).user() == "ada"
    with pytest.raises(Unreachable, match="another place"):
        rest2(handler).exists("a", "b")
    assert not any("evil" in url for url in seen)


def test_only_dolthubs_bare_name_gives_way_to_its_www():
    seen: list[tuple[str, str | None]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        if request.url.host == "dolthub.com":
            return httpx2.Response(308, headers={"location": "https://www.dolthub.com" + request.url.path})
        return httpx2.Response(200, json={"data": {"username": "ada"}})

    wire = Wire("https://dolthub.com", TOKEN, transport=httpx2.MockTransport(handler))
    assert Rest2(wire).user() == "ada"
    assert [host for host, _ in seen] == ["dolthub.com", "www.dolthub.com"]


def test_an_operation_is_followed_on_the_same_host_only():
    calls: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        calls.append(str(request.url))
        return httpx2.Response(200, json={"data": {"id": "x", "status": "succeeded", "result": {"commit_sha": "c"}}})

    rest = rest2(handler)
    assert rest.job("write", "a", "b", "", "/api/v2/operations/a%2Fb") == Job("succeeded", after="c")
    assert rest.job("write", "a", "b", "", f"{API}/api/v2/operations/1").state == "succeeded"
    with pytest.raises(Unreachable):
        rest.job("write", "a", "b", "", "https://evil.example/api/v2/operations/1")
    assert calls[0].endswith("/api/v2/operations/a%2Fb")
    assert len(calls) == 2


def test_an_operation_without_href_is_found_by_its_id():
    started = rest2(answer(202, {"data": {"id": "owners/a/jobs/1"}})).fork("a", "b", "c")
    assert started == "operations/owners%2Fa%2Fjobs%2F1"


def test_a_read_is_tried_five_times_and_what_may_be_done_once_only_once():
    calls: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        calls.append(request.method)
        if request.method == "GET" and len(calls) < 5:
            return httpx2.Response(502)
        return httpx2.Response(200 if request.method == "GET" else 502, json={"data": {"username": "ada"}})

    assert rest2(handler).user() == "ada"
    assert len(calls) == 5
    with pytest.raises(Unsure):
        rest2(handler).comment("a", "b", 1, "hello")
    assert calls[5:] == ["POST"]


def test_a_write_that_was_turned_away_is_sent_again_after_the_time_that_the_hub_asks_for():
    left = [httpx2.Response(429, headers={"retry-after": "3"}), httpx2.Response(503, headers={"retry-after": "900"}),
            httpx2.Response(201, json={"data": {"pull_number": 9}})]  # fmt: skip
    slept: list[float] = []

    assert rest2(lambda request: left.pop(0), sleep=slept.append).open(SOURCE, TARGET, "t", "b") == 9
    assert slept == [3.0, 20.0]


def test_a_connection_that_never_was_is_tried_again_also_for_a_write():
    calls: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        calls.append(request.method)
        if len(calls) < 3:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(201, json={"data": {"pull_number": 9}})

    assert rest2(handler).open(SOURCE, TARGET, "t", "b") == 9

    def never(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unreachable) as failed:
        rest2(never).open(SOURCE, TARGET, "t", "b")
    assert not isinstance(failed.value, Unsure)


def test_a_lost_answer_of_a_write_is_unsure():
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("too slow")

    with pytest.raises(Unsure):
        rest1(handler).merge("a", "b", 1)


def test_the_token_is_in_no_error_even_where_the_hub_repeats_it():
    for make in (rest1, rest2):
        body = {"status": "Error", "message": f"bad \x1b[31m {TOKEN}", "code": "CONFLICT", "detail": f"no {TOKEN}"}
        with pytest.raises(WastelandError) as failed:
            make(answer(409, body)).create("a", "b", False, "")
        assert TOKEN not in str(failed.value)
        assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize("token", ["a b", "a\nb", "tök", "x\x00"])
def test_a_token_that_is_none_is_not_sent_and_not_shown(token):
    with pytest.raises(Unauthenticated) as failed:
        Wire(API, token)
    assert token not in str(failed.value)


@pytest.mark.parametrize("body", [b"<html>sorry</html>", b"[" * 100_000, b"", b"\xff\xfe"])
def test_what_is_not_json_is_no_answer(body):
    with pytest.raises(WastelandError):
        rest1(lambda request: httpx2.Response(200, content=body)).user()
    with pytest.raises(WastelandError):
        rest2(lambda request: httpx2.Response(200, content=body)).user()


@pytest.mark.parametrize(
    ("kind", "status", "body", "job"),
    [
        ("fork", 200, {"status": "Success", "done": False}, Job("running")),
        ("fork", 200, {"status": "Success", "done": True}, Job("succeeded")),
        ("fork", 200, {"status": "Success", "owner_name": "b", "database_name": "c"}, Job("succeeded")),
        ("fork", 200, {"status": "Success", "operation_name": "x"}, Job("running")),
        ("fork", 200, {"status": "Error", "message": "no"}, Job("failed", "no")),
        ("fork", 404, {}, Job("lost")),
        ("fork", 400, {"status": "Error", "message": "no such operation"}, Job("lost")),
        ("fork", 400, {"status": "Error", "message": "quota"}, Job("failed", "quota")),
        ("write", 200, {"done": True, "res_details": {"query_execution_status": "Success", "from_commit_id": "a",
                                                      "to_commit_id": "b"}}, Job("succeeded", before="a", after="b")),
        ("write", 200, {"done": True, "res_details": {"query_execution_status": "Error",
                                                      "query_execution_message": "syntax"}}, Job("failed", "syntax")),
        ("write", 200, {"done": False, "res_details": {}}, Job("running")),
        ("write", 400, {"message": "GraphQL error: Cannot return null for non-nullable field SqlWrite.toCommitId."},
         Job("succeeded")),
        ("merge", 200, {"status": "Success", "job_status": "Completed"}, Job("succeeded")),
        ("merge", 200, {"status": "Success", "job_status": "In Progress"}, Job("running")),
        ("merge", 200, {"status": "Success", "job_status": "Pending"}, Job("running")),
        ("merge", 200, {"done": True, "res_details": {}}, Job("succeeded")),
        ("merge", 200, {"status": "Error", "message": "merge has conflicts"}, Job("failed", "merge has conflicts")),
    ],
)  # fmt: skip
def test_a_poll_of_v1_is_understood_in_all_its_shapes(kind, status, body, job):
    assert rest1(answer(status, body)).job(kind, "a", "b", "1", "op") == job


@pytest.mark.parametrize("key", ["username", "user_name", "name", "display_name"])
def test_the_user_of_v1_is_found_under_any_name(key):
    assert rest1(answer(200, {"status": "Success", key: "ada"})).user() == "ada"


def test_a_list_is_followed_over_its_pages_and_never_cut_short():
    def pages(request: httpx2.Request) -> httpx2.Response:
        at = int(request.url.params.get("pageToken") or request.url.params.get("page_token") or 0)
        return httpx2.Response(
            200,
            json={
                "status": "Success", "pulls": [{"pull_id": at, "state": "Open"}], "next_page_token": str(at + 1),
                "data": [{"pull_number": at, "state": "open"}], "meta": {"next_page_token": str(at + 1)},
            },
        )  # fmt: skip

    def three(request: httpx2.Request) -> httpx2.Response:
        made = pages(request)
        if "2" in str(request.url.params):
            return httpx2.Response(200, json=made.json() | {"next_page_token": "", "meta": {}})
        return made

    for make in (rest1, rest2):
        assert [one.number for one in make(three).pulls("a", "b", None)] == [0, 1, 2]
        with pytest.raises(WastelandError, match="pages"):
            make(pages).pulls("a", "b", None)


def test_many_pull_requests_cost_a_look_each_once_and_then_one_request(tmp_path):
    looks: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        number = request.url.path.rpartition("/")[2]
        if number == "pulls":
            entries = [{"pull_id": str(n), "state": "Open" if n % 2 else "Closed", "title": f"t{n}",
                        "created_at": "2026-01-02T03:04:05Z"} for n in range(1, 101)]  # fmt: skip
            return httpx2.Response(200, json={"status": "Success", "pulls": entries})
        looks.append(number)
        return httpx2.Response(
            200, json={"status": "Success", "state": "Open", "title": f"t{number}", "from_branch": f"b{number}",
                       "from_branch_owner": "bob", "created_at": "2026-01-02T03:04:05Z"},
        )  # fmt: skip

    first = a_hub(handler, tmp_path, "v1alpha1")
    assert [one.number for one in first.pulls("acme", "commons")] == list(range(1, 100, 2))
    assert len(looks) == 50
    second = a_hub(handler, tmp_path, "v1alpha1")
    assert [one.source.name for one in second.pulls("acme", "commons")][:2] == ["b1", "b3"]
    assert second.calls == 1


def test_a_damaged_cache_is_an_empty_one_and_a_new_database_of_the_same_name_inherits_nothing(tmp_path):
    def handler(request: httpx2.Request) -> httpx2.Response:
        entry = {"pull_id": "1", "state": "Open", "created_at": "2026-01-02T03:04:05Z"}
        if request.url.path.endswith("/1"):
            return httpx2.Response(200, json={"status": "Success", "from_branch": "new", **entry})
        return httpx2.Response(200, json={"status": "Success", "pulls": [entry]})

    hub = a_hub(handler, tmp_path, "v1alpha1")
    known = Known(hub._session.cache, "acme", "commons")
    known.add({1: Detail(Branch("bob", "commons", "old"), TARGET, "bob", datetime(2020, 1, 1, tzinfo=UTC))})
    assert hub.pulls("acme", "commons")[0].source.name == "new"
    for damage in (
        "{",
        '{"pulls": {"1": ["a"]}}',
        '{"pulls": [1]}',
        "[]",
        '{"pulls": {"x": 3, "2": [1,2,3,4,5,6,7,8]}}',
    ):
        known.file.write_text(damage)
        assert known.all() == {}
        assert hub.pulls("acme", "commons")[0].source.name == "new"


def test_caches_of_names_that_look_alike_are_apart(tmp_path):
    assert Known(tmp_path, "a-b", "c").file != Known(tmp_path, "a", "b-c").file


def test_an_operation_can_be_waited_for_in_another_process_and_nothing_else_is_one():
    task = Task("merge", "v2", "acme", "commons", "7", "a" * 32, "/api/v2/operations/a:b%2Fc")
    assert Task.parse(str(task)) == task
    for bad in ("", "fork", "write:v2:a/b:c::x", "merge:v2:a/b:x::op", "fork:v3:a/b:c::", "fork:v2:../b:c::x"):
        with pytest.raises(Usage):
            Task.parse(bad)


def test_a_literal_ends_where_it_should():
    assert literal("it's") == "'it''s'"
    assert literal("\\'; DROP") == "'\\\\''; DROP'"


def test_without_a_token_nobody_is_anybody(tmp_path):
    with pytest.raises(Unauthenticated) as failed:
        a_hub(answer(200, {}), tmp_path, token=None).whoami()
    assert failed.value.hint.startswith("wl login --hub http")


def test_an_operation_that_says_done_and_did_nothing_is_an_error(tmp_path):
    def handler(request: httpx2.Request) -> httpx2.Response:
        if "operations" in request.url.path:
            return httpx2.Response(200, json={"data": {"status": "succeeded"}})
        return httpx2.Response(404, json={"code": "NOT_FOUND"})

    with pytest.raises(WastelandError, match="it is not"):
        a_hub(handler, tmp_path).wait(Operation("fork:v2:a/b:c::operations/1", done=False), timeout=5)


@pytest.mark.parametrize(
    ("text", "base"),
    [("https://www.dolthub.com", "https://www.dolthub.com"), ("dolthub.com", "https://www.dolthub.com"),
     ("http://dolthub.com/", "https://www.dolthub.com"), ("https://Hub.Example:8443/", "https://hub.example:8443"),
     ("http://127.0.0.1:8090", "http://127.0.0.1:8090"), ("http://[::1]:8090", "http://[::1]:8090"),
     ("hub.example/lab", "https://hub.example/lab")],
)  # fmt: skip
def test_the_base_of_a_hub_is_one_text(text, base):
    assert base_url(text) == base


@pytest.mark.parametrize(
    "text",
    ["https://user:tok@hub.example", "user:tok@hub.example", "ftp://hub.example", "https://", "", "https://h?x=1", "https://h#f",
     "https://h:99999", "https://h/../x", "javascript:alert(1)", "https://h\n.example", "https://h/a b"],
)  # fmt: skip
def test_what_is_no_base_is_refused_without_repeating_a_password(text):
    with pytest.raises(Usage) as failed:
        base_url(text)
    assert "tok@" not in str(failed.value)


def wired(monkeypatch, handler: Handler) -> list[str]:
    """Every Wire that is made for a discovery answers with the handler; the paths that were asked for."""
    paths: list[str] = []

    def counted(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        assert "authorization" not in request.headers
        return handler(request)

    plain = Wire.__init__

    def with_mock(self: Wire, api: str, token: str | None, **words: Any) -> None:
        plain(self, api, token, **(words | {"transport": httpx2.MockTransport(counted)}))

    monkeypatch.setattr(Wire, "__init__", with_mock)
    return paths


def test_a_hub_of_ones_own_says_where_its_remotes_are_and_is_asked_once_a_day(monkeypatch, tmp_path):
    told = {"hub": "wl", "remote": "https://hub.example:50051", "versions": ["v1alpha1", "v2"], "keys": True}
    paths = wired(monkeypatch, answer(200, told))

    expected = Site("https://hub.example", "https://hub.example:50051", "https://hub.example", ("v2", "v1alpha1"), True)
    assert discover("hub.example", tmp_path) == expected
    assert discover("hub.example", tmp_path) == expected
    assert paths == ["/.well-known/wasteland-hub"]
    file = sites.site_cache(tmp_path, "https://hub.example") / "site.json"
    for damage in ("{", json.dumps(json.loads(file.read_text()) | {"api": "https://evil.example"}),
                   json.dumps(json.loads(file.read_text()) | {"versions": ["v9"]}),
                   json.dumps(json.loads(file.read_text()) | {"at": 0})):  # fmt: skip
        file.write_text(damage)
        assert discover("hub.example", tmp_path) == expected
    assert len(paths) == 5


@pytest.mark.parametrize(
    ("probe", "versions"),
    [(httpx2.Response(401, json={"code": "UNAUTHENTICATED"}), ("v2", "v1alpha1")),
     (httpx2.Response(404, content=b"<html>"), ("v1alpha1",)),
     (httpx2.Response(200, content=b"<html>"), ("v1alpha1",))],
)  # fmt: skip
def test_another_hub_is_a_doltlab_in_the_generation_that_it_speaks(monkeypatch, tmp_path, probe, versions):
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/api/v1alpha1/a/a/main":
            return httpx2.Response(400, json={"query_execution_status": "Error"})
        return probe if request.url.path == "/api/v2/user" else httpx2.Response(404, content=b"no")

    wired(monkeypatch, handler)
    assert discover("http://lab.example", tmp_path) == Site(
        "http://lab.example", "http://lab.example:50051", "http://lab.example", versions, False
    )


def test_what_answers_and_is_no_hub_is_not_taken_for_one(monkeypatch, tmp_path):
    wired(monkeypatch, lambda request: httpx2.Response(200, content=b"<html>a blog</html>"))
    with pytest.raises(NotFound, match="no hub"):
        discover("https://blog.example", tmp_path)


def test_dolthub_is_known_also_without_a_network_and_the_generation_can_be_forced(monkeypatch, tmp_path):
    def offline(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no network")

    wired(monkeypatch, offline)
    found = discover("dolthub.com", tmp_path)
    assert (found.remote, found.versions) == ("https://doltremoteapi.dolthub.com", ("v2", "v1alpha1"))
    with pytest.raises(Unreachable):
        discover("https://hub.example", tmp_path)
    monkeypatch.setenv("WL_HUB_API", "v1alpha1")
    assert discover("dolthub.com", tmp_path).versions == ("v1alpha1",)
    monkeypatch.setenv("WL_HUB_API", "v3")
    with pytest.raises(Misconfigured):
        discover("dolthub.com", tmp_path)


def test_a_hub_that_lost_a_generation_is_asked_again_which_it_speaks(monkeypatch, tmp_path):
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/api/v1alpha1/"):
            return httpx2.Response(200, json={"name": "ada"})
        return httpx2.Response(404, content=b"<html>not here</html>")

    site = Site(API, API, API, ("v2", "v1alpha1"), keys=False)
    hub = DolthubHub(site, TOKEN, tmp_path, transport=httpx2.MockTransport(handler), patience=0.1)
    wired(monkeypatch, handler)
    assert hub.whoami() == "ada"
    assert hub.site.versions == ("v1alpha1",)
