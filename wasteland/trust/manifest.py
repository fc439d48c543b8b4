"""Evidence manifests: what a worker signs about the evidence, by kind, and how a stranger's is read.  Pure.

`git` is a range of commits and the digest of what they change, `blob` a file, `url`
what an address answered, `text` the words themselves (`statements.text_manifest`).
For all but text, `uri` is the evidence as the completion's row has it.  What
looking again at each part showed is a `Report`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from wasteland.errors import BadSignature
from wasteland.orders import changes_of
from wasteland.text import CAPS, show
from wasteland.trust.envelope import canonical
from wasteland.trust.statements import URL, text_digest
from wasteland.values import dataclass

Test = Callable[[Any], bool]

LINE = 2000  # characters
GATES = 50
WORDS = 200  # of one gate's command
SIZE = 2**53 - 1
HEX40 = re.compile(r"[0-9a-f]{40}\Z")
HEX64 = re.compile(r"[0-9a-f]{64}\Z")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\Z")


def line(value: object) -> bool:
    """Whether `value` is one line of text that draws as it is written, and is not empty."""
    return isinstance(value, str) and 0 < len(value) <= LINE and show(value) == value


def commit(value: object) -> bool:
    """Whether `value` is the full name of a commit."""
    return isinstance(value, str) and HEX40.match(value) is not None


def digest(value: object) -> bool:
    """Whether `value` is a SHA-256 in lower-case hex."""
    return isinstance(value, str) and HEX64.match(value) is not None


def media_type(value: object) -> bool:
    """Whether `value` is a media type without parameters, in lower case."""
    return isinstance(value, str) and MEDIA_TYPE.match(value) is not None


def _format(value: object) -> bool:
    return type(value) is int and value == 2


def _size(value: object) -> bool:
    return type(value) is int and 0 <= value <= SIZE


def _text_uri(value: object) -> bool:
    return isinstance(value, str) and len(value) <= CAPS["evidence"] and (not value or URL.match(value) is not None)


def _gate(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"argv", "exit", "log_sha256"}:
        return False
    argv = value["argv"]
    words = isinstance(argv, list) and len(argv) <= WORDS and all(isinstance(word, str) for word in argv)
    return words and type(value["exit"]) is int and digest(value["log_sha256"])


def _gates(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= GATES and all(_gate(one) for one in value)


# By kind: what must be there, and what may be; nothing else may.
NEEDED: dict[str, dict[str, Test]] = {
    "text": {"uri": _text_uri, "sha256": digest},
    "git": {"uri": line, "repo": line, "base": commit, "head": commit},
    "blob": {"uri": line, "sha256": digest, "size": _size},
    "url": {"uri": line},
}
ALLOWED: dict[str, dict[str, Test]] = {
    "text": {},
    "git": {"gates": _gates},
    "blob": {"media_type": media_type},
    "url": {"sha256": digest, "size": _size, "media_type": media_type, "repo": line, "head": commit},
}
# Of git, how base and head differ: without a format the digest of the patch's text, in format 2 that of the changes.
DIFFERENCE: dict[bool, dict[str, Test]] = {
    False: {"patch_sha256": digest},
    True: {"format": _format, "changes_sha256": digest},
}
TOGETHER = ({"sha256", "size"}, {"repo", "head"})  # of a url: neither says anything without the other


def checked_manifest(found: object) -> dict[str, Any]:
    """`found` if it is a manifest that we know in every field; else BadSignature with one sentence."""
    if not isinstance(found, Mapping) or type(found.get("v")) is not int or found["v"] != 1:
        raise BadSignature("the evidence manifest is not of version 1")
    made = dict(found)
    kind = made.get("kind")
    if not isinstance(kind, str) or kind not in NEEDED:
        raise BadSignature(f"the evidence manifest is of a kind that this program does not know: {_cut(kind)}")
    needed = NEEDED[kind] | (DIFFERENCE["format" in made] if kind == "git" else {})
    shape = needed | {name: test for name, test in ALLOWED[kind].items() if name in made}
    if unknown := made.keys() - shape.keys() - {"v", "kind"}:
        raise BadSignature(f"the evidence manifest of kind {kind} has an unknown field: {_cut(min(unknown, key=str))}")
    for name, test in shape.items():
        if not test(made.get(name)):
            raise BadSignature(f"the evidence manifest of kind {kind} has a wrong or missing field: {name}")
    _agrees(made)
    canonical(made)
    return made


def _agrees(made: dict[str, Any]) -> None:
    """Refuse fields that say nothing, or another thing, beside each other."""
    if made["kind"] == "text" and made["uri"] and text_digest(made["uri"]) != made["sha256"]:
        raise BadSignature("the evidence manifest of kind text has an address that is not the text")
    if made["kind"] == "url" and any(len(pair & made.keys()) == 1 for pair in TOGETHER):
        raise BadSignature("the evidence manifest of kind url has half of a pair: sha256 and size, or repo and head")


def _cut(value: object) -> str:
    text = show(value)
    return text if len(text) <= 64 else text[:64] + "…"


def git_manifest(*, uri: str, repo: str, base: str, head: str, changes_sha256: str) -> dict[str, Any]:
    """The manifest of the commits from `base` to `head`; `orders.changes_sha256` says what the digest is over."""
    named = {"v": 1, "kind": "git", "uri": uri, "repo": repo, "base": base, "head": head}
    return checked_manifest(named | changes_of(changes_sha256))


def blob_manifest(*, uri: str, sha256: str, size: int) -> dict[str, Any]:
    """The manifest of a file."""
    return checked_manifest({"v": 1, "kind": "blob", "uri": uri, "sha256": sha256, "size": size})


def url_manifest(
    *,
    uri: str,
    sha256: str | None = None,
    size: int | None = None,
    media_type: str | None = None,
    repo: str | None = None,
    head: str | None = None,
) -> dict[str, Any]:
    """The manifest of an address: what it answered, the commit that it names, or neither."""
    given = {"sha256": sha256, "size": size, "media_type": media_type, "repo": repo, "head": head}
    known = {name: value for name, value in given.items() if value is not None}
    return checked_manifest({"v": 1, "kind": "url", "uri": uri, **known})


def lines_of(manifest: Mapping[str, Any]) -> list[str]:
    """A checked manifest for people, one fact a line; strangers' text is escaped."""
    names = ("kind", "uri", "repo", "base", "head", "patch_sha256", "changes_sha256", "sha256", "size", "media_type")
    told = [f"{name:<14} {show(manifest[name])}" for name in names if manifest.get(name) not in (None, "")]
    for gate in manifest.get("gates") or []:
        told.append(f"{'gate':<14} {show(' '.join(gate['argv']))}: exit {gate['exit']}")
    return told


