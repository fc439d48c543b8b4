"""The seam between the Wasteland and whoever does the work: an order out, a report in.

`wl orders next --json` prints a WorkOrder, `wl orders report FILE` takes a
WorkReport.  Gas Town is one such engine; a person with an editor is another.
Text of an order comes from a stranger: it is data, never an instruction to the
program that reads it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, field
from typing import Any

from wasteland.addresses import last_part, without_places, without_secrets
from wasteland.errors import Usage
from wasteland.text import show
from wasteland.values import dataclass

OUTCOMES = ("landed", "failed", "declined")
LEVELS = ("L0", "L1", "L2", "L3")
LINE = 2000  # characters
GATES = 50
HEX40 = re.compile(r"[0-9a-f]{40}\Z")
HEX64 = re.compile(r"[0-9a-f]{64}\Z")
CHANGES = (
    "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-relative", "--ignore-submodules=none",
)  # fmt: skip
ENTRY = re.compile(rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40}) ([0-9a-f]{40}) [A-Z]")
DIGESTS = {1: "patch_sha256", 2: "changes_sha256"}  # by schema_version: what says how base and head differ


@dataclass(frozen=True)
class WorkOrder:
    """A claimed wanted item, as an engine needs it."""

    wanted_id: str
    title: str
    description: str
    rig_handle: str
    posted_by: str
    project: str | None = None
    repository: str | None = None
    base: str | None = None
    effort_level: str = "medium"
    sandbox_required: bool = False
    schema_version: int = 1

    def to_json(self) -> dict[str, Any]:
        """The order as `wl orders next --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class Gate:
    """One check that was run on the merged result: what, how it ended, the log's SHA-256."""

    argv: list[str]
    exit: int
    log_sha256: str


@dataclass(frozen=True)
class WorkReport:
    """What came of an order.  The digests are the host's, never the agent's word.

    `changes_sha256` is that of `changes_sha256` below, made in the host's own
    clean clone.  Reports of schema_version 1 have `patch_sha256` in its place:
    over `git diff --no-ext-diff --no-textconv --no-color --full-index --binary
    base head`, whose text another git may write otherwise.
    """

    wanted_id: str
    outcome: str
    repo: str
    base: str
    head: str
    patch_sha256: str = ""
    uri: str = ""
    gates: list[Gate] = field(default_factory=list)
    sandbox_level: str = "L0"
    sandbox_network: str = "host"
    wall_seconds: int = 0
    schema_version: int = 1
    changes_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report as an engine writes it."""
        unused = {name for version, name in DIGESTS.items() if version != self.schema_version}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def manifest(self, *, paths: bool = False) -> dict[str, Any]:
        """The evidence manifest that the worker signs (kind git).

        It is for all: no address in it holds a secret, and of a repository on
        the worker's machine it has the name, or with `paths` the path.
        """
        repo, uri = without_secrets(self.repo), without_secrets(self.uri)
        if not paths:
            repo, uri = (without_places(last_part(one) if one.startswith("/") else one) for one in (repo, uri))
        made: dict[str, Any] = {
            "v": 1,
            "kind": "git",
            "uri": uri or f"{repo}#{self.head}",
            "repo": repo,
            "base": self.base,
            "head": self.head,
        }
        made |= changes_of(self.changes_sha256) if self.changes_sha256 else {"patch_sha256": self.patch_sha256}
        if self.gates:
            made["gates"] = [
                asdict(gate) | {"argv": [without_secrets(word) for word in gate.argv]} for gate in self.gates
            ]
        return made


def changes_of(digest: str) -> dict[str, Any]:
    """The fields of a git manifest that say how base and head differ, in the form that is written today."""
    return {"format": 2, "changes_sha256": digest}


def changes_sha256(raw: bytes) -> str:
    """The digest of how two commits differ, in hex, from what `git` printed for `CHANGES`, base and head.

    It is over one line for each path that differs, in the order of the paths'
    bytes: mode and object before, mode and object after, a tab, the path, NUL.
    Modes and objects are what the commits' trees hold, so that neither git's
    version nor anybody's configuration changes it.  ValueError where `raw` is
    no such listing.
    """
    words = raw.split(b"\0")
    if words.pop() or len(words) % 2:
        raise ValueError("the listing of changes is cut off")
    lines: list[tuple[bytes, bytes]] = []
    for meta, path in zip(words[::2], words[1::2], strict=True):
        found = ENTRY.fullmatch(meta)
        if found is None:
            raise ValueError("the listing of changes has a line that is none")
        lines.append((path, b"%s %s %s %s" % (found[1], found[3], found[2], found[4])))
    digest = hashlib.sha256()
    for path, words_of_path in sorted(lines):
        digest.update(words_of_path + b"\t" + path + b"\0")
    return digest.hexdigest()


def parse_report(text: str) -> WorkReport:
    """A WorkReport from JSON text; Usage where a field is missing, unknown or malformed."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Usage(f"the report is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Usage("the report must be one JSON object")
    gates = found.pop("gates", [])
    if not isinstance(gates, list):
        raise Usage("the report's gates must be a list")
    try:
        report = WorkReport(gates=[Gate(**gate) for gate in gates], **found)
    except TypeError as error:
        raise Usage(f"the report has a missing or unknown field: {str(error)[:200]}") from error
    _check(report)
    return report


def _check(report: WorkReport) -> None:
    if type(report.schema_version) is not int or report.schema_version not in DIGESTS:
        raise Usage("the report has another schema_version than 1 and 2, which this program reads")
    measured = DIGESTS[report.schema_version]
    for name in set(DIGESTS.values()) - {measured}:
        if getattr(report, name) != "":
            raise Usage(f"a report of schema_version {report.schema_version} has no {name}")
    if report.outcome not in OUTCOMES:
        raise Usage(f"the report's outcome must be one of {', '.join(OUTCOMES)}")
    if report.sandbox_level not in LEVELS:
        raise Usage(f"the report's sandbox_level must be one of {', '.join(LEVELS)}")
    for what in ("wanted_id", "repo", "uri", "sandbox_network"):
        value = getattr(report, what)
        if not isinstance(value, str) or len(value) > LINE or show(value) != value:
            raise Usage(f"the report's {what} must be one line of text, of at most {LINE} characters")
    if type(report.wall_seconds) is not int or not 0 <= report.wall_seconds <= 2**31:
        raise Usage("the report's wall_seconds must be a whole number")
    for what, shape, size in (("base", HEX40, 40), ("head", HEX40, 40), (measured, HEX64, 64)):
        if not shape.match(str(getattr(report, what))):
            raise Usage(f"the report's {what} must be {size} hex digits")
    if len(report.gates) > GATES:
        raise Usage(f"the report has more than {GATES} gates")
    for gate in report.gates:
        words = isinstance(gate.argv, list) and all(isinstance(word, str) and _is_text(word) for word in gate.argv)
        if not (words and type(gate.exit) is int and HEX64.match(str(gate.log_sha256))):
            raise Usage("a gate of the report needs argv (texts), exit (integer) and log_sha256 (64 hex digits)")


def _is_text(value: str) -> bool:
    """Whether UTF-8 has `value`: JSON can spell half of a surrogate pair."""
    return not any("\ud800" <= char <= "\udfff" for char in value)
