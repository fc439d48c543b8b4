"""One Dolt database: rows, the history they live in, and its remotes.

    db.rows("SELECT * FROM wanted WHERE status = :status", status="open")
    with db.change("wl claim: w-1"):          # one Dolt commit, or nothing
        db.run("UPDATE wanted SET … WHERE id = :id", id="w-1")
    db.at("upstream/main").rows(…)            # the same tables, elsewhere

Values are always bound.  `dolt_*` functions and procedures, and `AS OF`, are
written here and nowhere else.  What is measured and relied upon:

* PyMySQL's autocommit=False sends nothing to Dolt, so sessions run with
  autocommit on and `change` sends START TRANSACTION itself.
* DOLT_COMMIT inside a transaction does not end it: COMMIT follows it.
* Table functions (`dolt_diff`, …) are denied to a plain account while the
  session is on `db/branch`, so they run on the bare database.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from wasteland.dolt.changes import Changes
from wasteland.dolt.session import Session, call
from wasteland.errors import Conflict, NotFound, Unauthenticated, Unreachable, WastelandError
from wasteland.local.steps import step
from wasteland.text import masked, show

DENIED = re.compile(r"code = (Unauthenticated|PermissionDenied)\b")  # gRPC's own words for its status codes
GONE = re.compile(r"code = NotFound\b")
MOVED = "if the hub's folder has moved: wl config set remote-base FOLDER"


class PushRejected(Conflict):
    """The remote's branch holds commits that ours does not."""


class Database(Changes):
    """One commons, seen at its `main` or at another branch, tag or commit, with its remotes."""

    def fetch(self, remote: str, *refs: str) -> None:
        """Bring the branches of `remote` here, or those named; Unreachable when it does not answer."""
        # A server that has a remote in a folder open goes on answering from memory when the folder is gone.
        url = self._session.remotes.get(remote) or self.remotes().get(remote, "")
        folder = url.partition("file://")[2]
        if folder and not Path(folder).is_dir():
            raise Unreachable(f"could not fetch from {remote}: {folder} is not there", about=remote, hint=MOVED)
        self._remote("DOLT_FETCH", "--prune", remote) if not refs else self._remote("DOLT_FETCH", remote, *refs)

    def apart(self) -> Database:
        """The same database with sessions of its own, for another thread."""
        other = Database.__new__(Database)
        other.__dict__.update(self.__dict__)
        other._session, other._sync = Session(self.server), None
        return other

    def push(self, remote: str, branch: str, *, force: bool = False) -> None:
        """Push `branch` (or `:branch`, to delete) and be sure of the outcome.

        Whether it happened is decided by what the remote holds afterwards, never
        by a message.  Raises PushRejected when the remote's branch holds
        commits that ours does not, Unreachable otherwise.
        """
        words = ["--force", remote, branch] if force else [remote, branch]
        step("pushing")
        try:
            self._remote("DOLT_PUSH", *words)
            step("pushed")
        except Unreachable as failed:
            with contextlib.suppress(Unreachable):
                self._plain("SELECT 1")  # where our server died, this session did too: the next question starts both
            self.fetch(remote)
            name = branch.removeprefix(":")
            theirs = self.find(f"{remote}/{name}")
            if branch.startswith(":"):
                if theirs is None:
                    return
                raise
            ours = self.hash_of(name)
            if theirs is not None and self.is_ancestor(ours, theirs):
                return  # it arrived, and somebody may have gone on from there
            if theirs is not None and not self.is_ancestor(theirs, ours):
                raise PushRejected(
                    f"{remote} already has other commits on {name}", about=name, hint="wl sync, then try again"
                ) from failed
            raise

    def _remote(self, procedure: str, *words: str) -> None:
        if self._sync is None:
            self._sync = Session(self.server, "sync")
        try:
            self._sync.ask(None, call(procedure, words), words)
        except Unreachable:
            raise
        except WastelandError as error:
            verb = "fetch from" if procedure == "DOLT_FETCH" else "push to"
            remote = next(word for word in words if not word.startswith("-"))
            said = f"could not {verb} {remote}: {error.message.removeprefix('the database refused: ')}"
            if DENIED.search(error.message):
                raise Unauthenticated(said, about=remote, hint="wl doctor says which right is missing") from error
            if GONE.search(error.message):
                url = masked(show(self.remotes().get(remote, remote)))
                raise NotFound(
                    f"could not {verb} {remote}: there is no database at {url}, or it is not shown to this rig",
                    about=remote, hint="wl doctor says what is missing, and what to do",
                ) from error  # fmt: skip
            raise Unreachable(said, about=remote, hint="wl doctor looks for the cause") from error

    def as_root(self, statements: Sequence[str]) -> None:
        """Run statements that only the owner of the database may: tables of ours, remotes."""
        session = Session(self.server, "root")
        try:
            for statement in statements:
                session.ask(self.revision, statement)
        finally:
            session.close()

    def add_remote(self, name: str, url: str) -> None:
        """Name a remote."""
        session = Session(self.server, "root")
        try:
            session.ask(None, "CALL DOLT_REMOTE('add', %s, %s)", (name, url))
        finally:
            session.close()

    def remove_remote(self, name: str) -> None:
        """Forget a remote and what was fetched from it; a later gc frees its room."""
        session = Session(self.server, "root")
        try:
            session.ask(None, "CALL DOLT_REMOTE('remove', %s)", (name,))
        finally:
            session.close()
        self._session.remotes = {}

    def forget_fetched(self, remote: str, branch: str) -> None:
        """Forget a branch of a remote as last fetched."""
        self._plain("CALL DOLT_BRANCH('-D', '-r', %s)", (f"{remote}/{branch}",))

    def repoint(self, old: str, new: str) -> None:
        """Let the remotes whose URLs begin with `old` begin with `new`; what was fetched from them stays.

        Dolt itself can only remove a remote, which forgets that, so its file is written while no server runs.
        """
        import json

        from wasteland.dolt.starting import at_rest
        from wasteland.local import private

        file = self.server.clone / ".dolt" / "repo_state.json"
        self.close()
        with self.locked(), at_rest(self.server):
            state = json.loads(file.read_text())
            for remote in state["remotes"].values():
                if remote["url"].startswith(old):
                    remote["url"] = new + remote["url"].removeprefix(old)
            private.write(file, json.dumps(state, indent=2).encode())
        self._session.remotes = {}

    def close(self) -> None:
        """End the sessions and let the server become idle."""
        self.hang_up()
        self.server.leave()

    def hang_up(self) -> None:
        """End the sessions."""
        self._session.close()
        if self._sync is not None:
            self._sync.close()
