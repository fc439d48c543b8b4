"""The older generation of the API, `/api/v1alpha1`, as DoltHub and DoltLab answer it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from wasteland.errors import Conflict, NotFound, NotOpen, Refused, Unauthenticated, Usage, WastelandError
from wasteland.hub import OPEN
from wasteland.hubserver import pulls
from wasteland.hubserver.databases import NO_COMMIT
from wasteland.hubserver.engine import Answer, TooSlow
from wasteland.hubserver.operations import Job
from wasteland.hubserver.pulls import PullRow
from wasteland.hubserver.rest.calls import Call, Handler, Reply, route
from wasteland.hubserver.store import Repository

ROWS = 1000
SECONDS = 30.0
SUCCESS = "Success"
STATES = {"pending": "Pending", "running": "Running", "succeeded": "Success", "failed": "Failure"}
JOB_STATES = {"pending": "Pending", "running": "In Progress", "succeeded": "Completed", "failed": "Failed"}
KINDS = {"sql_write": "SqlWrite", "merge": "Merge", "fork": "Fork"}
TOKEN_NEEDS_REF = "Calls authenticated with a token must include a refName"  # noqa: S105  (the service's words)


def failure(error: WastelandError) -> Reply:
    """An error as this generation says it: 400 and a text, hardly ever a status of its own."""
    status = (
        400
        if isinstance(error, NotOpen)
        else 403
        if isinstance(error, Refused)
        else 409
        if isinstance(error, Conflict)
        else 400
    )
    message = "invalid authorization" if isinstance(error, Unauthenticated) else error.message
    return Reply(status, {
        "status": "Error", "message": message,
        "query_execution_status": "Error", "query_execution_message": message,
    })  # fmt: skip


def _repo(call: Call) -> Repository:
    return call.host.repository(call.path["owner"], call.path["repo"], call.holder)


def user(call: Call) -> Reply:
    """Who the token belongs to."""
    if call.holder is None:
        raise Unauthenticated("invalid authorization")
    name = call.holder.user
    return Reply(200, {"status": SUCCESS, "username": name, "display_name": name, "email_addresses": []})


def create(call: Call) -> Reply:
    """Make a database."""
    visibility = call.text("visibility", "public").lower()
    if visibility not in ("public", "private"):
        raise Usage("visibility is public or private", about="visibility")
    repo = call.host.create(
        call.text("ownerName"), call.text("repoName"), call.holder, private=visibility == "private",
        description=call.text("description", ""),
    )  # fmt: skip
    return Reply(200, {
        "status": SUCCESS, "description": repo.description, "repository_owner": repo.owner,
        "repository_name": repo.name, "visibility": visibility,
    })  # fmt: skip


def fork(call: Call) -> Reply:
    """Start a fork."""
    parent = call.host.repository(call.text("parentOwnerName"), call.text("parentDatabaseName"), call.holder)
    try:
        job = call.host.fork(parent, call.text("ownerName"), call.holder)
    except Conflict as error:
        return Reply(400, {"status": "Error", "message": error.message})
    return Reply(200, {
        "status": SUCCESS, "parent_owner": parent.owner, "parent_database": parent.name,
        "forked_owner": job.about["owner"], "operation_name": f"operations/{job.id}",
    })  # fmt: skip


def _poll(kind: str) -> Callable[[Callable[[Call, Job], Reply]], Handler]:
    """A handler that is given the operation which the request names; 404 where there is none of this kind."""

    def decorated(handler: Callable[[Call, Job], Reply]) -> Handler:
        @functools.wraps(handler)
        def wrapped(call: Call) -> Reply:
            name = call.query.get("operationName", "")
            try:
                job = call.host.job(name.rpartition("/")[2], call.holder, kind)
            except NotFound as error:
                return Reply(404, {"status": "Error", "message": error.message})
            return handler(call, job)

        return wrapped

    return decorated


def _job_name(call: Call, job: Job) -> str:
    owner, repo = call.path.get("owner"), call.path.get("repo")
    return f"repositoryOwners/{owner}/repositories/{repo}/jobs/{job.id}"


def _done(call: Call, job: Job) -> bool:
    return job.ended and call.host.faults.word("lost_poll") != "never"


@_poll("fork")
def poll_fork(call: Call, job: Job) -> Reply:
    """How far a fork is."""
    if job.state == "failed" and _done(call, job):
        return Reply(400, {"status": "Error", "message": job.error})
    found: dict[str, Any] = {"status": SUCCESS, "done": _done(call, job), "operation_name": f"operations/{job.id}"}
    if found["done"]:
        found |= {"database_owner": job.about["owner"], "database_name": job.about["name"]}
    return Reply(200, found)


def forks(call: Call) -> Reply:
    """The direct forks."""
    repo, host = _repo(call), call.host
    parent = host.store.repository_of(repo.parent) if repo.parent else None
    root = host.store.repository_of(repo.root)
    seen = [one for one in host.store.forks(repo) if _visible(call, one)]
    return Reply(200, {
        "status": SUCCESS, "owner_name": repo.owner, "database_name": repo.name,
        "parent_owner": parent.owner if parent else None, "parent_database": parent.name if parent else None,
        "network_root_owner": root.owner, "network_root_database": root.name,
        "fork_network_count": host.store.family(repo),
        "forks": [{"owner_name": one.owner, "database_name": one.name} for one in seen],
    })  # fmt: skip


def _visible(call: Call, repo: Repository) -> bool:
    try:
        call.host.repository(repo.owner, repo.name, call.holder)
    except NotFound:
        return False
    return True


def branches(call: Call) -> Reply:
    """The branches, by name."""
    found = [{"branch_name": name} for name, _, _ in call.host.branches(_repo(call))]
    return Reply(200, {"status": SUCCESS, **_echo(call), "branches": found})


def create_branch(call: Call) -> Reply:
    """Make a branch."""
    kind = call.text("revisionType")
    if kind not in ("branch", "ref", "commit"):
        raise Usage("revisionType is branch, ref or commit", about="revisionType")
    name = call.text("newBranchName")
    call.host.branch(_repo(call), call.holder, name, call.text("revisionName"))
    return Reply(200, {"status": SUCCESS, **_echo(call), "new_branch_name": name})


def _echo(call: Call) -> dict[str, str]:
    return {"database_owner": call.path["owner"], "database_name": call.path["repo"]}


def read(call: Call) -> Reply:
    """One statement that reads, at a branch, tag or commit, else at the default branch."""
    ref = call.path.get("ref")
    sql = call.query.get("q") or "SHOW TABLES;"
    found = {
        "query_execution_status": "Error", "query_execution_message": "", "repository_owner": call.path["owner"],
        "repository_name": call.path["repo"], "commit_ref": ref or "", "sql_query": sql,
    }  # fmt: skip
    if ref is None and call.holder is not None:
        return Reply(400, found | {"query_execution_message": TOKEN_NEEDS_REF})
    repo = _repo(call)
    ref = found["commit_ref"] = ref or call.host.default_branch(repo)
    try:
        answer = call.host.read(repo, ref, sql, limit=ROWS, seconds=SECONDS)
    except NotFound as error:
        return Reply(200, found | {"query_execution_message": error.message})
    except TooSlow as error:
        return Reply(400, found | {"query_execution_status": "Timeout", "query_execution_message": error.message})
    except WastelandError as error:
        return Reply(400, found | {"query_execution_message": error.message})
    return Reply(200, found | {"query_execution_status": "RowLimit" if answer.cut else SUCCESS} | _rows(answer))


def _rows(answer: Answer) -> dict[str, Any]:
    schema = [{"columnName": column.name, "columnType": column.type} for column in answer.columns]
    names = [column.name for column in answer.columns]
    rows = [dict(zip(names, map(shown, row), strict=True)) for row in answer.rows]
    return {"schema": schema, "schema_fragment": schema, "rows": rows}


def shown(value: str | bytes | None) -> str | None:
    """A value as JSON can carry it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def write(call: Call) -> Reply:
    """Start one statement as a commit; without one, a merge of `from` into `to`."""
    repo = _repo(call)
    sql = call.query["q"] if "q" in call.query else call.text("query", "")
    base, branch = call.path["from"], call.path["to"]
    job = call.host.write(repo, call.holder, base, branch, sql)
    return Reply(200, {
        "query_execution_status": SUCCESS, "query_execution_message": "Operation created. Poll for its result.",
        "repository_owner": repo.owner, "repository_name": repo.name, "from_branch_name": base,
        "to_branch_name": branch, "query": sql, "operation_name": f"operations/{job.id}",
    })  # fmt: skip


