"""The newer generation of the API, `/api/v2`, and what this hub adds to it: `dolt creds` keys of a user."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from wasteland.errors import Conflict, NotFound, NotOpen, Refused, Unauthenticated, Unreachable, Usage, WastelandError
from wasteland.hubserver import dolt_keys, pulls
from wasteland.hubserver.engine import Answer, TooSlow
from wasteland.hubserver.operations import Job
from wasteland.hubserver.pulls import PullRow
from wasteland.hubserver.rest.calls import Call, Reply, route
from wasteland.hubserver.store import Repository

ROWS = 1000
SECONDS, LONGEST = 30_000, 60_000  # milliseconds
STATES = {"pending": "queued", "running": "running", "succeeded": "succeeded", "failed": "failed"}
BASE = "/api/v2"
PROBLEMS: tuple[tuple[type[WastelandError], int, str], ...] = (
    (NotOpen, 422, "UNPROCESSABLE"),
    (Refused, 403, "PERMISSION_DENIED"),
    (Unauthenticated, 401, "UNAUTHENTICATED"),
    (NotFound, 404, "NOT_FOUND"),
    (Conflict, 409, "CONFLICT"),
    (Usage, 400, "VALIDATION_FAILED"),
    (Unreachable, 503, "SERVICE_UNAVAILABLE"),
)


def problem(status: int, code: str, detail: str) -> Reply:
    """An error as RFC 9457 shapes it."""
    return Reply(status, {
        "type": "about:blank", "title": code.replace("_", " ").capitalize(), "status": status, "detail": detail,
        "code": code, "request_id": str(uuid.uuid4()),
    }, {"content-type": "application/problem+json"})  # fmt: skip


def failure(error: WastelandError) -> Reply:
    """An error by its kind."""
    for kind, status, code in PROBLEMS:
        if isinstance(error, kind):
            return problem(status, code, error.message)
    return problem(500, "INTERNAL", error.message)


def _data(found: Any, status: int = 200, rest: int | None = None) -> Reply:
    return Reply(status, {"data": found, "meta": {"next_page_token": str(rest) if rest else ""}})


def _repo(call: Call) -> Repository:
    return call.host.repository(call.path["owner"], call.path["repo"], call.holder)


def _after(call: Call) -> int:
    found = call.query.get("page_token") or "0"
    if not found.isdigit():
        raise Usage("page_token is not one of ours", about="page_token")
    return int(found)


def user(call: Call) -> Reply:
    """Who the token belongs to."""
    if call.holder is None:
        raise Unauthenticated("this needs a token")
    name = call.holder.user
    return _data({"username": name, "display_name": name, "email_addresses": []})


def add_key(call: Call) -> Reply:
    """Register a public key of `dolt creds`."""
    holder = call.host.writer(call.holder)
    public = dolt_keys.public_key(call.text("public_key"))
    key_id = dolt_keys.key_id(public)
    call.host.store.add_key(holder.user, key_id, public)
    return _data({"key_id": key_id, "public_key": dolt_keys.encoded(public)}, 201)


def keys(call: Call) -> Reply:
    """The user's registered keys."""
    holder = call.host.writer(call.holder)
    found = call.host.store.rows("SELECT id, public FROM keys WHERE user = ? ORDER BY created", holder.user)
    return _data([{"key_id": row["id"], "public_key": dolt_keys.encoded(bytes(row["public"]))} for row in found])


def remove_key(call: Call) -> Reply:
    """Forget a public key."""
    holder = call.host.writer(call.holder)
    given = call.query.get("public_key") or call.text("public_key")
    call.host.store.remove_key(holder.user, dolt_keys.key_id(dolt_keys.public_key(given)))
    return _data(None)


def create(call: Call) -> Reply:
    """Make a database."""
    visibility = call.text("visibility", "public").lower()
    if visibility not in ("public", "private"):
        raise Usage("visibility is public or private", about="visibility")
    repo = call.host.create(
        call.text("owner"), call.text("name"), call.holder, private=visibility == "private",
        description=call.text("description", ""),
    )  # fmt: skip
    return _data(_database(call, repo), 201)


def _database(call: Call, repo: Repository) -> dict[str, Any]:
    parent = call.host.store.repository_of(repo.parent) if repo.parent else None
    return {
        "owner": repo.owner, "name": repo.name, "visibility": "private" if repo.private else "public",
        "description": repo.description, "created_at": repo.created,
        "parent": {"owner": parent.owner, "name": parent.name} if parent else None,
    }  # fmt: skip


def database(call: Call) -> Reply:
    """One database."""
    return _data(_database(call, _repo(call)))


def fork(call: Call) -> Reply:
    """Start a fork."""
    parent = _repo(call)
    try:
        job = call.host.fork(parent, call.text("owner"), call.holder)
    except Conflict as error:
        return problem(422, "UNPROCESSABLE", error.message)
    return _accepted(job, parent)


def _accepted(job: Job, repo: Repository) -> Reply:
    number = _number(job, repo)
    return _data({"id": number, "href": f"{BASE}/operations/{quote(number)}"}, 202)