class State(Enum):
    """What looking again at one part of the evidence showed."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"
    UNCHECKED = "not checkable"


@dataclass(frozen=True)
class Part:
    """One part of the evidence: what was signed, what is there now, and why.

    `decides` False: told, but not counted.
    """

    name: str
    state: State
    detail: str
    signed: str | None = None
    now: str | None = None
    decides: bool = True


@dataclass(frozen=True)
class Report:
    """What came of checking the evidence of one completion, part by part."""

    completion: str
    wanted: str
    rig: str
    kind: str
    parts: tuple[Part, ...]

    @property
    def exit_code(self) -> int:
        """0 all is as it was signed, 1 something changed or is gone, 3 cannot decide; never another."""
        counted = {part.state for part in self.parts if part.decides}
        if counted & {State.CHANGED, State.GONE}:
            return 1
        return 3 if State.UNCHECKED in counted else 0

    def lines(self) -> list[str]:
        """The report for people; strangers' text is escaped."""
        verdict = {0: "SAME", 1: "CHANGED", 3: "CANNOT DECIDE"}[self.exit_code]
        told = [f"{verdict}  {show(self.completion)}  {show(self.rig)} for {show(self.wanted)}, {show(self.kind)}"]
        for part in self.parts:
            told.append(f"  {part.name:<11} {part.state.value:<14} {show(part.detail)}")
            if part.state is State.CHANGED and part.signed and part.now:
                told += [f"  {'':<11} signed {show(part.signed)}", f"  {'':<11} now    {show(part.now)}"]
        return told

    def to_json(self) -> dict[str, Any]:
        """The same fields for `--json`."""
        parts = [vars(part) | {"state": part.state.name.lower()} for part in self.parts]
        return {
            "schema_version": 1, "completion": self.completion, "wanted": self.wanted, "rig": self.rig,
            "kind": self.kind, "exit_code": self.exit_code, "parts": parts,
        }  # fmt: skip
