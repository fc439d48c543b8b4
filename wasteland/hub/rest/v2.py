"""DoltHub's API of the second generation, v2: one shape for success, one for failure, one for operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import Branch, Comment
from wasteland.hub.rest.client import Answer, Job, NoRoute, Wire
from wasteland.hub.rest.shapes import (
    Summary,
    columns_of,
    comment_of,
    number_of,
    objects,
    plain,
    rows_of,
    summary_of,
    told,
)
from wasteland.hub.rest.v1 import MISSING, PAGES, TEXTS, no_token, not_json, scope, too_many

LONG = 2000  # characters of SQL from which it goes in a body: URLs have their limits
CODES: dict[str, type[WastelandError]] = {
    "VALIDATION_FAILED": Refused,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Refused,
    "NOT_FOUND": NotFound,
    "METHOD_NOT_ALLOWED": NoRoute,
    "CONFLICT": Conflict,
    "UNPROCESSABLE": Conflict,
    "OPERATION_FAILED": WastelandError,
}
STATUSES: dict[int, type[WastelandError]] = {
    400: Refused, 401: Unauthenticated, 403: Refused, 404: NoRoute, 405: NoRoute, 409: Conflict, 422: Conflict,
}  # fmt: skip
UNDER_WAY = ("queued", "running")


class Rest2:
    """The routes under `/api/v2`."""

    can_tell_comments = True
    version = "v2"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def user(self) -> str:
        """The name of the token's holder."""
        name = told(plain(self._get("user")), ("username", "user_name", "name"))
        if name is None:
            raise WastelandError(f"{self.wire.host} does not tell the name of the token's holder")
        return name

    def exists(self, org: str, db: str) -> bool:
        """Whether the database can be looked at."""
        try:
            self._get(_database(org, db))
        except NotFound:
            return False
        return True

    def create(self, org: str, db: str, private: bool, description: str) -> None:
        """Make a database."""
        visibility = "private" if private else "public"
        about = {"description": description} if description else {}
        self._post("databases", {"owner": org, "name": db, "visibility": visibility} | about)

    def fork(self, org: str, db: str, owner: str) -> str:
        """Start a fork."""
        return _reference(self._post(_database(org, db, "forks"), {"owner": owner}))

    def job(self, kind: str, org: str, db: str, number: str, ref: str) -> Job:
        """How far an operation is; lost where the hub does not know it (any more)."""
        try:
            found = plain(self._get(ref))
        except NotFound:
            return Job("lost")
        state = (told(found, ("status",)) or "").lower()
        if state == "failed":
            trouble = plain(found.get("error"))
            return Job("failed", self.wire.shown(told(trouble, ("detail", "message", "title", "code")) or ""))
        if state != "succeeded":
            return Job("running")
        result = plain(found.get("result"))
        return Job("succeeded", after=told(result, ("commit_sha", "to_commit_id")) or None)

    def busy(self, org: str, db: str) -> bool:
        """Whether the latest operations of the database include one that has not ended."""
        jobs = objects(self._get(_database(org, db, "operations")))
        return any((told(job, ("status",)) or "").lower() in UNDER_WAY for job in jobs)

    def pull(self, org: str, db: str, number: int) -> Summary | None:
        """One pull request."""
        try:
            return summary_of(self._get(_database(org, db, "pulls", str(number))), org, db, number)
        except NotFound:
            return None

    def pulls(self, org: str, db: str, state: str | None) -> list[Summary]:
        """All pages of the list; the filter is a wish that not every hub fulfils, and some may refuse."""
        path = _database(org, db, "pulls")
        try:
            found = self._pages(path, {"state": state} if state else {})
        except Refused:
            found = self._pages(path)
        return [one for entry in found if (one := summary_of(entry, org, db))]

    def open(self, source: Branch, target: Branch, title: str, body: str) -> int | None:
        """Open a pull request."""
        found = self._post(
            _database(target.org, target.db, "pulls"),
            {"title": title, "description": body, "from_branch": _branch(source), "to_branch": _branch(target)},
        )
        return number_of(plain(found))

    def edit(self, org: str, db: str, number: int, changes: Mapping[str, str]) -> None:
        """Change a pull request."""
        self._data(self._send("PATCH", _database(org, db, "pulls", str(number)), json=changes))

    def comment(self, org: str, db: str, number: int, text: str) -> None:
        """Add a comment."""
        self._post(_database(org, db, "pulls", str(number), "comments"), {"body": text})

    def comments(self, org: str, db: str, number: int) -> list[Comment] | None:
        """All comments."""
        return [comment_of(one) for one in self._pages(_database(org, db, "pulls", str(number), "comments"))]

    def merge(self, org: str, db: str, number: int) -> str:
        """Start a merge."""
        return _reference(self._post(_database(org, db, "pulls", str(number), "merge"), {}))

    def rows(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT; an error of SQL comes with HTTP 200, and an answer cut short is an error too."""
        path = _database(org, db, "sql")
        if len(sql) < LONG:
            data = self._get(path, {"ref": ref, "q": sql})
        else:
            data = self._data(self._send("POST", path, json={"ref": ref, "q": sql}, repeat=True))
        found = plain(data)
        status = (told(found, ("status",)) or "").lower()
        if status == "row_limit":
            raise too_many(self.wire.host)
        message = told(found, ("message",)) or ""
        if status == "timeout":
            raise Unreachable(f"{self.wire.host} stopped the query because it took too long", about=f"{org}/{db}")
        if status != "success":
            missing = any(text in message.lower() for text in TEXTS["missing"])
            kind = NotFound if missing else WastelandError
            raise kind(f"{self.wire.host} did not answer the query: {self.wire.shown(message) or status}")
        return rows_of(found.get("rows"), columns_of(found.get("columns")))

    def write(self, org: str, db: str, base: str, branch: str, sql: str) -> str:
        """Start a write."""
        return _reference(
            self._post(_database(org, db, "sql-writes"), {"from_branch": base, "to_branch": branch, "q": sql})
        )

    def branch_at(self, org: str, db: str, name: str, commit: str) -> None:
        """Make a branch at a commit."""
        self._post(_database(org, db, "branches"), {"name": name, "from": {"commit": commit}})

    def public_keys(self) -> list[str]:
        """The public keys of the token's holder; a route that only hubs of ours have."""
        found = self._get("user/keys")
        entries = found if isinstance(found, list) else plain(found).get("keys")
        return [str(told(plain(one), ("public_key",)) or one) for one in entries or []]

    def add_key(self, public_key: str) -> None:
        """Register a public key of `dolt creds`; saying it twice is the same as once."""
        self._data(self._send("POST", "user/keys", json={"public_key": public_key}, repeat=True))

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._data(self._send("GET", path, params))

    def _post(self, path: str, json: Mapping[str, Any]) -> Any:
        return self._data(self._send("POST", path, json=json))

    def _pages(self, path: str, wish: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        page = ""
        for _ in range(PAGES):
            answer = self._send("GET", path, {**(wish or {}), **({"page_token": page} if page else {})} or None)
            made += objects(self._data(answer))
            following = told(plain(answer.object.get("meta")), ("next_page_token",)) or ""
            if not following or following == page:
                return made
            page = following
        raise WastelandError(f"{self.wire.host} has more of {path} than {PAGES} pages tell")

    def _send(
        self, method: str, path: str, params: Mapping[str, str] | None = None, *,
        json: Mapping[str, Any] | None = None, repeat: bool = False,
    ) -> Answer:  # fmt: skip
        """One request; a path that starts with a slash or a scheme is a reference that the hub gave us."""
        if not path.startswith(("/", "http://", "https://")):
            path = f"api/{self.version}/{path}"
        return self.wire.request(method, path, scheme="Bearer", params=params, json=json, repeat=repeat)

    def _data(self, answer: Answer) -> Any:
        """What is under `data`; the error that it is where it is one."""
        if answer.status >= 300:
            self._fail(answer)
        if answer.status == 204:
            return None
        if not isinstance(answer.body, dict):
            raise not_json(self.wire)
        return answer.body.get("data")

    def _fail(self, answer: Answer) -> NoReturn:
        """Raise what a problem means: by its code, and where it has none by its status."""
        found, host = answer.object, self.wire.host
        code = told(found, ("code",)) or ""
        kind = CODES.get(code) or STATUSES.get(answer.status, WastelandError)
        words = told(found, ("detail", "title", "message")) or f"HTTP {answer.status}"
        said = self.wire.shown(words)
        if kind is Unauthenticated:
            raise no_token(self.wire)
        if answer.status == 403 and any(text in words.lower() for text in TEXTS["scope"]):
            raise scope(self.wire, said)
        if kind is NotFound or kind is NoRoute:
            raise kind(f"{host} knows no such thing: {said}", about=host, hint=MISSING)
        raise kind(f"{host} refuses: {said}", about=host)


def _reference(data: object) -> str:
    """Where an operation can be followed: its href, else the route of its id."""
    found = plain(data)
    href = told(found, ("href",))
    if href:
        return href
    made = told(found, ("id",))
    return f"operations/{quote(made, safe='')}" if made else ""


def _branch(branch: Branch) -> dict[str, Any]:
    return {"database": {"owner": branch.org, "name": branch.db}, "branch_name": branch.name}


def _database(*parts: str) -> str:
    return "/".join(("databases", *(quote(part, safe="") for part in parts)))