def _number(job: Job, repo: Repository) -> str:
    return f"repositoryOwners/{repo.owner}/repositories/{repo.name}/jobs/{job.id}"


def forks(call: Call) -> Reply:
    """The direct forks that the asker may see."""
    repo, found = _repo(call), []
    for one in call.host.store.forks(repo):
        if not one.private or (call.holder and call.host.store.role(call.holder.user, one.owner)):
            found.append(_database(call, one))
    return _data(found)


def branches(call: Call) -> Reply:
    """The branches with their heads."""
    found = call.host.branches(_repo(call))
    return _data([{"name": name, "head_commit_sha": head, "last_updated_at": at} for name, head, at in found])


def create_branch(call: Call) -> Reply:
    """Make a branch."""
    repo, start = _repo(call), call.json().get("from")
    at = (start.get("branch") or start.get("commit")) if isinstance(start, dict) else None
    if not isinstance(at, str):
        raise Usage("from needs a branch or a commit", about="from")
    name = call.text("name")
    call.host.branch(repo, call.holder, name, at)
    head = call.host.engine.branches(repo.database).get(name)
    return _data({"name": name, "head_commit_sha": head}, 201)


def read(call: Call) -> Reply:
    """One statement that reads; what is wrong with the SQL is said with status 200."""
    asked = call.json() if call.method == "POST" else dict(call.query)
    repo = _repo(call)
    ref = asked.get("ref") or call.host.default_branch(repo)
    sql = asked.get("q") or "SHOW TABLES"
    if not isinstance(ref, str) or not isinstance(sql, str):
        raise Usage("q and ref are texts", about="q")
    limit, patience = _whole(asked, "limit", ROWS, ROWS), _whole(asked, "timeout_ms", SECONDS, LONGEST)
    try:
        answer = call.host.read(repo, ref, sql, limit=limit, seconds=patience / 1000)
    except TooSlow as error:
        return _data(_answer("timeout", error.message, None))
    except (Unreachable, NotFound):
        raise
    except WastelandError as error:
        return _data(_answer("error", error.message, None))
    return _data(_answer("row_limit" if answer.cut else "success", "", answer))


def _whole(asked: dict[str, Any], name: str, default: int, cap: int) -> int:
    try:
        found = int(asked.get(name, default))
    except (TypeError, ValueError):
        raise Usage(f"{name} is not a number", about=name) from None
    if found < 1:
        raise Usage(f"{name} must be positive", about=name)
    return min(found, cap)


def _answer(status: str, message: str, answer: Answer | None) -> dict[str, Any]:
    columns = answer.columns if answer else []
    rows = answer.rows if answer else []
    return {
        "status": status, "message": message,
        "columns": [{"name": one.name, "type": one.type, "is_primary_key": one.key, "source_table": one.table}
                    for one in columns],
        "rows": [["<binary>" if isinstance(value, bytes) else value for value in row] for row in rows],
    }  # fmt: skip


def write(call: Call) -> Reply:
    """Start one statement as a commit; `from_branch` is merged into `to_branch` after it."""
    repo = _repo(call)
    job = call.host.write(
        repo, call.holder, call.text("from_branch"), call.text("to_branch"), call.text("q", ""), also_merge=True
    )
    return _accepted(job, repo)


def list_pulls(call: Call) -> Reply:
    """A page of pull requests."""
    repo, state = _repo(call), call.query.get("state")
    rows, rest = pulls.page(call.host.store, repo, _after(call), state.lower() if state else None)
    return _data([_pull(repo, row) for row in rows], rest=rest)


def _pull(repo: Repository, pull: PullRow) -> dict[str, Any]:
    return {
        "pull_number": pull.number, "title": pull.title, "description": pull.body, "state": pull.state,
        "from_branch": {"database": {"owner": pull.from_owner, "name": pull.from_name},
                        "branch_name": pull.from_branch},
        "to_branch": {"database": {"owner": repo.owner, "name": repo.name}, "branch_name": pull.to_branch},
        "created_at": pull.created, "creator": pull.author,
    }  # fmt: skip


def get_pull(call: Call) -> Reply:
    """One pull request."""
    repo = _repo(call)
    return _data(_pull(repo, pulls.load(call.host.store, repo, call.number("pull"))))


def create_pull(call: Call) -> Reply:
    """Open a pull request; the source is `{database: {owner, name}, branch_name}`, the target one of ours."""
    repo, sent = _repo(call), call.json()
    source, target = _branch(sent.get("from_branch"), repo), _branch(sent.get("to_branch"), repo)
    if (target[0].lower(), target[1].lower()) != (repo.owner.lower(), repo.name.lower()):
        raise Usage("the target branch is one of another database", about="to_branch")
    pull = call.host.open_pull(
        repo, call.holder, title=call.text("title"), body=call.text("description", ""), source=source, to=target[2]
    )
    return _data(_pull(repo, pull), 201)


