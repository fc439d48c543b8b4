"""Operations: what a hub does in its own time, as rows that outlive it, and the threads that do it."""

from __future__ import annotations

import json
import logging
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wasteland.errors import NotFound, WastelandError
from wasteland.hubserver.store import Repository, Store, now
from wasteland.values import dataclass

WORKERS = 8
log = logging.getLogger(__name__)
PENDING, RUNNING, SUCCEEDED, FAILED = "pending", "running", "succeeded", "failed"


@dataclass(frozen=True)
class Job:
    """An operation: what was asked, and what has come of it."""

    id: str
    kind: str
    repo: int
    user: str
    state: str
    about: dict[str, Any]
    result: dict[str, Any]
    error: str | None
    created: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in (SUCCEEDED, FAILED)


class Operations:
    """The operations of one hub."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="operation")

    def stop(self) -> None:
        """Wait for what runs; what waits stays pending for the next hub of the folder."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, kind: str, repo: Repository, user: str, about: dict[str, Any]) -> Job:
        """A new operation, pending."""
        made = str(uuid.uuid4())
        with self._store.change() as db:
            db.execute(
                "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
                (made, kind, repo.id, user, PENDING, json.dumps(about), now()),
            )
        return self.load(made)

    def begin(self, job: Job, work: Callable[[], dict[str, Any]]) -> Job:
        """Have a thread do the work; what it returns or raises becomes the outcome."""
        self._pool.submit(self._run, job, work)
        return job

    def _run(self, job: Job, work: Callable[[], dict[str, Any]]) -> None:
        self._set(job, RUNNING)
        try:
            result = work()
        except WastelandError as error:
            self.fail(job, error.message, error.code)
        except Exception as error:
            log.exception("an operation failed")
            self.fail(job, f"internal error: {type(error).__name__}")
        else:
            self._set(job, SUCCEEDED, result)

    def fail(self, job: Job, message: str, kind: str = "WastelandError") -> None:
        """Say that an operation came to nothing; `kind` is the class of the error."""
        self._set(job, FAILED, {"kind": kind}, message)

    def _set(self, job: Job, state: str, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        with self._store.change() as db:
            db.execute(
                "UPDATE operations SET state = ?, result = ?, error = ? WHERE id = ?",
                (state, json.dumps(result) if result is not None else None, error, job.id),
            )

    def load(self, number: str) -> Job:
        """An operation; NotFound where there is none."""
        found = self._store.row("SELECT * FROM operations WHERE id = ?", number)
        if found is None:
            raise NotFound("no such operation")
        return _job(found)

    def newest(self, *, user: str | None = None, repo: Repository | None = None, kind: str | None = None) -> list[Job]:
        """The 15 newest operations of a user or a repository."""
        found = self._store.rows(
            "SELECT * FROM operations WHERE (?1 IS NULL OR user = ?1) AND (?2 IS NULL OR repo = ?2) "
            "AND (?3 IS NULL OR kind = ?3) ORDER BY rowid DESC LIMIT 15",
            user, repo.id if repo else None, kind,
        )  # fmt: skip
        return [_job(row) for row in found]

    def unfinished(self) -> list[Job]:
        """Operations that had not ended when the hub did."""
        found = self._store.rows("SELECT * FROM operations WHERE state IN (?, ?) ORDER BY rowid", PENDING, RUNNING)
        return [_job(row) for row in found]


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"], kind=row["kind"], repo=row["repo"], user=row["user"], state=row["state"],
        about=json.loads(row["about"]), result=json.loads(row["result"] or "{}"), error=row["error"],
        created=row["created"],
    )  # fmt: skip
