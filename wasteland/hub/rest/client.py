"""HTTP to a hub: one client, eight requests at a time, retries, and what may be repeated.  The import of httpx2.

A request that only reads, or that says the same when said twice, is repeated.
Any other is repeated only where it certainly was not carried out; else it ends
in `Unsure`, and the caller asks the hub what came of it.
"""

from __future__ import annotations

import json as jsons
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2

from wasteland.errors import NotFound, Unauthenticated, Unreachable
from wasteland.hub import Branch, Comment
from wasteland.hub.rest.network import proxy_for, trust
from wasteland.hub.rest.shapes import EPOCH, Summary, plain, time_of
from wasteland.local.steps import step
from wasteland.text import show
from wasteland.values import dataclass

AT_ONCE = 8
TRIES = 5
DEADLINE = 90.0  # seconds for one request with all its repetitions
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
LONGEST_WISH = 20.0  # seconds of Retry-After that are honoured
LIMIT = 64 << 20  # bytes of an answer
REDIRECTS = (301, 302, 307, 308)
BUSY = (429, 503)  # the hub says that it has done nothing

Item = TypeVar("Item")
Found = TypeVar("Found")


class Unsure(Unreachable):
    """The answer was lost: the hub may or may not have done what it was asked."""


class NoRoute(NotFound):
    """The hub does not have this route at all: it speaks another generation of the API."""


@dataclass(frozen=True)
class Answer:
    """A status and what came with it; `body` is None where that was not JSON, the names of headers are small."""

    status: int
    body: Any
    wish: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def object(self) -> dict[str, Any]:
        """The body as an object; empty where it is something else."""
        return plain(self.body)


@dataclass(frozen=True)
class Job:
    """How far an operation is: running, succeeded, failed or lost; `before` and `after` are commits of a write."""

    state: str
    error: str = ""
    before: str | None = None
    after: str | None = None