def _branch(sent: Any, repo: Repository) -> tuple[str, str, str]:
    """Owner, database and name of a branch; a bare name is a branch of the base."""
    if isinstance(sent, str):
        return repo.owner, repo.name, sent
    base = sent.get("database", {"owner": repo.owner, "name": repo.name}) if isinstance(sent, dict) else None
    found = (base.get("owner"), base.get("name"), sent.get("branch_name")) if isinstance(base, dict) else (None,)
    if not all(isinstance(word, str) for word in found):
        raise Usage("a branch is {database: {owner, name}, branch_name}", about="from_branch")
    return found  # type: ignore[return-value]


def patch_pull(call: Call) -> Reply:
    """Change text or state."""
    repo, sent = _repo(call), call.json()
    pull = call.host.edit_pull(
        repo, call.holder, call.number("pull"), title=call.text("title") if "title" in sent else None,
        body=call.text("description") if "description" in sent else None,
        state=call.text("state").lower() if "state" in sent else None,
    )  # fmt: skip
    return _data(_pull(repo, pull))


def comments(call: Call) -> Reply:
    """A page of comments, oldest first."""
    repo, number = _repo(call), call.number("pull")
    pulls.load(call.host.store, repo, number)
    rows, rest = pulls.comments(call.host.store, repo, number, _after(call))
    return _data([_comment(row) for row in rows], rest=rest)


def _comment(row: pulls.CommentRow) -> dict[str, Any]:
    return {"id": row.id, "author": row.author, "body": row.body, "created_at": row.created}


def comment(call: Call) -> Reply:
    """Comment on a pull request."""
    made = call.host.comment(_repo(call), call.holder, call.number("pull"), call.text("body"))
    return _data(_comment(made), 201)


def merge(call: Call) -> Reply:
    """Start to merge a pull request."""
    repo = _repo(call)
    return _accepted(call.host.merge(repo, call.holder, call.number("pull")), repo)


def operation(call: Call) -> Reply:
    """How far an operation is."""
    return _data(_operation(call, call.host.job(call.path["id"].rpartition("/")[2], call.holder)))


def _operation(call: Call, job: Job) -> dict[str, Any]:
    never = call.host.faults.word("lost_poll") == "never"
    repo = call.host.store.repository_of(job.repo)
    found: dict[str, Any] = {
        "id": _number(job, repo), "type": job.kind, "status": "running" if never else STATES[job.state],
        "created_at": job.created, "cancelable": False,
    }  # fmt: skip
    if found["status"] == "failed":
        # A write that changed no row is no failure here: it has no commit.
        if job.result.get("kind") == "Unchanged":
            return found | {"status": "succeeded", "result": {"commit_sha": None}}
        return found | {"error": {"code": "OPERATION_FAILED", "message": job.error}}
    if found["status"] == "succeeded":
        found["result"] = _result(job)
    return found


def _result(job: Job) -> dict[str, Any]:
    if job.kind == "fork":
        return {"database": {"owner": job.about["owner"], "name": job.about["name"]}}
    if job.kind == "merge":
        return {"commit_sha": job.result.get("commit"), "pull_number": job.about["number"]}
    return {"commit_sha": job.result.get("after") or job.result.get("before")}


def operations(call: Call) -> Reply:
    """The newest operations: of a repository for those who may write to it, else one's own."""
    if "repo" in call.path:
        repo = _repo(call)
        call.host.may_write(repo, call.holder)
        return _data([_operation(call, job) for job in call.host.operations.newest(repo=repo)])
    if call.holder is None:
        raise Unauthenticated("this needs a token")
    return _data([_operation(call, job) for job in call.host.operations.newest(user=call.holder.user)])


ROUTES = [
    route(method, f"{BASE}{pattern}", handler)
    for method, pattern, handler in (
        ("GET", "/user", user),
        ("GET", "/user/keys", keys),
        ("POST", "/user/keys", add_key),
        ("DELETE", "/user/keys", remove_key),
        ("GET", "/operations", operations),
        ("GET", "/operations/{id...}", operation),
        ("POST", "/databases", create),
        ("GET", "/databases/{owner}/{repo}", database),
        ("GET", "/databases/{owner}/{repo}/forks", forks),
        ("POST", "/databases/{owner}/{repo}/forks", fork),
        ("GET", "/databases/{owner}/{repo}/branches", branches),
        ("POST", "/databases/{owner}/{repo}/branches", create_branch),
        ("GET", "/databases/{owner}/{repo}/sql", read),
        ("POST", "/databases/{owner}/{repo}/sql", read),
        ("POST", "/databases/{owner}/{repo}/sql-writes", write),
        ("GET", "/databases/{owner}/{repo}/operations", operations),
        ("GET", "/databases/{owner}/{repo}/pulls", list_pulls),
        ("POST", "/databases/{owner}/{repo}/pulls", create_pull),
        ("GET", "/databases/{owner}/{repo}/pulls/{pull}", get_pull),
        ("PATCH", "/databases/{owner}/{repo}/pulls/{pull}", patch_pull),
        ("GET", "/databases/{owner}/{repo}/pulls/{pull}/comments", comments),
        ("POST", "/databases/{owner}/{repo}/pulls/{pull}/comments", comment),
        ("POST", "/databases/{owner}/{repo}/pulls/{pull}/merge", merge),
    )
]
