"""Dolt's remote protocol on the wire: which repository a request names, and the addresses in an answer.

The messages are protobuf.  Only what the proxy has to judge or replace is
read here, by the numbers of the fields; all else passes as the bytes it is.
A field that is judged must stand in the message at most once and with the
right type: where readers may differ about a message, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from wasteland.errors import Usage
from wasteland.values import dataclass

SERVICE = "dolt.services.remotesapi.v1alpha1.ChunkStoreService"
CREDENTIALS = "dolt.services.remotesapi.v1alpha1.CredentialsService"

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Dolt puts at most 16,384 hashes into one message.  What is read in the event loop must be short.
MOST_FIELDS = 65_536
LONGEST_PATH = 200
REPO_ID, ORG, REPO_NAME = 1, 1, 2
FILE_ID = re.compile(r"[0-9a-v]{32}(\.darc)?\Z")

# What an answer holds: the address of a table file, or a field that the client does without.
ADDRESS, DROPPED = "address", "dropped"
Shape = dict[int, "Shape | str"]
# A refresh request names the server's own database; a client that gets none asks anew instead.
LOCATION: Shape = {1: {1: ADDRESS}, 2: {1: ADDRESS}, 3: DROPPED, 4: DROPPED}
TABLE_FILE: Shape = {3: ADDRESS, 4: DROPPED, 5: DROPPED}


@dataclass(frozen=True)
class Field:
    """One field of a message: its bytes from `start` to `end`, of which `value` are what it holds."""

    number: int
    kind: int
    start: int
    end: int
    value: bytes


@dataclass(frozen=True)
class Method:
    """One method of the service: the field that holds its `repo_path`, and whether it changes the store."""

    name: str
    path: int
    writes: bool = False
    streams: bool = False
    answer: Shape | None = None
    once: bool = False  # whether its answer holds locations of chunks, of which each may stand once
    check: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class Request:
    """A request without the name of its repository, which is `repository`."""

    repository: str
    rest: bytes

    def named(self, method: Method, database: str) -> bytes:
        """The request with the server's own name of the database."""
        return self.rest + encoded(method.path, database.encode())


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in their order; Usage where it is malformed or has too many."""
    at = 0
    for _ in range(MOST_FIELDS):
        if at == len(message):
            return
        start = at
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        begin, end = at, at
        if kind == VARINT:
            _, end = _varint(message, at)
        elif kind == BYTES:
            length, begin = _varint(message, at)
            end = begin + length
        elif kind in (FIXED64, FIXED32):
            end = at + (8 if kind == FIXED64 else 4)
        else:
            raise Usage("malformed request: unknown wire type")
        if end > len(message) or not 0 < number < 1 << 29:
            raise Usage("malformed request: a field does not fit")
        yield Field(number, kind, start, end, message[begin:end])
        at = end
    if at != len(message):
        raise Usage("malformed request: too many fields")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, of at most ten bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Usage("malformed request: it ends too early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Usage("malformed request: a number is too long")


def encoded(number: int, value: bytes) -> bytes:
    """A field of bytes."""
    return _number(number << 3 | BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def opened(method: Method, message: bytes) -> Request:
    """A request and the repository that it names, by path or by id; where it names two, it is refused."""
    found: dict[int, bytes] = {}
    kept = []
    for field in fields(message):
        if field.number in (REPO_ID, method.path):
            if field.kind != BYTES or field.number in found or len(field.value) > 2 * LONGEST_PATH:
                raise Usage("malformed request: the repository is named twice or not in text")
            found[field.number] = field.value
        else:
            kept.append(message[field.start : field.end])
    path = _text(found.get(method.path, b""))
    named = _repo_id(found.get(REPO_ID, b""))
    if path and named and path != named:
        raise Usage("malformed request: it names two repositories")
    if len(path or named) > LONGEST_PATH:
        raise Usage("the name of the repository is too long")
    rest = b"".join(kept)
    if method.check:
        method.check(rest)
    return Request(path or named, rest)


def _repo_id(message: bytes) -> str:
    """The `org/name` of a RepoId; empty where it has neither."""
    found: dict[int, str] = {}
    for field in fields(message):
        if field.number in (ORG, REPO_NAME):
            if field.kind != BYTES or field.number in found:
                raise Usage("malformed request: the repository is named twice or not in text")
            found[field.number] = _text(field.value)
    return f"{found.get(ORG, '')}/{found.get(REPO_NAME, '')}" if found else ""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Usage("malformed request: text is not UTF-8") from error


def _checked_file_id(message: bytes) -> None:
    """The server joins the id to a path and seals it: `..` in it would reach another repository's files."""
    for field in fields(message):
        if field.number == 2 and not (field.kind == BYTES and FILE_ID.match(_text(field.value))):
            raise Usage("malformed request: that is not the id of a table file")


