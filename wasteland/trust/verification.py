"""What `wl verify` says of a stamp or a completion, from rows and envelopes already loaded.  Pure.

A stamp is verified when its author's live key signed it, the row is what was
signed, the author's chain is whole and the context is unchanged.  What cannot
be decided for want of a key event, a link or a row is said to be undecided:
it accuses nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from wasteland.errors import BadSignature
from wasteland.text import show
from wasteland.trust.authors import Authors
from wasteland.trust.binding import (
    COMPLETION_COLUMNS,
    STAMP_COLUMNS,
    ChainState,
    Row,
    check_completion_row,
    check_stamp_row,
    evidence_matches,
    redacted,
)
from wasteland.trust.envelope import COMPLETION, STAMP, Envelope, Statement
from wasteland.trust.registry import Undecided
from wasteland.trust.statements import completion_digest, manifest_digest, text_manifest, wanted_digest
from wasteland.values import dataclass

PENDING = "not in a checkpoint (pending)"
NOT_FETCHED = "[not fetched]"


class Verdict(Enum):
    """What came of a verification; the value is the exit code of `wl verify`."""

    VERIFIED = 0
    INVALID = 1
    UNSIGNED = 2
    UNDECIDED = 3

    @property
    def exit_code(self) -> int:
        """The exit code of `wl verify`, which never changes."""
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of a report.  `ok` None: cannot be decided; `decides` False: told, but not counted."""

    name: str
    ok: bool | None
    detail: str
    decides: bool = True


@dataclass(frozen=True)
class Report:
    """The outcome for one row, with the checks in the order they were made."""

    subject_id: str
    title: str
    verdict: Verdict
    checks: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """The report as `wl verify` prints it; strangers' text is escaped."""
        marks = {False: "INVALID  ", None: "unknown  "}
        told = [
            f"  {one.name:<11} {marks.get(one.ok, '') if one.decides else ''}{show(one.detail)}" for one in self.checks
        ]
        return [f"{self.verdict.name}  {show(self.subject_id)}  {show(self.title)}", *told]

    def to_json(self) -> dict[str, Any]:
        """The same fields for `--json`."""
        checks = [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in self.checks]
        return {"id": self.subject_id, "title": self.title, "verdict": self.verdict.name.lower(), "checks": checks}


@dataclass(frozen=True)
class Context:
    """All that a verification reads, loaded beforehand.

    `row` is the stamp or completion itself, `attestations` the envelopes whose
    subject it is, `authors` the keys and chains of the wasteland that it was
    signed in.  The rest is about the completion that a stamp judges: the item,
    its row and its envelopes.
    """

    authors: Authors
    row: Row
    attestations: Sequence[Envelope] = ()
    wanted: Row | None = None
    completion: Row | None = None
    completion_attestations: Sequence[Envelope] = ()
    wasteland_name: str = ""

    @property
    def wasteland(self) -> str:
        """The id of the wasteland that the row was signed in."""
        return self.authors.wasteland


def verify_stamp(context: Context) -> Report:
    """The verdict on a stamp.  Never raises for what a stranger wrote."""
    row = context.row
    title = f"{row.get('author')} -> {row.get('subject')}"
    statement, findings = _signed(context, STAMP, str(row.get("author")))
    if statement is None:
        return _report(row, title, findings)
    wrong = check_stamp_row(statement, row)
    note = "  (message redacted)" if redacted(statement, row) else ""
    findings += [
        _row_finding(wrong, STAMP_COLUMNS, note),
        _chain_finding(statement, context),
        _context_finding(statement, context),
        _evidence_finding(statement, context),
        Finding("log", None, PENDING, decides=False),
        Finding("scores", True, _scores(statement), decides=False),
    ]
    return _report(row, title, findings)


def verify_completion(context: Context) -> Report:
    """The verdict on a completion.  Never raises for what a stranger wrote."""
    row = context.row
    title = f"{row.get('completed_by')} for {row.get('wanted_id')}"
    statement, findings = _signed(context, COMPLETION, str(row.get("completed_by")))
    if statement is None:
        return _report(row, title, findings)
    said = statement["predicate"]
    digest = manifest_digest(said["evidence"])
    same = statement["subject"][0]["digest"]["sha256"] == digest
    findings += [
        _row_finding(check_completion_row(statement, row), COMPLETION_COLUMNS, ""),
        _chain_finding(statement, context),
        Finding("context", *_wanted(said["wanted"], said["wanted_sha256"], context.wanted)),
        Finding("evidence", same, _evidence_text(digest, said["evidence"]) if same else "is not the manifest signed"),
        Finding("log", None, PENDING, decides=False),
    ]
    return _report(row, title, findings)


