"""Where forks and pull requests live: the interface that every hub has.

Shaped for DoltHub: forks are databases of other owners, pull requests are
numbered per base database, a fork or a merge is an operation that ends some
time later.  What an operation says is never proof: the caller asks for a
commit, a state, or ancestry.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from wasteland.values import dataclass

OPEN, CLOSED, MERGED = "open", "closed", "merged"


@dataclass(frozen=True)
class Comment:
    """What somebody wrote under a pull request; `author` is the hub's user, whom the hub has authenticated."""

    author: str
    text: str
    at: datetime | None = None


@dataclass(frozen=True)
class Branch:
    """A branch of a database on the hub."""

    org: str
    db: str
    name: str

    def __str__(self) -> str:
        return f"{self.org}/{self.db}:{self.name}"


@dataclass(frozen=True)
class Pull:
    """A pull request; `number` counts per base database, `state` is open, closed or merged."""

    number: int
    title: str
    body: str
    state: str
    author: str
    source: Branch
    target: Branch
    created_at: datetime
    url: str


@dataclass(frozen=True)
class Operation:
    """Something that a hub does in its own time; `done` as far as this look showed."""

    id: str
    done: bool


class Hub(Protocol):
    """Forks and pull requests of one place."""

    kind: str

    @property
    def takes_keys(self) -> bool:
        """Whether `register_key` works; else keys are given to its web page, or nobody asks for them."""

    def register_key(self, public_key: str) -> bool:
        """Make Dolt's public key known as this user's; whether the hub could."""

    def url(self, org: str, db: str) -> str:
        """The Dolt remote of a database."""

    def whoami(self) -> str | None:
        """The user that the hub takes us for; None where it knows no users.  Unauthenticated for a bad token."""

    def exists(self, org: str, db: str) -> bool:
        """Whether the database is there and may be seen."""

    def create(self, org: str, db: str, *, private: bool = False, description: str = "") -> None:
        """Make an empty database, where the hub needs that before the first push.  Conflict where it exists."""

    def fork(self, org: str, db: str, owner: str) -> Operation:
        """Start a fork of `org/db` owned by `owner`; an existing one is taken."""

    def wait(self, operation: Operation, timeout: float = 120.0) -> None:
        """Until the operation has ended; Unreachable where it does not, WastelandError where it failed."""

    def open_pull(self, source: Branch, target: Branch, title: str, body: str, author: str) -> Pull:
        """Open a pull request, or give the open one of the same branches with its text refreshed."""

    def pulls(self, org: str, db: str, *, state: str | None = OPEN) -> list[Pull]:
        """Pull requests of a base database, by number; all states for None."""

    def pull(self, org: str, db: str, number: int) -> Pull | None:
        """One pull request, or None."""

    def pull_from(self, source: Branch, target: Branch) -> Pull | None:
        """The open pull request of two branches, also where the list does not show it yet; None where there is none."""

    def comment(self, org: str, db: str, number: int, author: str, text: str) -> None:
        """Add a comment to a pull request."""

    def comments(self, org: str, db: str, number: int) -> list[Comment] | None:
        """The comments of a pull request, oldest first; None where the hub cannot tell them."""

    def close(self, org: str, db: str, number: int, *, landed: str | None = None) -> None:
        """Close a pull request; `landed` is the commit of main that holds its rows, where they landed."""

    def merge(self, org: str, db: str, number: int, author: str) -> Operation:
        """The hub's own merge button.  Takes whatever the branch is then; the node never uses it to land."""

    def read(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT at a branch or commit."""

    def finish(self) -> None:
        """End the connections, where there are any."""

    def level(self, org: str, db: str, owner: str) -> str | None:
        """Bring the main of `owner`'s fork of `org/db` level with upstream's, without a clone; its head afterwards.

        None where the hub has no way to do it.  Conflict where the fork's main has commits of its own that do
        not merge; nothing of them is lost.
        """