def _checked_uploads(message: bytes) -> None:
    """The server ends on an id of another length, and puts the suffix into a path."""
    for outer in fields(message):
        if outer.number != 3:
            continue
        if outer.kind != BYTES:
            raise Usage("malformed request: the details of a table file are damaged")
        found = [(field.number, field.value) for field in fields(outer.value) if field.number in (1, 5)]
        details = dict(found)
        if len(details) != len(found) or len(details.get(1, b"")) != 20 or details.get(5, b"") not in (b"", b".darc"):
            raise Usage("malformed request: the details of a table file are damaged")


def readdressed(message: bytes, shape: Shape | None, address: Callable[[str], str]) -> bytes:
    """An answer with each table file's address put through `address`, and what `shape` drops left out."""
    if shape is None:
        return message
    made = []
    for field in fields(message):
        inner = shape.get(field.number)
        if inner is None or (isinstance(inner, dict) and field.kind != BYTES):
            made.append(message[field.start : field.end])
        elif isinstance(inner, dict):
            made.append(encoded(field.number, readdressed(field.value, inner, address)))
        elif inner == ADDRESS:
            made.append(encoded(field.number, address(_text(field.value)).encode()))
    return b"".join(made)


def distinct(answer: bytes) -> bytes:
    """The locations of chunks, each chunk once.

    Dolt 1.83 gives a chunk that lies in its journal and in a table file twice,
    and its own client takes two for a failure.
    """
    seen: set[bytes] = set()
    made = []
    for place in fields(answer):
        if place.number != 1 or place.kind != BYTES:
            made.append(answer[place.start : place.end])
            continue
        ranges, kept = _ranges(place.value, seen)
        if kept or not ranges:
            made.append(encoded(1, kept or place.value))
    return b"".join(made)


def _ranges(place: bytes, seen: set[bytes]) -> tuple[int, bytes]:
    """How many ranges one place has, and the place with those of chunks not seen before; empty where none is left."""
    count, kept, made = 0, 0, []
    for outer in fields(place):
        if outer.number != 2 or outer.kind != BYTES:
            made.append(place[outer.start : outer.end])
            continue
        inside = []
        for field in fields(outer.value):
            chunk = _chunk(field)
            count += chunk is not None
            if chunk is None or chunk not in seen:
                inside.append(outer.value[field.start : field.end])
                kept += chunk is not None
            if chunk is not None:
                seen.add(chunk)
        made.append(encoded(2, b"".join(inside)))
    return count, b"".join(made) if kept else b""


def _chunk(field: Field) -> bytes | None:
    """The hash of the chunk that a range is about; None for another field."""
    if field.number != 2 or field.kind != BYTES:
        return None
    return next((one.value for one in fields(field.value) if one.number == 1 and one.kind == BYTES), None)


def succeeded(answer: bytes) -> bool:
    """Whether the answer to a Commit says that the root has moved; a lost race says no without an error."""
    return any(field.number == 1 and field.kind == VARINT and any(field.value) for field in fields(answer))


METHODS = {
    method.name: method
    for method in (
        Method("GetRepoMetadata", 3),
        Method("HasChunks", 4),
        Method("GetDownloadLocations", 4, answer={1: LOCATION}, once=True),
        Method("StreamDownloadLocations", 4, streams=True, answer={1: LOCATION}, once=True),
        Method("GetUploadLocations", 5, writes=True, answer={1: {2: {1: ADDRESS}}}, check=_checked_uploads),
        Method("Rebase", 3),
        Method("Root", 3),
        Method("Commit", 5, writes=True),
        Method("ListTableFiles", 4, answer={2: TABLE_FILE, 3: TABLE_FILE}),
        Method("RefreshTableFileUrl", 4, answer={1: ADDRESS, 2: DROPPED}, check=_checked_file_id),
        Method("AddTableFiles", 6, writes=True),
    )
}
