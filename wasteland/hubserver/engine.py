"""Sessions with the hub's `dolt sql-server`: accounts, a pool for each, time limits, errors.

Four kinds of accounts, each with what it needs:

    root       makes databases and accounts, clones, fetches; runs nothing that a client sent
    r<id>_ro   SELECT on its one database
    r<id>_rw   rows and the procedures for branches, commits and merges of its one database
    hub        the remotesapi, behind the proxy

So a statement cannot reach another repository, whatever it names.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import ER, FIELD_TYPE, FLAG
from pymysql.converters import encoders
from pymysql.cursors import SSCursor

from wasteland.errors import NotFound, Unreachable, WastelandError
from wasteland.hubserver.server import REMOTE_ACCOUNT, DoltServer
from wasteland.text import show
from wasteland.values import dataclass

IDLE = 8  # sessions kept for each account
SLOWEST = 120.0  # seconds after which a session is given up, whatever else fails
HEAVIEST = 32 << 20  # bytes of an answer
# A revision that is not there; to accounts of few rights Dolt says that, with its one code for many things.
NO_REVISION = (ER.BAD_DB_ERROR, 1105)
BINARY = 63  # the character set of bytes
TYPES = {number: name.lower() for name, number in vars(FIELD_TYPE).items() if isinstance(number, int)}
NAMED = {
    "var_string": "varchar", "string": "char", "long": "int", "longlong": "bigint", "short": "smallint",
    "tiny": "tinyint", "newdecimal": "decimal", "blob": "text", "int24": "mediumint",
}  # fmt: skip
ENCODERS: Any = dict(encoders)  # and no decoders: every value is text as the server prints it, or bytes
BYTES = {"text": "blob", "varchar": "varbinary", "char": "binary"}


@dataclass(frozen=True)
class Column:
    """A column of an answer."""

    name: str
    type: str
    key: bool
    table: str


@dataclass(frozen=True)
class Answer:
    """What a read gave; `cut` where there is more than the caps allow."""

    columns: list[Column]
    rows: list[tuple[str | bytes | None, ...]]
    cut: bool


class TooSlow(WastelandError):
    """A statement took longer than it may."""


class Engine:
    """The server and the sessions with it."""

    def __init__(self, folder: Path) -> None:
        self.server = DoltServer(folder)
        self._idle: dict[str, list[Session]] = defaultdict(list)
        self._guard = threading.Lock()
        self._locks: dict[str, threading.RLock] = defaultdict(threading.RLock)

    def start(self) -> None:
        """Start the server and make the account of its remotesapi."""
        self.server.start(self._answers)
        with self.session("root") as root:
            root.run(f"CREATE USER IF NOT EXISTS '{REMOTE_ACCOUNT}'@'localhost' IDENTIFIED BY %s",
                     self.server.password(REMOTE_ACCOUNT))  # fmt: skip
            root.run(f"GRANT SUPER, CLONE_ADMIN ON *.* TO '{REMOTE_ACCOUNT}'@'localhost'")

    def stop(self) -> None:
        """End all sessions and the server."""
        with self._guard:
            for one in [one for idle in self._idle.values() for one in idle]:
                one.close()
            self._idle.clear()
        self.server.stop()

    def _answers(self) -> bool:
        try:
            self.login("root").close()
        except WastelandError:
            return False
        return True

    def login(self, account: str, database: str | None = None) -> Session:
        """A session of one's own; NotFound where there is no such database, branch or commit."""
        try:
            connection = pymysql.connect(
                unix_socket=str(self.server.socket), user=account, password=self.server.password(account),
                database=database, ssl_disabled=True, autocommit=True, charset="utf8mb4", conv=ENCODERS,
                connect_timeout=10, read_timeout=SLOWEST, init_command="SET time_zone = '+00:00'",
            )  # fmt: skip
        except pymysql.err.Error as error:
            if "/" in (database or "") and error.args and error.args[0] in NO_REVISION:
                raise NotFound("branch not found", about=show(database)) from error
            raise Unreachable(f"the database server does not answer: {_words(error)}") from error
        return Session(connection)

    @contextlib.contextmanager
    def session(self, account: str, database: str | None = None) -> Iterator[Session]:
        """A session of an account that stays on the bare database; one that met an error is not used again."""
        key = f"{account}@{database}"
        session = self._waiting(key) or self.login(account, database)
        with self._returned(key, session):
            yield session

    @contextlib.contextmanager
    def on(self, account: str, db: str, branch: str) -> Iterator[Session]:
        """A session on a branch; NotFound where there is no such branch.

        The branch is chosen by a variable: on `db/branch` table functions
        like `dolt_diff` are denied to an account of few rights.
        """
        key = f"{account}/@{db}"
        session = self._waiting(key)
        if session is None or not session.go(db, branch):
            # What waits may be on a branch that is gone, and cannot move then.
            session = self.login(account, db)
            if not session.go(db, branch):
                raise NotFound("branch not found", about=show(branch))
        with self._returned(key, session):
            yield session

    def _waiting(self, key: str) -> Session | None:
        with self._guard:
            return self._idle[key].pop() if self._idle[key] else None

    @contextlib.contextmanager
    def _returned(self, key: str, session: Session) -> Iterator[None]:
        try:
            yield
        except BaseException:
            session.close()
            raise
        with self._guard:
            if not session.spoilt and len(self._idle[key]) < IDLE:
                self._idle[key].append(session)
                return
        session.close()

    def forget(self, db: str) -> None:
        """End the sessions that wait for a database, since its bare name means another branch now."""
        with self._guard:
            for key in [key for key in self._idle if key.endswith(f"@{db}")]:
                for session in self._idle.pop(key):
                    session.close()

    def lock(self, db: str) -> threading.RLock:
        """One change of a database at a time; pushes come past it, and Dolt itself keeps those apart."""
        with self._guard:
            return self._locks[db]

    @contextlib.contextmanager
    def watched(self, session: Session, seconds: float) -> Iterator[None]:
        """End the session's statement when its time is over: TooSlow."""
        over = threading.Event()

        def end() -> None:
            over.set()
            with contextlib.suppress(WastelandError), self.session("root") as root:
                root.run(f"KILL QUERY {session.number}")

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except WastelandError as error:
            if over.is_set():
                raise TooSlow(f"the statement took longer than {seconds:.1f} s") from error
            raise
        finally:
            timer.cancel()