def _report(row: Row, title: str, findings: list[Finding]) -> Report:
    counted = [one.ok for one in findings if one.decides]
    if any(one.name == "signature" and one.detail.startswith("unsigned") for one in findings):
        verdict = Verdict.UNSIGNED
    elif False in counted:
        verdict = Verdict.INVALID
    else:
        verdict = Verdict.UNDECIDED if None in counted else Verdict.VERIFIED
    return Report(str(row.get("id")), title, verdict, tuple(findings))


def _signed(context: Context, kind: str, handle: str) -> tuple[Statement | None, list[Finding]]:
    """The statement about the row if a live key of `handle` signed it, and the first lines of the report."""
    where = Finding("wasteland", True, f"{context.wasteland}  {context.wasteland_name}".rstrip(), decides=False)
    block_hash = context.row.get("block_hash")
    if not context.attestations:
        if block_hash is None:
            return None, [where, Finding("signature", None, "unsigned (legacy)")]
        return None, [where, Finding("signature", None, "the attestation that block_hash names is not here")]
    envelope = next((one for one in context.attestations if one.sha256 == block_hash), None)
    try:
        context.authors.log(handle)
        envelope = envelope or _own(context, handle, kind)
        if envelope is None:  # what strangers signed about the row is their word, not the author's
            told = "unsigned (legacy)" if block_hash is None else "the attestation that block_hash names is not here"
            return None, [where, Finding("signature", None, told)]
        statement, told = context.authors.signed(envelope, handle, kind)
        if statement["predicate"]["wasteland"] != context.wasteland:
            raise BadSignature("it was signed for another wasteland")
    except Undecided as error:
        return None, [where, Finding("signature", None, error.message)]
    except BadSignature as error:
        return None, [where, Finding("signature", False, error.message)]
    matches = "= block_hash" if envelope.sha256 == block_hash else "differs from block_hash"
    payload = Finding(
        "payload", envelope.sha256 == block_hash, f"sha256 {_short(envelope.sha256)} {matches}  canonical ok"
    )
    return statement, [where, Finding("signature", True, told), payload]


def _own(context: Context, handle: str, kind: str) -> Envelope | None:
    """The first envelope about the row that a live key of its author signed, if any."""
    for envelope in context.attestations:
        try:
            context.authors.signed(envelope, handle, kind)
        except BadSignature:
            continue
        return envelope
    return None


def _row_finding(wrong: list[str], columns: int, note: str) -> Finding:
    if wrong:
        return Finding("row", False, f"differs from what was signed in: {', '.join(wrong)}")
    return Finding("row", True, f"{columns}/{columns} columns match{note}")


def _chain_finding(statement: Statement, context: Context) -> Finding:
    handle, said = statement["predicate"]["author"]["handle"], statement["predicate"]["chain"]
    chain = context.authors.chain(handle).joined(context.authors.links(context.attestations, handle))
    seq, prev = said["seq"], said["prev"]
    state = chain.state(seq)
    if state is ChainState.OK:
        return Finding("chain", True, f"seq {seq}, prev {_short(prev)}")
    if state is ChainState.MISSING:
        return Finding("chain", None, f"seq {seq}: link {chain.gap()} of {handle}'s chain is not here")
    others = ", ".join(sorted(_short(link.sha256) for link in chain.at(seq)))
    return Finding("chain", False, f"seq {seq}: {handle} signed two histories (equivocation): {others}")


def _wanted(wanted_id: str, digest: str, row: Row | None) -> tuple[bool | None, str]:
    if row is None:
        return None, f"wanted {wanted_id} is not here"
    try:
        same = row.get("id") == wanted_id and wanted_digest(row) == digest
    except (BadSignature, TypeError, ValueError):
        same = False
    if same:
        return True, f"wanted {wanted_id} unchanged ({_short(digest)})"
    return False, f"wanted {wanted_id} changed after it was signed"


