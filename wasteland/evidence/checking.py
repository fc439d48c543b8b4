"""Evidence looked at again: each part of what was signed, against what is there now."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from wasteland.commons import ID_LIMIT, completions
from wasteland.dolt.database import Database
from wasteland.errors import BadSignature, NotFound, Refused, Unreachable, Usage
from wasteland.evidence import fetch, gitread, repository
from wasteland.evidence.fetch import Reach
from wasteland.evidence.gitread import Scratch, Source
from wasteland.evidence.making import digested
from wasteland.market.items import resolve
from wasteland.models import Completion
from wasteland.node import current, signing, verifying
from wasteland.node.landing import landed
from wasteland.node.node import Node
from wasteland.node.sync import item_branch
from wasteland.text import show
from wasteland.trust.binding import evidence_matches
from wasteland.trust.envelope import COMPLETION, checked_statement, kind_of
from wasteland.trust.manifest import Part, Report, State, checked_manifest, lines_of
from wasteland.trust.statements import URL
from wasteland.trust.verification import Verdict
from wasteland.values import dataclass

GONE = (404, 410)
SAME, CHANGED, MISSING, UNCHECKED = State.SAME, State.CHANGED, State.GONE, State.UNCHECKED
HISTORY = {
    True: Part("history", SAME, "a branch, tag or pull request still leads to the head"),
    False: Part("history", CHANGED, "no branch, tag or pull request leads to the head any more"),
    None: Part("history", UNCHECKED, "the repository has too many refs to tell whether one leads to the head"),
}
CUT_OFF = "this copy is shallow: its history is cut off"


@dataclass(frozen=True)
class Evidence:
    """The evidence of one completion: its text, what its worker signed about it, and whether the signature holds.

    `manifest` is None where nobody signed one, or where it is not the worker
    who did.
    """

    completion: Completion
    signature: Part
    manifest: dict[str, Any] | None

    @property
    def text(self) -> str:
        """The evidence as the row has it."""
        return self.completion.evidence or ""

    @property
    def kind(self) -> str:
        """The kind of the manifest; `unsigned` where there is none."""
        return str(self.manifest["kind"]) if self.manifest else "unsigned"

    def lines(self) -> list[str]:
        """For people; strangers' text is escaped."""
        of = self.completion
        first = f"{show(of.id)}  {show(of.completed_by)} for {show(of.wanted_id)}"
        told = [first, f"  {'signature':<14} {self.signature.state.value}: {show(self.signature.detail)}"]
        if self.manifest is None:
            return [*told, f"  {'text':<14} {show(self.text)}"]
        return told + [f"  {one}" for one in lines_of(self.manifest)]

    def to_json(self) -> dict[str, Any]:
        """As `wl evidence show --json` prints it."""
        return {
            "schema_version": 1, "completion": self.completion.to_json(), "signature": self.signature.detail,
            "signed": self.signature.state is SAME, "manifest": self.manifest,
        }  # fmt: skip


def find(node: Node, what: str) -> Evidence:
    """The evidence of a completion, or of the newest completion of an item, by its id.

    NotFound where there is none; BadSignature where the worker's manifest is
    not one that this program can read.
    """
    completion, db = current.judged(node, lambda: _completion(node, what))
    report = verifying.verify(node, "completion", completion.id, db)
    told = next((one for one in report.checks if one.decides and one.ok is not True), None)
    states = {Verdict.VERIFIED: SAME, Verdict.INVALID: CHANGED}
    detail = told.detail if told else f"signed by {completion.completed_by}"
    signature = Part("signature", states.get(report.verdict, UNCHECKED), detail)
    forged = any(one.name == "signature" and one.ok is False for one in report.checks)
    said = None if forged else signing.signed_payload(db, completion.id, completion.block_hash)
    if said is None:
        return Evidence(completion, signature, None)
    if kind_of(checked_statement(said)) != COMPLETION:
        raise BadSignature(f"what completion {completion.id} names as its signature is another statement")
    return Evidence(completion, signature, checked_manifest(said["predicate"]["evidence"]))


