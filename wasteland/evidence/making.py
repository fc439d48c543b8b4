"""Evidence at the moment it is handed in: its text, and the manifest that is signed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wasteland.addresses import last_part, without_places, without_secrets
from wasteland.errors import NotFound, Refused, Unreachable, Usage
from wasteland.evidence import fetch, repository
from wasteland.evidence.fetch import Reach
from wasteland.text import show
from wasteland.trust.manifest import blob_manifest, git_manifest, line, media_type, url_manifest
from wasteland.trust.statements import URL, text_manifest
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.evidence.gitread import Scratch

Manifest = dict[str, Any]

CUT_OFF = "the repository is a shallow clone, and its history is cut off"
UNCUT = "git fetch --unshallow there first, or name a whole copy with --repo"

# Pages of code hosts; only the last group differs between them: /commit/, /-/commit/, /commits/.
PROJECT = r"(https://[a-zA-Z0-9.:-]+/[\w.~-]+(?:/[\w.~-]+)+?)(?:/-)?"
COMMIT = re.compile(PROJECT + r"/commits?/([0-9a-f]{40})/?\Z", re.ASCII)
PATH = re.compile(r"(?<![^\s\"'(\[<=])/[^\s\"'<>()\[\]#?*|;,]+")
PULL = re.compile(PROJECT + r"/(pulls?|merge_requests)/([0-9]{1,9})(?:/.*)?\Z", re.ASCII)


@dataclass(frozen=True)
class Commits:
    """A range as a user names it: a path or https URL, and two commits, branches or tags.

    With an empty `base` it is the one commit `head`.
    """

    repo: str
    base: str
    head: str


def make(
    text: str | None,
    *,
    file: Path | None = None,
    commits: Commits | None = None,
    load: bool = False,
    paths: bool = False,
    reach: Reach,
) -> tuple[str, Manifest]:
    """The text of a completion's evidence, and the manifest to sign.

    Of a file or commits, where they are given; else of `text`: a commit's URL
    names its commit, other words stand for themselves.  With `load`, what a
    URL leads to is looked at now, and signed.  Addresses lose what is secret in
    them before anything is asked, so that what is signed is what others find; places of this machine are cut to
    their names, unless `paths` says that they are for others too.
    """
    text = None if text is None else without_secrets(text if paths else _without_places(text))
    if file is not None and commits is not None:
        raise Usage("give a file or commits, not both")
    if text is not None and (file or commits or load) and not line(text):
        raise Usage("beside a file, commits or --fetch the evidence must be one line that says where it is")
    if commits is not None:
        manifest = of_commits(commits, text, reach, paths=paths)
    elif file is not None:
        digest, size = digested(file)
        uri = text or f"sha256:{digest}#{quote(file.name[:200], safe='')}"
        manifest = blob_manifest(uri=uri, sha256=digest, size=size)
    elif text is None:
        raise Usage("nothing shows the work", hint="give --evidence, --file, or --repo with --base and --head")
    else:
        manifest = _loaded(text, reach) if load else _as_it_is(text)
    return text or str(manifest["uri"]), manifest


def _without_places(text: str) -> str:
    """`text` without the folders of addresses of files, of what is in the user's home, and of repositories here."""
    return PATH.sub(lambda found: last_part(found[0]) if _ours(Path(found[0])) else found[0], without_places(text))


def _ours(path: Path) -> bool:
    try:
        home = Path.home().resolve()
        inside = home != Path("/") and path.resolve().is_relative_to(home)
        return path.exists() and (inside or (path / ".git").exists() or (path / "objects").is_dir())
    except (OSError, RuntimeError, ValueError):
        return False


def digested(file: Path) -> tuple[str, int]:
    """Digest and size of a file of the user's; NotFound where it cannot be read."""
    try:
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest(), source.tell()
    except OSError as error:
        raise NotFound(f"cannot read {show(file)}: {error.strerror or error}", about=str(file)) from error