def _context_finding(statement: Statement, context: Context) -> Finding:
    said = statement["predicate"]["context"]
    completion_ok, told = _completion(statement, context)
    wanted_ok, wanted_told = _wanted(said["wanted"], said["wanted_sha256"], context.wanted)
    both = (completion_ok, wanted_ok)
    ok = False if False in both else None if None in both else True
    return Finding("context", ok, f"{told}   {wanted_told}")


def _completion(statement: Statement, context: Context) -> tuple[bool | None, str]:
    """Whether the completion that a stamp judged is the one that is here: signed, or as an unsigned row."""
    said, row = statement["predicate"], context.completion
    name, digest = said["context"]["completion"], said["context"]["completion_sha256"]
    if row is None:
        return None, f"completion {name} is not here"
    if (row.get("id"), row.get("completed_by")) != (name, said["rig"]["handle"]):
        return False, f"completion {name} is not {said['rig']['handle']}'s"
    envelope = next((one for one in context.completion_attestations if one.sha256 == digest), None)
    if envelope is not None:
        return _signed_completion(statement, envelope, context)
    try:
        if completion_digest(row) == digest:
            return True, f"completion {name} unsigned, unchanged ({_short(digest)})"
    except BadSignature:
        return False, f"completion {name} cannot be read"
    if row.get("block_hash") == digest:
        return None, f"the attestation of completion {name} is not here"
    return False, f"completion {name} is not the one that was judged"


def _signed_completion(statement: Statement, envelope: Envelope, context: Context) -> tuple[bool | None, str]:
    said = statement["predicate"]
    name, worker = said["context"]["completion"], said["rig"]["handle"]
    try:
        done, _ = context.authors.signed(envelope, worker, COMPLETION)
    except Undecided as error:
        return None, f"completion {name}: {error.message}"
    except BadSignature as error:
        return False, f"completion {name}: {error.message}"
    did = done["predicate"]["author"]["did"]
    told = done["predicate"]
    if told["wasteland"] != context.wasteland or said["rig"]["did"] not in (None, did):
        return False, f"completion {name} was signed for another wasteland or by another key than the stamp names"
    if told["wanted"] != said["context"]["wanted"] or statement["subject"][0]["digest"] != done["subject"][0]["digest"]:
        return False, f"completion {name} has another wanted item or evidence than the stamp"
    wrong = check_completion_row(done, context.completion or {})
    if wrong:
        return False, f"completion {name} differs from what {worker} signed in: {', '.join(wrong)}"
    return True, f"completion {name} signed by {worker} ({_short(envelope.sha256)})"


def _evidence_finding(statement: Statement, context: Context) -> Finding:
    """What a stamp says of the evidence, against the completion's text where it is nothing but text."""
    digest = statement["subject"][0]["digest"]
    signed = f"manifest {_short(digest['sha256'])}"
    if digest.get("gitCommit"):
        return Finding(
            "evidence", None, f"{signed}  commit {_short(digest['gitCommit'])}  {NOT_FETCHED}", decides=False
        )
    text = (context.completion or {}).get("evidence")
    if not isinstance(text, str):
        return Finding("evidence", None, f"{signed}  is not here")
    judged = statement["predicate"]["context"]["completion_sha256"]
    if any(one.sha256 == judged for one in context.completion_attestations):
        # The worker signed this manifest; `_signed_completion` holds it against row and stamp.
        return Finding("evidence", None, f"{signed}  {NOT_FETCHED}", decides=False)
    manifest = text_manifest(text)
    if manifest_digest(manifest) == digest["sha256"] and evidence_matches(manifest, text):
        return Finding("evidence", True, f"{signed}  text unchanged")
    return Finding("evidence", False, f"{signed}  is not of the text that is here")


def _evidence_text(digest: str, manifest: Mapping[str, Any]) -> str:
    if manifest["kind"] == "text":
        return f"manifest {_short(digest)}  text"
    held = f"commit {_short(str(manifest['head']))}" if manifest.get("head") else str(manifest["kind"])
    return f"manifest {_short(digest)}  {held}  {NOT_FETCHED}"


def _scores(statement: Statement) -> str:
    said = statement["predicate"]
    told = [f"{dim} {one['score']} (conf {one['confidence'] / 1000:.2f})" for dim, one in said["scores"].items()]
    return f"{'  '.join(told)}   overall {said['confidence'] / 1000:.2f}".strip()


def _short(digest: str) -> str:
    return f"{digest[:8]}…" if len(digest) > 12 else digest