def _completion(node: Node, what: str) -> tuple[Completion, Database]:
    main = node.db.at("main")
    if what.startswith("c-") and len(what) <= ID_LIMIT:
        branches = (node.db.at(name) for name in node.db.branches(f"wl/{node.handle}/"))
        for db in (main, *branches):
            if found := completions.get(db, what):
                return found, db
        raise NotFound(f"there is no completion {show(what)}", about=what)
    item_id = resolve(node, what)
    branch = item_branch(node, item_id)
    db = node.db.at(branch) if node.db.is_branch(branch) and not landed(node, branch) else main
    found = completions.of_item(db, item_id)
    if found is None:
        raise NotFound(f"{show(item_id)} has no completion", about=item_id)
    return found, db


def check(
    node: Node, what: str, *, repo: str | None = None, file: Path | None = None, reach: Reach | None = None
) -> Report:
    """Look again at each part of a completion's evidence; `what` is the id of the completion or of its item.

    `repo` and `file` are the user's own places to compare with.  What did not
    answer, or may not be asked, is a part that cannot be checked, not an error.
    """
    found = find(node, what)
    reach = repository.reach_of(node) if reach is None else reach
    manifest = found.manifest
    _need_use(found.kind, manifest or {}, repo, file)
    parts = [found.signature]
    if manifest is None:
        parts.append(Part("text", UNCHECKED, "no manifest of the worker's says what it was"))
        parts += _reachable(found.text, reach)
    else:
        parts.append(_text(manifest, found.text))
        parts += _parts(manifest, repo, file, reach)
    of = found.completion
    return Report(of.id, str(of.wanted_id or ""), str(of.completed_by or ""), found.kind, tuple(parts))


def _need_use(kind: str, manifest: dict[str, Any], repo: str | None, file: Path | None) -> None:
    """Usage where the user names something that there is nothing to compare with."""
    if repo is not None and "head" not in manifest:
        raise Usage(f"the evidence is of kind {kind} and names no commit, so --repo has nothing to compare")
    if file is not None and "sha256" not in manifest:
        raise Usage(f"the evidence is of kind {kind} and has no digest, so --file has nothing to compare")


def _text(manifest: dict[str, Any], text: str) -> Part:
    if evidence_matches(manifest, text):
        return Part("text", SAME, "is the text that was signed")
    signed = manifest["sha256"] if manifest["kind"] == "text" else manifest["uri"]
    now = text if manifest["kind"] != "text" else hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return Part("text", CHANGED, "is not the text that was signed", signed, now)


def _parts(manifest: dict[str, Any], repo: str | None, file: Path | None, reach: Reach) -> list[Part]:
    parts: list[Part] = []
    if manifest["kind"] == "text":
        if file is not None:
            return [_bytes_of_file(file, manifest)]
        return _reachable(manifest["uri"], reach)
    if "head" in manifest:
        parts += _commits(manifest, repo, reach)
    if "sha256" in manifest:
        parts.append(_bytes_of_file(file, manifest) if file is not None else _bytes_of_url(manifest, reach))
    if manifest.keys() == {"v", "kind", "uri"}:
        parts += _reachable(manifest["uri"], reach)
    if gates := manifest.get("gates"):
        parts.append(Part("gates", UNCHECKED, f"{len(gates)} runs, the worker's word", decides=False))
    return parts


def _reachable(text: str, reach: Reach) -> list[Part]:
    """For an address of which only the words are known: whether it answers, which is all that can be asked."""
    if not URL.match(text):
        return []
    try:
        status = fetch.probe(text, reach).status
    except (Refused, Unreachable) as error:
        return [Part("address", UNCHECKED, error.message)]
    if status in GONE:
        return [Part("address", MISSING, f"answers {status}: what was there is gone")]
    if not 200 <= status < 300:
        return [Part("address", UNCHECKED, f"answers {status}")]
    return [Part("address", UNCHECKED, f"answers {status}, but what it said at first was not signed")]


def _bytes_of_url(manifest: dict[str, Any], reach: Reach) -> Part:
    uri = manifest["uri"]
    if not URL.match(uri):
        return Part("content", UNCHECKED, "the file is the worker's; compare the one that you have with --file")
    try:
        answer = fetch.get(uri, reach)
    except (Refused, Unreachable) as error:
        return Part("content", UNCHECKED, error.message)
    if answer.status in GONE:
        return Part("content", MISSING, f"the address answers {answer.status}")
    if answer.status != 200:
        return Part("content", UNCHECKED, f"the address answers {answer.status}")
    return _compared("content", manifest, hashlib.sha256(answer.body).hexdigest(), len(answer.body))


