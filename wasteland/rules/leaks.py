"""What must not be in a text that leaves a company: secrets, private names, private places.  Pure.

Every expression here is linear or bounded, and those that a company writes are
held to a bound before they are used.  This finds accidents; it cannot find a
secret that somebody means to smuggle out.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wasteland.addresses import TOKENS
from wasteland.errors import Misconfigured
from wasteland.models import JSON_COLUMNS, loaded
from wasteland.text import INVISIBLE, show
from wasteland.values import dataclass

CELL = 16_384  # characters; what is longer is not looked at, and so does not leave
PATTERN = 200
WAYS = 10_000  # in how many ways an expression may match from one place
MANY = 8_192  # the ways of a `*`
DEPTH = 20
PERSONAL = frozenset({"hop_uri", "owner_email"})
PLACES = (".local", ".internal", ".intranet", ".corp", ".lan", ".home.arpa")
NETS = tuple(
    map(ipaddress.ip_network, (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10",
        "fc00::/7", "fe80::/10",
    ))
)  # fmt: skip
SECRETS = tuple(
    (kind, re.compile(text))
    for kind, text in (
        ("private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"),
        ("private key", r'"d"\s{0,9}:\s{0,9}"[A-Za-z0-9_-]{40,100}"'),
        *TOKENS,
        ("credential in a URL", r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/@:]{0,255}:[^\s/@]{1,255}@"),
    )
)
TOKEN = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{32,}={0,2}")
MAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9.-]{1,253})")
HOST = re.compile(r"[A-Za-z0-9._-]{3,253}")
IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?!\w|\.[0-9])")
IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{4,45}(?![\w:])")
FILE = re.compile(r"(?i)\bfile:/[^\s\"'<>]{0,200}")
PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|\(\?i\)|\(\?.|.", re.DOTALL)
REPEAT = re.compile(r"[*+]|\{(?P<times>\d+)\}|\{\d*,(?P<most>\d*)\}")
PLAIN_GROUPS = ("(?:", "(?i)")


@dataclass(frozen=True)
class Leak:
    """Something in a column that must not leave: of what kind, and the words (of a secret only its beginning)."""

    column: str
    kind: str
    found: str

    def __str__(self) -> str:
        return f"{self.column}: {self.kind}: {show(self.found)}"

    def to_json(self) -> dict[str, str]:
        """As `wl valve check --json` prints it."""
        return {"column": self.column, "kind": self.kind, "found": self.found}


@dataclass(frozen=True)
class Watch:
    """What a company watches for, besides what nobody may send."""

    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    allowed: frozenset[str] = frozenset()

    def look(self, row: Mapping[str, Any]) -> list[Leak]:
        """Everything in a row that must not leave, by column; each thing once."""
        found: dict[Leak, None] = {}
        for column, value in row.items():
            if column in PERSONAL and value:
                found[Leak(column, "personal column", str(value)[:100])] = None
            for text in texts(loaded(value) if column in JSON_COLUMNS else value):
                for kind, words in self._in(text):
                    if words not in self.allowed:
                        found[Leak(column, kind, words if kind in SHOWN else f"{words[:4]}…")] = None
        return list(found)

    def _in(self, text: str) -> Iterator[tuple[str, str]]:
        if len(text) > CELL:
            yield "too long to be looked at", f"{len(text)} characters"
            return
        plain = "".join(c for c in unicodedata.normalize("NFKC", text) if _draws(c))
        yield from _secrets(plain)
        yield from self._places(plain)
        yield from self._names(plain)

    def _places(self, text: str) -> Iterator[tuple[str, str]]:
        for match in MAIL.finditer(text):
            if _under(match[1], self.domains):
                yield "private e-mail address", match[0]
        for match in HOST.finditer(text):
            name = match[0].strip("._-").lower()
            if name == "localhost" or name.endswith(PLACES) or _under(name, self.hosts):
                yield "private host", name
        for match in [*IPV4.finditer(text), *IPV6.finditer(text)]:
            if _private(match[0]):
                yield "private address", match[0]
        for match in FILE.finditer(text):
            yield "file path", match[0]

    def _names(self, text: str) -> Iterator[tuple[str, str]]:
        folded = text.casefold()
        for kind, names in (("private project", self.projects), ("private word", self.words)):
            for name in names:
                if re.search(rf"(?<![^\W_]){re.escape(_folded(name))}(?![^\W_])", folded):
                    yield kind, name
        for pattern in self.patterns:
            for match in re.finditer(pattern, text):
                if match[0]:
                    yield "private pattern", match[0][:100]


SHOWN = frozenset({
    "private e-mail address", "private host", "private address", "file path", "private project", "private word",
    "private pattern", "too long to be looked at",
})  # fmt: skip


def texts(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a value: itself, or those of its lists and objects, keys too."""
    if isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        if depth > DEPTH:
            yield "x" * (CELL + 1)  # deeper than anything that rigs write: not looked at, so it does not leave
            return
        parts: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        for part in parts:
            yield from texts(part, depth + 1)


def checked_pattern(text: str) -> str:
    """An expression of a company's, if it can only match in a bounded number of ways; else Misconfigured."""
    where = f"the pattern {show(text[:60])!r}"
    if not text or len(text) > PATTERN:
        raise Misconfigured(f"{where} must have 1 to {PATTERN} characters")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise Misconfigured(f"{where} is not a regular expression: {error}") from error
    if _ways(text) > WAYS:
        raise Misconfigured(
            f"{where} could take too long", hint="at most one * or +, none after a group; write {1,40} instead"
        )
    return text


def _ways(pattern: str) -> int:
    """An upper bound of the ways in which `pattern` can match from one place; beyond any bound where none is known."""
    ways, before = 1, ""
    for piece in PIECE.findall(pattern):
        if (piece.startswith("(?") and piece not in PLAIN_GROUPS) or re.fullmatch(r"\\[1-9]", piece):
            return WAYS + 1
        repeat = REPEAT.fullmatch(piece)
        if repeat:
            if before == ")":
                return WAYS + 1
            ways *= int(repeat["most"] or repeat["times"] or MANY)
        elif piece == "|" or (piece == "?" and not REPEAT.fullmatch(before)):
            ways *= 2
        before = piece
    return ways


def _draws(char: str) -> bool:
    return char in "\n\t" or (char not in INVISIBLE and unicodedata.category(char) != "Cf")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _under(name: str, domains: Iterable[str]) -> bool:
    low = name.strip(".").lower()
    return any(low == one or low.endswith(f".{one}") for one in domains)


def _private(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in net for net in NETS)


def _secrets(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in SECRETS:
        for match in pattern.finditer(text):
            yield kind, match[0]
    for match in TOKEN.finditer(text):
        if _random(match[0]):
            yield "looks like a key or token", match[0]


def _random(token: str) -> bool:
    """Whether a long word looks drawn by lot: hex of high entropy, or characters whose kind changes all the time."""
    bare = token.rstrip("=")
    if re.fullmatch("[0-9a-f]+|[0-9A-F]+", bare):
        return entropy(bare) >= 3.0
    kinds = ["U" if c.isupper() else "l" if c.islower() else "0" if c.isdigit() else "-" for c in bare]
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    return {"U", "l", "0"} <= set(kinds) and changes >= 0.45 * len(bare) and entropy(bare) >= 4.0


def entropy(text: str) -> float:
    """Shannon's, in bits for each character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
