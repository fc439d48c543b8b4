"""What never changes about pull requests, kept on this machine: a list tells no branches, a look costs a request.

    <cache>/pulls-<org>.<db>.json    by number: source, target, author, time

The time is compared with the list's, so that a database that was deleted and
made again does not inherit the branches of its predecessor.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from wasteland.errors import Misconfigured
from wasteland.hub import Branch
from wasteland.hub.rest.shapes import EPOCH, plain, time_of
from wasteland.local import config as configuration
from wasteland.values import dataclass

FIELDS = 8


@dataclass(frozen=True)
class Detail:
    """The part of a pull request that stays as it is."""

    source: Branch
    target: Branch
    author: str
    created_at: datetime

    def fits(self, created_at: datetime) -> bool:
        """Whether a pull request that was opened then is this one."""
        return EPOCH in (created_at, self.created_at) or created_at == self.created_at


class Known:
    """The details of the pull requests of one database."""

    def __init__(self, cache: Path, org: str, db: str) -> None:
        self.file = cache / f"pulls-{org}.{db}.json"

    def all(self) -> dict[int, Detail]:
        """Everything that is known; a damaged file is an empty one."""
        try:
            found = configuration.read_json(self.file)
        except Misconfigured:
            return {}
        made = {}
        for number, fields in plain(found.get("pulls")).items():
            if number.isdigit() and (detail := _detail(fields)):
                made[int(number)] = detail
        return made

    def add(self, details: dict[int, Detail]) -> None:
        """Remember more; what cannot be remembered is asked for again."""
        if not details:
            return
        with contextlib.suppress(OSError), configuration.locked(self.file.with_suffix(".lock")):
            merged = self.all() | details
            pulls = {str(number): _fields(merged[number]) for number in sorted(merged)}
            configuration.write_json(self.file, {"pulls": pulls})


def _fields(detail: Detail) -> list[str]:
    source, target = detail.source, detail.target
    return [
        source.org, source.db, source.name, target.org, target.db, target.name, detail.author,
        detail.created_at.isoformat(),
    ]  # fmt: skip


def _detail(fields: object) -> Detail | None:
    if not isinstance(fields, list) or len(fields) != FIELDS or not all(isinstance(one, str) for one in fields):
        return None
    return Detail(Branch(*fields[0:3]), Branch(*fields[3:6]), fields[6], time_of(fields[7]))