class Rest(Protocol):
    """One generation of the REST API, in the words of the hub."""

    version: str
    can_tell_comments: bool

    def user(self) -> str:
        """The name of the token's holder."""

    def exists(self, org: str, db: str) -> bool:
        """Whether the database is there and may be seen."""

    def create(self, org: str, db: str, private: bool, description: str) -> None:
        """Make a database; Conflict where it exists."""

    def fork(self, org: str, db: str, owner: str) -> str:
        """Start a fork; what `job` needs to follow it."""

    def job(self, kind: str, org: str, db: str, number: str, ref: str) -> Job:
        """How far a fork, write or merge is."""

    def busy(self, org: str, db: str) -> bool:
        """Whether operations of the database are known to be under way."""

    def pull(self, org: str, db: str, number: int) -> Summary | None:
        """One pull request with its branches."""

    def pulls(self, org: str, db: str, state: str | None) -> list[Summary]:
        """All pull requests, perhaps of other states too and without their branches."""

    def open(self, source: Branch, target: Branch, title: str, body: str) -> int | None:
        """Open a pull request; its number, where the answer tells it."""

    def edit(self, org: str, db: str, number: int, changes: Mapping[str, str]) -> None:
        """Change title, description or state of a pull request."""

    def comment(self, org: str, db: str, number: int, text: str) -> None:
        """Add a comment."""

    def comments(self, org: str, db: str, number: int) -> list[Comment] | None:
        """All comments; None where this generation cannot tell them."""

    def merge(self, org: str, db: str, number: int) -> str:
        """Start a merge; what `job` needs to follow it."""

    def rows(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT."""

    def write(self, org: str, db: str, base: str, branch: str, sql: str) -> str:
        """Start a write; what `job` needs to follow it."""

    def branch_at(self, org: str, db: str, name: str, commit: str) -> None:
        """Make a branch at a commit; Conflict where it exists."""


class Wire:
    """The requests to one hub, with the token of one user.  `calls` counts them.

    `away` is by how many seconds this machine's clock is ahead of the hub's, where the hub tells the time,
    `limits` the headers of answers that asked for fewer requests.
    """

    def __init__(
        self,
        api: str,
        token: str | None,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise Unauthenticated("the token has characters that no token has", hint="wl login")
        self.api = api
        self.host = urlsplit(api).netloc
        self.calls = 0
        self.away: float | None = None
        self.limits: list[Mapping[str, str]] = []
        self.sleep = sleep
        self._token = token
        self._count = threading.Lock()
        self._turn = threading.BoundedSemaphore(AT_ONCE)
        self._pool: ThreadPoolExecutor | None = None
        self._client = httpx2.Client(
            transport=transport, trust_env=False, proxy=proxy_for(api), verify=trust(api),
            timeout=httpx2.Timeout(30.0, connect=10.0),
            limits=httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
            headers={"accept": "application/json", "user-agent": "wasteland"},
        )  # fmt: skip
        self._closing = weakref.finalize(self, self._client.close)

    @property
    def has_token(self) -> bool:
        """Whether requests say who we are."""
        return self._token is not None

    def close(self) -> None:
        """End the connections."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._closing()

    def each(self, function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
        """The function of each item, at most eight at a time, in order."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE)
        return list(self._pool.map(function, items))

    def shown(self, words: object) -> str:
        """What the hub said, safe to print: short, on one line, and without the token should it repeat it."""
        text = str(words)
        if self._token:
            text = text.replace(self._token, "…")
        return show(text)[:300]

    def request(
        self,
        method: str,
        path: str,
        *,
        scheme: str = "",
        params: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        repeat: bool = False,
    ) -> Answer:
        """One request, repeated where that is safe; any status below 500 is an answer.

        `scheme` is the word before the token, and without it none is sent.
        Raises Unreachable where nothing was done, Unsure where that is not known.
        """
        headers = {"cache-control": "no-cache"} if method == "GET" else {}
        if scheme and self._token:
            headers["authorization"] = f"{scheme} {self._token}"
        url = urljoin(self.api.rstrip("/") + "/", path)
        if not _same_host(url, self.api):
            raise Unreachable(f"{self.host} names another host for what it was asked", about=self.host)
        content = None if json is None else jsons.dumps(json).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        answer = self._repeated(
            lambda: self._follow(method, url, params, headers, content), repeat=repeat or method == "GET"
        )
        if method != "GET":
            step("asked")
        return answer

    def _repeated(self, send: Callable[[], Answer], *, repeat: bool) -> Answer:
        deadline = time.monotonic() + DEADLINE
        for tried in range(1, TRIES + 1):
            answer, trouble, wish = self._tried(send, repeat=repeat)
            if answer is not None:
                return answer
            pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**tried))  # noqa: S311
            pause = max(pause, min(wish or 0.0, LONGEST_WISH))
            if tried == TRIES or time.monotonic() + pause > deadline:
                break
            self.sleep(pause)
        raise Unreachable(f"{self.host} does not answer: {trouble}", about=self.host, hint="try again later")

    def _tried(self, send: Callable[[], Answer], *, repeat: bool) -> tuple[Answer | None, str, float | None]:
        """An answer; or what went wrong, where the request may be sent again."""
        try:
            answer = send()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            return None, self.shown(error) or type(error).__name__, None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            if repeat:
                return None, self.shown(error) or type(error).__name__, None
            raise Unsure(
                f"the answer of {self.host} was lost, and whether it did what it was asked is not known",
                about=self.host, hint="look whether it was done, then try again",
            ) from error  # fmt: skip
        if answer.status == 429:
            self.limits.append(answer.headers)
        if answer.status in BUSY or (answer.status >= 500 and repeat):
            busy = "it asks for fewer requests" if answer.status == 429 else f"HTTP {answer.status}"
            return None, busy, answer.wish
        if answer.status >= 500:
            raise Unsure(
                f"{self.host} failed with HTTP {answer.status}, and whether it did what it was asked is not known",
                about=self.host, hint="look whether it was done, then try again",
            )  # fmt: skip
        return answer, "", None

    def _follow(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: dict[str, str], content: bytes | None
    ) -> Answer:
        """Send, and follow redirects that stay with the same host: the token goes nowhere else."""
        for _ in range(3):
            answer, to = self._send(method, url, params, headers, content)
            if not to:
                return answer
            there = urljoin(url, to)
            if not _same_host(there, url) or (method != "GET" and answer.status in (301, 302)):
                raise Unreachable(f"{self.host} sends us to another place, where the token must not go")
            url, params = there, None
        raise Unreachable(f"{self.host} sends us in a circle", about=self.host)

    def _send(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: dict[str, str], content: bytes | None
    ) -> tuple[Answer, str]:
        with self._count:
            self.calls += 1
        request = self._client.build_request(method, url, params=params, headers=headers, content=content)
        with self._turn:
            response = self._client.send(request, stream=True)
            try:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > LIMIT:
                        raise Unreachable(f"{self.host} sends more than {LIMIT >> 20} MiB", about=self.host)
            finally:
                response.close()
        to = response.headers.get("location", "") if response.status_code in REDIRECTS else ""
        came = {name.lower(): value for name, value in response.headers.items()}
        told = time_of(came.get("date"))
        self.away = time.time() - told.timestamp() if told != EPOCH else self.away
        return Answer(response.status_code, _json(data), _wish(came.get("retry-after")), came), to


def _json(data: bytearray) -> Any:
    try:
        return jsons.loads(data)
    except (ValueError, RecursionError):
        return None


def _wish(text: str | None) -> float | None:
    """The seconds of a Retry-After; a date in it is not worth its clock and means a few."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        return 5.0


def _same_host(there: str, here: str) -> bool:
    """Whether a URL stays with the host, port and scheme; DoltHub's bare name may give way to its `www`."""
    new, old = urlsplit(there), urlsplit(here)
    if (new.scheme, new.netloc.lower()) == (old.scheme, old.netloc.lower()):
        return True
    return (new.scheme, new.netloc, old.netloc.lower()) == ("https", "www.dolthub.com", "dolthub.com")
