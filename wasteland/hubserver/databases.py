"""Repositories as Dolt databases: made, forked, read, written, merged.

A view can carry a query that a statement does not show, therefore the plan is
looked at too; a trigger would run with more rights than its author thinks,
therefore a branch that has triggers takes no writes by SQL.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from wasteland.errors import Conflict, NotFound, Refused, WastelandError
from wasteland.hubserver import queries
from wasteland.hubserver.engine import Answer, Engine, Session
from wasteland.hubserver.server import REMOTE_ACCOUNT
from wasteland.text import show

UNBORN = "hub-empty"  # the branch of a database that has had no push; never shown
REF = re.compile(r"(?!.*(\.\.|//|@\{))[A-Za-z0-9_][A-Za-z0-9_./+=@-]{0,199}\Z")
HASH = re.compile(r"[0-9a-v]{32}\Z")
NO_COMMIT = "Cannot return null for non-nullable field SqlWrite.toCommitId."  # the service's words
HEAD = "SELECT hash FROM dolt_branches WHERE name = %s"
GRANTS = (
    "CREATE USER IF NOT EXISTS '{db}_ro'@'localhost' IDENTIFIED BY %(ro)s",
    "GRANT SELECT ON `{db}`.* TO '{db}_ro'@'localhost'",
    "CREATE USER IF NOT EXISTS '{db}_rw'@'localhost' IDENTIFIED BY %(rw)s",
    "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `{db}`.* TO '{db}_rw'@'localhost'",
)


class Unchanged(WastelandError):
    """A write that changed no row, or whose base branch is not there: no commit was made."""


class Databases(Engine):
    """The databases of one hub."""

    def create(self, db: str) -> None:
        """Make a database without a branch that anybody sees, so that any history may be its first push."""
        with self.session("root") as root:
            root.run(f"CREATE DATABASE `{db}`")
            self._grant(root, db)
        with contextlib.closing(self.login("root", db)) as session:
            session.run("CALL DOLT_BRANCH(%s)", UNBORN)
            self.point(db, UNBORN)
        with contextlib.closing(self.login("root", f"{db}/{UNBORN}")) as session:
            # Dolt keeps the branch that it calls default; without it, it resolves the one that `point` named.
            session.run("SET @dolt_allow_default_branch_deletion = 1")
            session.run("CALL DOLT_BRANCH('-D', 'main')")

    def _grant(self, root: Session, db: str) -> None:
        passwords = {"ro": self.server.password(f"{db}_ro"), "rw": self.server.password(f"{db}_rw")}
        for statement in GRANTS:
            root.run(statement.format(db=db), passwords)

    def point(self, db: str, branch: str) -> None:
        """Say which branch the bare name of a database means, until the server ends."""
        with self.session("root") as root:
            root.run(f"SET @@GLOBAL.{db}_default_branch = %s", branch)
        self.forget(db)

    def born(self, db: str) -> None:
        """Take away the branch of a database that has had no push, after the first one."""
        with self.session("root", db) as session:
            session.run("CALL DOLT_BRANCH('-D', %s)", UNBORN)

    def clone(self, source: str, db: str) -> None:
        """Make `db` with all branches of `source` and their history."""
        with self.lock(source), self.session("root") as root:
            root.run("CALL DOLT_CLONE(%s, %s)", f"file://{self.server.data}/{source}/.dolt/noms", db)
            self._grant(root, db)
        with contextlib.closing(self.login("root", db)) as session:
            here = set(self.branches(db))
            for (name,) in session.rows("SELECT name FROM dolt_remote_branches"):
                branch = str(name).removeprefix("remotes/origin/")
                if branch not in here and branch != UNBORN:
                    session.run("CALL DOLT_BRANCH(%s, %s)", branch, f"origin/{branch}")
            session.run("CALL DOLT_REMOTE('remove', 'origin')")

    def drop(self, db: str) -> None:
        """Take away a database whose making was not completed."""
        with self.session("root") as root:
            root.run(f"DROP DATABASE IF EXISTS `{db}`")

    def branches(self, db: str) -> dict[str, str]:
        """The branches and their heads."""
        return {name: head for name, head, _ in self.branch_list(db)}

    def branch_list(self, db: str) -> list[tuple[str, str, str]]:
        """Name, head and time of the last commit of each branch."""
        with self.session(f"{db}_ro", db) as session:
            found = session.rows("SELECT name, hash, latest_commit_date FROM dolt_branches ORDER BY name")
        return [(str(name), str(head), str(at)) for name, head, at in found if name != UNBORN]

    def knows(self, db: str, commit: str) -> bool:
        """Whether a database can be opened at a branch or commit."""
        try:
            self.login(f"{db}_ro", f"{db}/{commit}").close()
        except NotFound:
            return False
        return True

    def branch(self, db: str, name: str, at: str) -> None:
        """Make a branch at another one or at a commit; Conflict where it exists."""
        for ref in (name, at):
            if not REF.match(ref):
                raise NotFound("branch not found", about=show(ref))
        with self.lock(db), self.session(f"{db}_rw", db) as session:
            here = self.branches(db)
            if name in here:
                raise Conflict(f"branch {name} already exists", about=name)
            if at not in here and not (HASH.match(at) and self.knows(db, at)):
                raise NotFound("branch not found", about=at)
            session.run("CALL DOLT_BRANCH(%s, %s)", name, at)

    def read(self, db: str, ref: str, sql: str, *, limit: int, seconds: float) -> Answer:
        """The rows of one statement that reads, at a branch, tag or commit; NotFound where there is none of the name.

        Refused where the statement may not be sent, TooSlow after `seconds`,
        WastelandError with the server's words for what is wrong with the SQL.
        """
        planned = queries.reading(sql)
        if not REF.match(ref) or ref == UNBORN:
            raise NotFound("branch not found", about=show(ref))
        with self._at(db, ref) as session, self.watched(session, seconds):
            if planned:
                plan = "\n".join(str(row[0]) for row in session.rows(f"EXPLAIN FORMAT=TREE {sql}"))
                hidden = queries.PLANNED.search(plan)
                if hidden:
                    raise Refused(f"{hidden.group()} is not allowed in a statement")
            return session.answer(sql, limit)

    @contextlib.contextmanager
    def _at(self, db: str, ref: str) -> Iterator[Session]:
        """A reading session at a branch (table functions work there), or at a tag or commit."""
        with contextlib.ExitStack() as stack:
            try:
                session = stack.enter_context(self.on(f"{db}_ro", db, ref))
            except NotFound:
                pass
            else:
                yield session
                return
        with contextlib.closing(self.login(f"{db}_ro", f"{db}/{ref}")) as other:
            yield other

    def write(self, db: str, base: str, branch: str, sql: str, *, author: str, seconds: float) -> tuple[str, str]:
        """One statement as one commit on `branch`, which is made from `base` where it is missing.

        The heads before and after.  Unchanged where no row changed or there
        is no such base.
        """
        reads = queries.writing(sql)
        with self.lock(db):
            made = self._begin(db, base, branch)
            try:
                with self.on(f"{db}_rw", db, branch) as session, self.watched(session, seconds):
                    before = session.one(HEAD, branch)
                    after = self._commit(session, sql, reads, author)
            except BaseException:
                if made:
                    self._unmake(db, branch)
                raise
        if not after:
            raise Unchanged(NO_COMMIT)
        return before, after

    def _begin(self, db: str, base: str, branch: str) -> bool:
        """Make `branch` from `base` where it is missing; whether it was."""
        if not REF.match(branch) or branch == UNBORN:
            raise Refused(f"{show(branch)} is no name for a branch")
        here = self.branches(db)
        if branch in here:
            return False
        if base not in here:
            raise Unchanged(NO_COMMIT, about=show(base))
        with self.session(f"{db}_rw", db) as session:
            session.run("CALL DOLT_BRANCH(%s, %s)", branch, base)
        return True

    def _commit(self, session: Session, sql: str, reads: bool, author: str) -> str:
        kinds = {str(kind) for (kind,) in session.rows("SELECT DISTINCT type FROM dolt_schemas")}
        if kinds - {"view"} or (reads and kinds):
            raise Refused("this branch has triggers or views, so it takes no such statement")
        session.run("START TRANSACTION")
        session.run(sql)
        made = session.rows("CALL DOLT_COMMIT('--skip-empty', '-A', '-m', %s, '--author', %s)", _title(sql), author)
        commit = str(made[0][0] or "") if made else ""
        session.run("COMMIT" if commit else "ROLLBACK")
        return commit

    def _unmake(self, db: str, branch: str) -> None:
        with contextlib.suppress(WastelandError), self.session(f"{db}_rw", db) as session:
            session.run("CALL DOLT_BRANCH('-D', %s)", branch)

    def merge(self, db: str, to: str, source: str, branch: str, *, message: str, author: str) -> tuple[str, bool]:
        """Merge a branch, also of another database, into `to`: its head, and whether that is new.

        Conflict, with the tables, where it does not merge; nothing has
        changed then.  NotFound where a branch is missing.
        """
        with self.lock(db):
            for where, name in ((db, to), (source, branch)):
                if not REF.match(name) or name not in self.branches(where):
                    raise NotFound(f"branch not found: {show(name)}", about=show(name))
            if source == db:
                return self._merge(db, to, branch, message, author)
            with self._fetched(db, source, branch) as fetched:
                return self._merge(db, to, fetched, message, author)

    @contextlib.contextmanager
    def _fetched(self, db: str, source: str, branch: str) -> Iterator[str]:
        """The head of a branch of another database, which is here for as long as it is needed."""
        remote = f"from-{source}"
        with contextlib.closing(self.login("root", db)) as root:
            if root.rows("SELECT name FROM dolt_remotes WHERE name = %s", remote):
                root.run("CALL DOLT_REMOTE('remove', %s)", remote)
            url = f"http://127.0.0.1:{self.server.remote_port}/{source}"
            root.run("CALL DOLT_REMOTE('add', %s, %s)", remote, url)
            try:
                root.run("CALL DOLT_FETCH('--user', %s, %s, %s)", REMOTE_ACCOUNT, remote, branch)
                # By its hash: a branch of ours could have the same name as one of a remote.
                yield root.one("SELECT hash FROM dolt_remote_branches WHERE name = %s", f"remotes/{remote}/{branch}")
            finally:
                root.run("CALL DOLT_REMOTE('remove', %s)", remote)

    def _merge(self, db: str, to: str, other: str, message: str, author: str) -> tuple[str, bool]:
        with self.on(f"{db}_rw", db, to) as session:
            found = session.rows("SELECT * FROM dolt_preview_merge_conflicts_summary(%s, %s)", to, other)
            if found:
                tables = ", ".join(f"{show(table)} ({data or 0} rows)" for table, data, *_ in found)
                raise Conflict(f"merge has conflicts: {tables}")
            made = session.rows("CALL DOLT_MERGE(%s, '--no-ff', '-m', %s, '--author', %s)", other, message, author)
            head = session.one(HEAD, to)
        return head, bool(made and made[0][0])


def _title(sql: str) -> str:
    """The message of a commit: the statement, on one line."""
    words = " ".join(show(sql).split())
    return words if len(words) <= 200 else words[:197] + "..."
