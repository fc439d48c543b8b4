"""A request as the handlers see it, what they answer, and which handler a path belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any
from urllib.parse import unquote

from wasteland.errors import Usage
from wasteland.hubserver import Holder
from wasteland.hubserver.host import Host
from wasteland.values import dataclass


@dataclass
class Call:
    """One request: its words, who asks, and the body as it came."""

    host: Host
    method: str
    path: dict[str, str]
    query: dict[str, str]
    body: bytes
    holder: Holder | None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; Usage where it is not one."""
        try:
            found = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):  # the second: very many lists within each other
            raise Usage("the body is not JSON") from None
        if not isinstance(found, dict):
            raise Usage("the body is not a JSON object")
        return found

    def text(self, name: str, default: str | None = None) -> str:
        """A text of the body; Usage where it is missing or not text."""
        found = self.json().get(name, default)
        if not isinstance(found, str):
            raise Usage(f"{name} is missing or not text", about=name)
        return found

    def number(self, name: str) -> int:
        """A number of the path; Usage where it is not one."""
        found = self.path[name]
        if not found.isascii() or not found.isdigit() or len(found) > 9:
            raise Usage(f"{name} is not a number", about=name)
        return int(found)


@dataclass
class Reply:
    """What is answered."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Reply]
Route = tuple[str, tuple[str, ...], Handler]


def route(method: str, pattern: str, handler: Handler) -> Route:
    """A path with `{names}`, each one segment; `{name...}` takes all that are left."""
    return method, tuple(pattern.strip("/").split("/")), handler


def find(routes: Iterable[Route], method: str, raw_path: str) -> tuple[Handler | None, dict[str, str], bool]:
    """The first handler of a path, its named segments, and whether the path exists with another method.

    Segments are decoded one by one, so that `wl%2Fada%2Fw-1` is one.
    """
    segments = [unquote(segment, errors="replace") for segment in raw_path.strip("/").split("/")]
    known = False
    for verb, pattern, handler in routes:
        found = _match(pattern, segments)
        if found is not None:
            known = True
            if verb == method:
                return handler, found, True
    return None, {}, known


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for at, part in enumerate(pattern):
        if part.endswith("...}") and at < len(segments):
            found[part[1:-4]] = "/".join(segments[at:])
            return found
        if at >= len(segments):
            return None
        if part.startswith("{"):
            found[part[1:-1]] = segments[at]
        elif part != segments[at]:
            return None
    return found if len(pattern) == len(segments) else None