@_poll("sql_write")
def poll_write(call: Call, job: Job) -> Reply:
    """How far a write is; a write without a commit is answered as the service does it, with 400."""
    repo = _repo(call)
    if not _done(call, job):
        return Reply(200, {"_id": f"operations/{job.id}", "done": False, "res_details": None})
    if job.result.get("kind") == "Unchanged":
        return Reply(400, {"query_execution_status": "Error", "query_execution_message": NO_COMMIT})
    before, after = job.result.get("before"), job.result.get("after")
    return Reply(200, {"_id": f"operations/{job.id}", "done": True, "res_details": {
        "query_execution_status": "Error" if job.error else SUCCESS,
        "query_execution_message": job.error or "Query OK.",
        "owner_name": repo.owner, "repository_name": repo.name, "from_commit_id": before or "",
        "to_commit_id": after or "",
    }})  # fmt: skip


def list_pulls(call: Call) -> Reply:
    """A page of pull requests, without their branches."""
    repo = _repo(call)
    state = call.query.get("filterByState")
    after = call.query.get("pageToken") or "0"
    if not after.isdigit():
        raise Usage("pageToken is not one of ours", about="pageToken")
    rows, rest = pulls.page(call.host.store, repo, int(after), state.lower() if state else None)
    listed = [{
        "pull_id": str(row.number), "title": row.title, "description": row.body, "state": row.state.capitalize(),
        "created_at": row.created, "creator": row.author,
    } for row in rows]  # fmt: skip
    token = str(rest) if rest else ""
    return Reply(200, {"status": SUCCESS, **_echo(call), "pulls": listed, "next_page_token": token})