def _as_it_is(text: str) -> Manifest:
    """Of words that nothing is asked about: a commit's URL says which commit, and that may be signed."""
    found = COMMIT.match(text) if line(text) else None
    return url_manifest(uri=text, repo=found[1], head=found[2]) if found else text_manifest(text)


def _loaded(text: str, reach: Reach) -> Manifest:
    """Of an address, what it leads to now: a commit with its patch, the head of a pull request, or bytes."""
    if not URL.match(text):
        raise Usage("only an address can be fetched, and the evidence is none", hint="leave out --fetch")
    if found := COMMIT.match(text):
        return of_commits(Commits(found[1], "", found[2]), text, reach)
    if found := PULL.match(text):
        return _of_pull(text, found[1], found[2], found[3], reach)
    answer = fetch.get(text, reach)
    if answer.status != 200:
        raise NotFound(f"the evidence cannot be fetched: {show(text)} answers {answer.status}", about=text)
    kind = answer.media_type if media_type(answer.media_type) else None
    digest = hashlib.sha256(answer.body).hexdigest()
    return url_manifest(uri=text, sha256=digest, size=len(answer.body), media_type=kind)


def _of_pull(text: str, repo: str, word: str, number: str, reach: Reach) -> Manifest:
    from wasteland.evidence import gitread

    ref = f"refs/{'merge-requests' if word == 'merge_requests' else 'pull'}/{number}/head"
    source = repository.remote(repo, reach)
    with gitread.scratch() as scratch:
        listed = scratch.refs(source)
    if listed is None:
        raise Unreachable(f"{show(repo)} cannot be read: {scratch.said}", about=repo)
    if ref not in listed:
        raise NotFound(f"{show(repo)} has no {ref}", about=text)
    return url_manifest(uri=text, repo=repo, head=listed[ref])


def of_commits(commits: Commits, text: str | None, reach: Reach, *, paths: bool = False) -> Manifest:
    """The manifest of a range; Refused where its base does not come before its head."""
    from wasteland.evidence import gitread

    source = repository.named(commits.repo, reach)
    with gitread.scratch() as scratch:
        if not scratch.take(source, [commits.base, commits.head]):
            raise Unreachable(f"{show(commits.repo)} cannot be read: {scratch.said}", about=commits.repo)
        head = _commit(scratch, commits.head)
        base = _commit(scratch, commits.base) if commits.base else _parent(scratch, head)
        _need_range(scratch, base, head)
        digest = scratch.changes_sha256(base, head)
        repo = source.origin if paths and not source.pin else repository.public_name(source, scratch)
    return git_manifest(uri=text or f"{repo}#{head}", repo=repo, base=base, head=head, changes_sha256=digest)


def _commit(scratch: Scratch, name: str) -> str:
    found = scratch.commit(name)
    if found is None:
        cut_off = f": {CUT_OFF}" if scratch.shallow else ""
        hint = UNCUT if scratch.shallow else None
        raise NotFound(f"the repository has no commit {show(name)}{cut_off}", about=name, hint=hint)
    return found


def _parent(scratch: Scratch, head: str) -> str:
    found = scratch.parent(head)
    if found is None and scratch.shallow:
        raise Refused(f"{head} has no parent here: {CUT_OFF}", about=head, hint=UNCUT)
    if found is None:
        raise Refused(f"{head} is the first commit of its repository, so there is nothing to compare it with")
    return found


def _need_range(scratch: Scratch, base: str, head: str) -> None:
    if base == head:
        raise Refused(f"there is nothing between base and head: both are {head}", about=head)
    if not scratch.is_ancestor(base, head):
        if scratch.shallow:
            told = f"it cannot be told here whether the history of {head} holds {base}: {CUT_OFF}"
            raise Refused(told, about=head, hint=UNCUT)
        meeting = scratch.meeting(base, head)
        raise Refused(
            f"the history of {head} does not hold {base}",
            about=head,
            hint=f"--base {meeting} is where the two part" if meeting else None,
        )