class Session:
    """One connection; `spoilt` once it may not be used again."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection
        self.number = int(connection.thread_id())  # type: ignore[no-untyped-call]
        self.spoilt = False

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(pymysql.err.Error, OSError):
            self._connection.close()

    def run(self, statement: str, *values: Any) -> int:
        """Run a statement; the number of rows that it touched."""
        with _translated(), self._connection.cursor() as cursor:
            return int(cursor.execute(statement, _bound(values)))

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        with _translated(), self._connection.cursor() as cursor:
            cursor.execute(statement, _bound(values))
            return [tuple(row) for row in cursor.fetchall()]

    def one(self, statement: str, *values: Any) -> str:
        """The one value of a statement, as text; empty where there is none."""
        found = self.rows(statement, *values)
        return str(found[0][0]) if found else ""

    def go(self, db: str, branch: str) -> bool:
        """Move to a branch; False where there is no such branch, and then the session has ended."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SET @@{db}_head_ref = %s", (branch,))
        except (pymysql.err.Error, OSError) as error:
            self.close()
            if isinstance(error, pymysql.err.OperationalError) and error.args[0] == ER.BAD_DB_ERROR:
                return False
            raise Unreachable(f"the database server does not answer: {_words(error)}") from error
        return True

    def answer(self, sql: str, limit: int) -> Answer:
        """The rows of a client's statement with what they are; what is over the caps is not fetched."""
        with _translated():
            cursor = self._connection.cursor(SSCursor)
            cursor.execute(sql)
            result: Any = vars(cursor)["_result"]
            found: list[tuple[Any, ...]] = []
            weight = 0
            while len(found) <= limit and weight < HEAVIEST and (row := cursor.fetchone()) is not None:
                found.append(tuple(row))
                weight += sum(len(value) for value in row if value is not None)
            cut = len(found) > limit or weight >= HEAVIEST
            if cut:
                result.unbuffered_active = False  # else PyMySQL reads all the rest
                self.spoilt = True
            cursor.close()
        return Answer([_column(field) for field in result.fields or ()], found[:limit], cut)


def _bound(values: tuple[Any, ...]) -> Any:
    """Values for `execute`; none at all where there are none, so that a client's `%` stays what it is."""
    if len(values) == 1 and isinstance(values[0], dict):
        return values[0]
    return values or None


def _column(field: Any) -> Column:
    name = TYPES.get(field.type_code, "unknown")
    name = NAMED.get(name, name)
    if field.charsetnr == BINARY:
        name = BYTES.get(name, name)
    return Column(field.name, name, bool(field.flags & FLAG.PRI_KEY), field.table_name or "")


def _words(error: Exception) -> str:
    return show(error.args[-1] if error.args else error)[:500]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The server's refusals as errors of ours, with its words."""
    try:
        yield
    except (pymysql.err.InterfaceError, OSError) as error:
        raise Unreachable(f"the database server does not answer: {_words(error)}") from error
    except pymysql.err.Error as error:
        raise WastelandError(_words(error)) from error