def get_pull(call: Call) -> Reply:
    """One pull request."""
    repo = _repo(call)
    pull = pulls.load(call.host.store, repo, call.number("pull"))
    return Reply(200, {"status": SUCCESS, **_pull(call, repo, pull)})


def _pull(call: Call, repo: Repository, pull: PullRow) -> dict[str, Any]:
    found = {
        "pull_id": str(pull.number), "title": pull.title, "description": pull.body, "state": pull.state.capitalize(),
        "from_branch_owner": pull.from_owner, "from_branch_database": pull.from_name, "to_branch_owner": repo.owner,
        "to_branch_database": repo.name, "created_at": pull.created, "author": pull.author,
    }  # fmt: skip
    spelling = call.host.faults.word("spelling", "both")
    if spelling in ("old", "both"):
        found |= {"from_branch_name": pull.from_branch, "to_branch_name": pull.to_branch}
    if spelling in ("new", "both"):
        found |= {"from_branch": pull.from_branch, "to_branch": pull.to_branch}
    return found


def create_pull(call: Call) -> Reply:
    """Open a pull request."""
    repo = _repo(call)
    if (call.text("toBranchOwnerName").lower(), call.text("toBranchRepoName").lower()) != (
        repo.owner.lower(), repo.name.lower(),
    ):  # fmt: skip
        raise Usage("the target branch is one of another database", about="toBranchRepoName")
    source = call.text("fromBranchOwnerName"), call.text("fromBranchRepoName"), call.text("fromBranchName")
    pull = call.host.open_pull(
        repo, call.holder, title=call.text("title"), body=call.text("description", ""), source=source,
        to=call.text("toBranchName"),
    )  # fmt: skip
    return Reply(200, {
        "status": SUCCESS, "title": pull.title, "description": pull.body, "from_owner_name": pull.from_owner,
        "from_repository_name": pull.from_name, "from_branch_name": pull.from_branch, "to_owner_name": repo.owner,
        "to_repository_name": repo.name, "to_branch_name": pull.to_branch, "pull_id": str(pull.number),
    })  # fmt: skip


def patch_pull(call: Call) -> Reply:
    """Change title and description, or close; opening again is for the newer generation."""
    repo, sent = _repo(call), call.json()
    state = call.text("state").lower() if "state" in sent else None
    if state == OPEN:
        raise Usage("a pull request can only be closed", about="state")
    pull = call.host.edit_pull(
        repo, call.holder, call.number("pull"), title=call.text("title") if "title" in sent else None,
        body=call.text("description") if "description" in sent else None, state=state,
    )  # fmt: skip
    return Reply(200, {"status": SUCCESS, **_pull(call, repo, pull)})


