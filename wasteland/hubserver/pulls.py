"""Pull requests, comments, webhooks and the heads that are known, as rows of the hub's store."""

from __future__ import annotations

from wasteland.errors import NotFound, NotOpen
from wasteland.hub import CLOSED, MERGED, OPEN
from wasteland.hubserver.store import Repository, Store, now
from wasteland.values import dataclass

PAGE = 100


@dataclass(frozen=True)
class PullRow:
    """A pull request as it is stored, with the names of its source."""

    repo: int
    number: int
    title: str
    body: str
    state: str
    author: str
    from_repo: int
    from_owner: str
    from_name: str
    from_branch: str
    to_branch: str
    created: str
    merged_commit: str | None


PULL = """
SELECT p.repo, p.number, p.title, p.body, p.state, p.author, p.from_repo, s.owner AS from_owner, s.name AS from_name,
       p.from_branch, p.to_branch, p.created, p.merged_commit
  FROM pulls p JOIN repositories s ON s.id = p.from_repo
"""


@dataclass(frozen=True)
class CommentRow:
    """One comment."""

    id: int
    author: str
    body: str
    created: str


def add(
    store: Store, base: Repository, title: str, body: str, author: str, source: Repository, branch: str, to: str
) -> PullRow:
    """Open a pull request under the base's next number."""
    with store.change() as db:
        number = 1 + db.execute("SELECT COALESCE(MAX(number), 0) FROM pulls WHERE repo = ?", (base.id,)).fetchone()[0]
        db.execute(
            "INSERT INTO pulls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (base.id, number, title, body, OPEN, author, source.id, branch, to, now()),
        )
    return load(store, base, number)


def load(store: Store, base: Repository, number: int) -> PullRow:
    """One pull request; NotFound where there is none of that number."""
    found = store.row(f"{PULL} WHERE p.repo = ? AND p.number = ?", base.id, number)
    if found is None:
        raise NotFound("no such pull request", about=str(number))
    return PullRow(**dict(found))


def page(store: Store, base: Repository, after: int, state: str | None = None) -> tuple[list[PullRow], int | None]:
    """Up to PAGE pull requests after a number, and the number to go on from."""
    found = store.rows(
        f"{PULL} WHERE p.repo = ?1 AND p.number > ?2 AND (?3 IS NULL OR p.state = ?3) ORDER BY p.number LIMIT ?4",
        base.id, after, state, PAGE + 1,
    )  # fmt: skip
    rows = [PullRow(**dict(row)) for row in found]
    return rows[:PAGE], rows[PAGE - 1].number if len(rows) > PAGE else None


def retitle(store: Store, base: Repository, number: int, title: str | None, body: str | None) -> None:
    """Change title and description, where they are given."""
    with store.change() as db:
        db.execute(
            "UPDATE pulls SET title = COALESCE(?, title), body = COALESCE(?, body) WHERE repo = ? AND number = ?",
            (title, body, base.id, number),
        )


def move(store: Store, base: Repository, number: int, state: str) -> bool:
    """Close an open pull request or open a closed one; whether anything changed.  NotOpen where it is merged."""
    was = OPEN if state == CLOSED else CLOSED
    with store.change() as db:
        done = db.execute(
            "UPDATE pulls SET state = ?, closed = ? WHERE repo = ? AND number = ? AND state = ?",
            (state, now() if state == CLOSED else None, base.id, number, was),
        )
        if done.rowcount:
            return True
        found = db.execute("SELECT state FROM pulls WHERE repo = ? AND number = ?", (base.id, number)).fetchone()
    if found and found["state"] == MERGED:
        raise NotOpen("the pull request is already merged", about=str(number))
    return False


def merged(store: Store, base: Repository, number: int, commit: str) -> None:
    """Note that a pull request has landed as `commit`."""
    with store.change() as db:
        db.execute(
            "UPDATE pulls SET state = ?, closed = ?, merged_commit = ? WHERE repo = ? AND number = ?",
            (MERGED, now(), commit, base.id, number),
        )


def add_comment(store: Store, base: Repository, number: int, author: str, body: str) -> CommentRow:
    """Add a comment to a pull request."""
    load(store, base, number)
    made = now()
    with store.change() as db:
        done = db.execute("INSERT INTO comments (repo, number, author, body, created) VALUES (?, ?, ?, ?, ?)",
                          (base.id, number, author, body, made))  # fmt: skip
    return CommentRow(int(done.lastrowid or 0), author, body, made)


def comments(store: Store, base: Repository, number: int, after: int = 0) -> tuple[list[CommentRow], int | None]:
    """Up to PAGE comments after one, oldest first, and the one to go on from."""
    found = store.rows(
        "SELECT id, author, body, created FROM comments WHERE repo = ? AND number = ? AND id > ? ORDER BY id LIMIT ?",
        base.id, number, after, PAGE + 1,
    )  # fmt: skip
    rows = [CommentRow(**dict(row)) for row in found]
    return rows[:PAGE], rows[PAGE - 1].id if len(rows) > PAGE else None


def add_webhook(store: Store, base: Repository, url: str, secret: str) -> int:
    """Have the events of a repository sent to a URL."""
    with store.change() as db:
        done = db.execute("INSERT INTO webhooks (repo, url, secret) VALUES (?, ?, ?)", (base.id, url, secret))
    return int(done.lastrowid or 0)


def remove_webhook(store: Store, number: int) -> None:
    """Send no more events; NotFound where there is no such webhook."""
    with store.change() as db:
        if not db.execute("DELETE FROM webhooks WHERE id = ?", (number,)).rowcount:
            raise NotFound(f"there is no webhook {number}", about=str(number))


def webhooks(store: Store, base: Repository) -> list[tuple[str, str]]:
    """URL and secret of each webhook of a repository."""
    return [(row["url"], row["secret"]) for row in store.rows("SELECT * FROM webhooks WHERE repo = ?", base.id)]


def heads(store: Store, base: Repository) -> dict[str, str]:
    """The branches and their heads as they were last seen."""
    return {row["branch"]: row["hash"] for row in store.rows("SELECT * FROM heads WHERE repo = ?", base.id)}


def set_heads(store: Store, base: Repository, found: dict[str, str]) -> None:
    """Note the branches and their heads."""
    with store.change() as db:
        db.execute("DELETE FROM heads WHERE repo = ?", (base.id,))
        db.executemany("INSERT INTO heads VALUES (?, ?, ?)", [(base.id, name, head) for name, head in found.items()])