def _bytes_of_file(file: Path, manifest: dict[str, Any]) -> Part:
    return _compared("content", manifest, *digested(file))


def _compared(name: str, manifest: dict[str, Any], digest: str, size: int) -> Part:
    was, now = _said(manifest["sha256"], manifest.get("size")), _said(digest, size)
    if manifest["sha256"] == digest and manifest.get("size", size) == size:
        return Part(name, SAME, now, was, now)
    return Part(name, CHANGED, "differs from what was signed", was, now)


def _said(digest: str, size: int | None) -> str:
    return f"sha256 {digest}" + ("" if size is None else f", {size} bytes")


def _commits(manifest: dict[str, Any], repo: str | None, reach: Reach) -> list[Part]:
    """The commits that a manifest names, looked for in the user's repository, or in the one that was signed."""
    source = _source(manifest["repo"], repo, reach)
    if isinstance(source, Part):
        return [source]
    with gitread.scratch() as scratch:
        try:
            wanted = [manifest[name] for name in ("base", "head") if name in manifest]
            if not scratch.take(source, wanted):
                return [Part("repository", UNCHECKED, f"cannot be read: {scratch.said}")]
            return [Part("repository", SAME, f"read at {source.origin}"), *_in_scratch(manifest, scratch)]
        except (Refused, Unreachable) as error:
            return [Part("repository", UNCHECKED, error.message)]


def _source(signed: str, repo: str | None, reach: Reach) -> Source | Part:
    if repo is not None and not repo.lower().startswith("https://"):
        return repository.named(repo, reach)
    url = repo or signed
    if not url.lower().startswith("https://"):
        return Part("repository", UNCHECKED, f"{url} is on the worker's machine; name a copy of yours with --repo")
    try:
        return repository.remote(url, reach)
    except NotFound as error:
        return Part("repository", MISSING, error.message)
    except (Refused, Unreachable) as error:
        return Part("repository", UNCHECKED, error.message)


def _in_scratch(manifest: dict[str, Any], scratch: Scratch) -> list[Part]:
    head, base = manifest["head"], manifest.get("base")
    if scratch.commit(head) != head:
        return [_absent("head", head, scratch)]
    parts = [Part("head", SAME, f"commit {head}"), _history(head, scratch)]
    if base is None:
        return parts
    if scratch.commit(base) != base:
        return [*parts, _absent("base", base, scratch)]
    if not scratch.is_ancestor(base, head):
        words = "the history of the head does not hold the base"
        if not scratch.shallow:
            return [*parts, Part("base", CHANGED, words)]
        parts.append(Part("base", UNCHECKED, f"{CUT_OFF}, so it cannot be checked here whether {words}"))
    else:
        parts.append(Part("base", SAME, f"commit {base}"))
    return [*parts, _difference(manifest, base, head, scratch)]


def _absent(name: str, commit: str, scratch: Scratch) -> Part:
    """A commit that is not where it was looked for: that says nothing where history is cut off."""
    if scratch.shallow:
        return Part(name, UNCHECKED, f"{CUT_OFF}, so commit {commit} cannot be checked here")
    return Part(name, MISSING, f"commit {commit} is not in the repository")


def _history(head: str, scratch: Scratch) -> Part:
    held = scratch.held(head)
    if held is False and scratch.shallow:
        return Part("history", UNCHECKED, f"{CUT_OFF}, so it cannot be checked here what leads to the head")
    return HISTORY[held]


def _difference(manifest: dict[str, Any], base: str, head: str, scratch: Scratch) -> Part:
    """How the two commits differ, against what was signed of it.

    The text of a patch depends on the git that writes it, so that another one
    proves nothing; what the commits' own trees say does not.
    """
    try:
        if "patch_sha256" in manifest:
            name, was, now = "patch", manifest["patch_sha256"], scratch.patch_sha256(base, head)
        else:
            name, was, now = "changes", manifest["changes_sha256"], scratch.changes_sha256(base, head)
    except Refused as error:
        return Part("changes", UNCHECKED, f"cannot be checked here: {error.message}")
    if was == now:
        return Part(name, SAME, f"sha256 {now}", was, now)
    if name == "patch":
        why = f"cannot be checked here: {scratch.version} writes another text for this patch than was signed"
        return Part(name, UNCHECKED, f"{why}; base and head are the commits that were signed", was, now)
    return Part(name, CHANGED, "differs from what was signed", was, now)