def comment(call: Call) -> Reply:
    """Comment on a pull request."""
    made = call.host.comment(_repo(call), call.holder, call.number("pull"), call.text("comment"))
    return Reply(200, {"status": SUCCESS, **_echo(call), "pull_id": call.path["pull"], "comment": made.body})


def merge(call: Call) -> Reply:
    """Start to merge a pull request."""
    job = call.host.merge(_repo(call), call.holder, call.number("pull"))
    return Reply(200, {
        "status": SUCCESS, **_echo(call), "pull_id": call.path["pull"], "operation_name": _job_name(call, job),
        "user_operation_name": f"users/{job.user}/userOperations/{job.id}",
    })  # fmt: skip


@_poll("merge")
def poll_merge(call: Call, job: Job) -> Reply:
    """How far a merge is."""
    done = _done(call, job)
    state = job.state if done or job.state in ("pending", "running") else "running"
    found: dict[str, Any] = {
        "status": SUCCESS, "operation_name": _job_name(call, job), "job_created": job.created, **_echo(call),
        "pull_id": call.path["pull"], "job_status": JOB_STATES[state],
    }  # fmt: skip
    if done:
        found |= {"done": True, "res_details": {
            "query_execution_status": "Error" if job.error else SUCCESS, "query_execution_message": job.error or "",
        }}  # fmt: skip
    return Reply(200, found | ({"message": job.error} if done and job.error else {}))


def operations(call: Call) -> Reply:
    """The newest operations of the user himself."""
    if call.holder is None or call.holder.user.lower() != call.path["user"].lower():
        raise NotFound("no such user")
    kind = {shown: kind for kind, shown in KINDS.items()}.get(call.query.get("operationType", ""))
    found = [_operation(job) for job in call.host.operations.newest(user=call.holder.user, kind=kind)]
    return Reply(200, {"status": SUCCESS, "operations": found, "next_page_token": ""})


def _operation(job: Job) -> dict[str, Any]:
    return {
        "operation_name": f"operations/{job.id}", "operation_type": KINDS[job.kind], "status": STATES[job.state],
        "created_at": job.created, "error": job.error, "metadata": json.dumps(job.about),
    }  # fmt: skip


def jobs(call: Call) -> Reply:
    """The newest operations of a repository, for those who may write to it."""
    repo = _repo(call)
    call.host.may_write(repo, call.holder)
    found = [{
        "job_id": _job_name(call, job), "job_type": KINDS[job.kind], "created_at": job.created,
        "status": {"succeeded": "Succeeded", "failed": "Failed"}.get(job.state, STATES[job.state]),
    } for job in call.host.operations.newest(repo=repo)]  # fmt: skip
    return Reply(200, {"status": SUCCESS, **_echo(call), "jobs": found, "next_page_token": ""})


BASE = "/api/v1alpha1"
ROUTES = [
    route(method, f"{BASE}{pattern}", handler)
    for method, pattern, handler in (
        ("GET", "/user", user),
        ("POST", "/database", create),
        ("POST", "/fork", fork),
        ("GET", "/fork", poll_fork),
        ("GET", "/users/{user}/operations", operations),
        ("GET", "/{owner}/{repo}/forks", forks),
        ("GET", "/{owner}/{repo}/branches", branches),
        ("POST", "/{owner}/{repo}/branches", create_branch),
        ("POST", "/{owner}/{repo}/write/{from}/{to}", write),
        ("GET", "/{owner}/{repo}/write", poll_write),
        ("GET", "/{owner}/{repo}/jobs", jobs),
        ("GET", "/{owner}/{repo}/pulls", list_pulls),
        ("POST", "/{owner}/{repo}/pulls", create_pull),
        ("GET", "/{owner}/{repo}/pulls/{pull}", get_pull),
        ("PATCH", "/{owner}/{repo}/pulls/{pull}", patch_pull),
        ("POST", "/{owner}/{repo}/pulls/{pull}/comments", comment),
        ("POST", "/{owner}/{repo}/pulls/{pull}/merge", merge),
        ("GET", "/{owner}/{repo}/pulls/{pull}/merge", poll_merge),
        ("GET", "/{owner}/{repo}", read),
        ("GET", "/{owner}/{repo}/{ref}", read),
    )
]
