"""The verbs of `wl` on a small clone with a hub in a folder, where starting is nearly all that they do.

Everything is over `import click`, which is what any program of this kind pays
before its first line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import User, World

READING, WRITING = 1.9, 2.8  # times `import click`
ITEMS = 10
PREFIX = "small: wl "
TARGETS = {
    "browse": READING, "browse (pr)": READING, "status": READING, "status (pr)": READING,
    "sync": WRITING, "post": WRITING, "claim": WRITING, "done": WRITING,
}  # fmt: skip


class Small:
    """A wild-west rig and a PR-mode rig on a handful of items; `verb` runs and times one command."""

    def __init__(self, folder: Path, verb: Callable[..., str]) -> None:
        folder.mkdir()
        self.world = World(folder)
        self._verb = verb

    def build(self) -> None:
        """Make the wasteland with its items, and join the second rig."""
        self.wild = self.world.create("poster", mode="wild-west")
        self.item = ""
        for n in range(ITEMS):
            self.item = self.wild.json("post", "--title", f"Item {n}")["item"]["id"]
        self.pr = self.world.join("worker", by=self.wild)

    def round(self, n: int) -> None:
        """One round of what has a target."""
        self.pr.ok("sync")  # what the round before has landed
        for user, mark in ((self.wild, ""), (self.pr, " (pr)")):
            self._run(user, f"browse{mark}", "browse")
            self._run(user, f"status{mark}", "status", self.item)
        self._run(self.wild, "sync", "sync")
        made = self._run(self.wild, "post", "post", "--title", f"Post {n}", "--json")
        posted = json.loads(made)["item"]["id"]
        self._run(self.wild, "claim", "claim", posted)
        self._run(self.wild, "done", "done", posted, "--evidence", "https://example.com/1")

    def _run(self, user: User, name: str, *words: str) -> str:
        return self._verb(user, PREFIX + name, *words)
