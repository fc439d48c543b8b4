"""The one caller of git on the host: hardened, and only in repositories that the town made.

Agents never see these repositories.  Work comes in as a bundle, whose pack is
checked object by object before any of it is stored.  Nothing is checked out
here: merging needs no working tree.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gastown.errors import Misconfigured, Refused, TownError, Unreachable, Usage
from gastown.queue import Change
from gastown.text import reason, without_secrets

TIMEOUT = 600
HEX40 = re.compile(r"[0-9a-f]{40}\Z")
BUNDLE_HEADER = b"# v2 git bundle\n"
CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "safe.bareRepository": "explicit",
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
    "transfer.fsckObjects": "true",
    "core.symlinks": "false",
    "core.attributesFile": "/dev/null",
    "init.templateDir": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
ENV = {
    "PATH": "/usr/bin:/bin:/usr/local/bin",
    "HOME": "/nonexistent",
    "LANG": "C",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_AUTHOR_NAME": "refinery",
    "GIT_AUTHOR_EMAIL": "refinery@town.invalid",
    "GIT_COMMITTER_NAME": "refinery",
    "GIT_COMMITTER_EMAIL": "refinery@town.invalid",
}


@dataclass(frozen=True)
class Merged:
    """`target` is the merge commit, or None where the two meet in `conflicts`."""

    target: str | None
    conflicts: list[str] = field(default_factory=list)


def is_url(origin: str) -> bool:
    """True where a rig's origin is a URL, not a path."""
    return "://" in origin


def check_origin(origin: str) -> str:
    """`origin` as it is stored: https URL or absolute path; Usage for anything else."""
    if is_url(origin):
        if not origin.startswith("https://"):
            raise Usage("a rig's repository is an https URL or a path of this machine", about=origin)
        return origin
    return str(Path(origin).resolve())


def apart(origin: str) -> tuple[str, str]:
    """`origin` as it may be stored and told, and the whole of it where it holds a secret, else ""."""
    plain = without_secrets(origin) if is_url(origin) else origin
    return plain, origin if plain != origin else ""


def called(origin: str) -> str:
    """What others are told of a rig's repository: its URL, or its folder's name; a path of this machine stays here."""
    return origin if is_url(origin) else Path(origin).name


def _env(origin: str, secret: str) -> dict[str, str]:
    settings = CONFIG | ({f"url.{secret}.insteadOf": origin} if secret else {})
    made = dict(ENV, GIT_ALLOW_PROTOCOL="https" if is_url(origin) else "file", GIT_CONFIG_COUNT=str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        made[f"GIT_CONFIG_KEY_{number}"] = key
        made[f"GIT_CONFIG_VALUE_{number}"] = value
    return made


def _run(
    argv: Sequence[str], origin: str = "", given: bytes = b"", secret: str = "", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run git; an address with a secret in it, by which `origin` is reached, is in no argument and no file of git's."""
    try:
        return subprocess.run(
            ["git", *argv],
            env=_env(origin, secret) | env,
            cwd="/",
            input=given,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
    except FileNotFoundError as error:
        raise Misconfigured("git is not installed", hint="install git 2.38 or later") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"git {argv[0]} did not finish within {TIMEOUT} seconds") from error


def check_version() -> None:
    """Misconfigured where git cannot merge without a working tree (before 2.38)."""
    found = re.search(rb"(\d+)\.(\d+)", _run(["--version"]).stdout)
    if not found or (int(found[1]), int(found[2])) < (2, 38):
        raise Misconfigured("git is too old", hint="install git 2.38 or later")


def check_rig(origin: str, branch: str, secret: str = "") -> None:
    """Refused where the town could not move `branch` of `origin` by itself.

    A branch that is checked out belongs to whoever works there: moving it
    would leave their files behind it.
    """
    found = _run(["ls-remote", "--symref", "--", origin, "HEAD", f"refs/heads/{branch}"], origin, secret=secret)
    if found.returncode:
        raise Unreachable(f"the repository cannot be read: {_why(found)}", about=origin)
    text = found.stdout.decode("utf-8", "replace")
    if f"\trefs/heads/{branch}\n" not in text:
        raise Refused(f"the repository has no branch {branch}", hint="commit something to it first", about=origin)
    checked_out = f"ref: refs/heads/{branch}\tHEAD" in text and (Path(origin) / ".git").exists()
    if not is_url(origin) and checked_out:
        raise Refused(
            f"{branch} is checked out in that repository, and the town has to move it",
            hint="use a bare repository (git clone --bare), or check out another branch there",
            about=origin,
        )


def _why(done: subprocess.CompletedProcess[bytes]) -> str:
    return reason(done.stderr.decode("utf-8", "replace"), f"git ended with {done.returncode}")


class Repo:
    """The town's own bare repository of one rig.

    `origin` is the rig's repository; `refs/town/*` are the town's, one for
    each run, so that no finished work is lost to garbage collection.
    """

    def __init__(self, path: Path, origin: str, branch: str) -> None:
        self.path = path
        self.origin = origin
        self.branch = branch

    def _git(self, *argv: str, given: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        return _run([f"--git-dir={self.path}", *argv], self.origin, given, self._secret(), **env)

    def _secret(self) -> str:
        try:
            return self._address.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    @property
    def _address(self) -> Path:
        return self.path.with_suffix(".address")

    def reach_by(self, secret: str) -> None:
        """Remember the address of the origin that holds a secret, beside the repository and for its user alone."""
        self._address.unlink(missing_ok=True)
        if secret:
            handle = os.open(self._address, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(secret)

    def _ok(self, *argv: str, given: bytes = b"", **env: str) -> str:
        done = self._git(*argv, given=given, **env)
        if done.returncode:
            raise TownError(f"git {argv[0]} failed: {_why(done)}", about=str(self.path))
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def init(self) -> None:
        """Make the repository; harmless when it exists."""
        _run(["init", "-q", "--bare", "-b", self.branch, str(self.path)])
        self._ok("rev-parse", "--git-dir")

    def fetch(self) -> str:
        """The commit that main of the origin is at now, its objects fetched."""
        spec = f"+refs/heads/{self.branch}:refs/heads/{self.branch}"
        done = self._git("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--", self.origin, spec)
        if done.returncode:
            raise Unreachable(f"the rig's repository cannot be fetched: {_why(done)}", about=self.origin)
        return self._ok("rev-parse", "--verify", f"refs/heads/{self.branch}^{{commit}}")

    def keep(self, name: str, commit: str) -> None:
        """Point `refs/town/<name>` at `commit`."""
        self._ok("update-ref", f"refs/town/{name}", commit)

    def bundle(self, name: str, file: Path) -> None:
        """Write `refs/town/<name>` with its whole history to `file`."""
        self._ok("bundle", "create", "-q", str(file), f"refs/town/{name}")

    def take(self, bundle: Path) -> str:
        """Store the commits of a bundle that came out of a box; its head.

        git checks the pack strictly (fsck of each object, all links present)
        before it keeps any of it.  Refused where the bundle does not hold.
        """
        if self._git("bundle", "verify", "-q", str(bundle)).returncode:
            raise Refused("the bundle of the run's commits does not verify")
        with bundle.open("rb") as stream:
            if stream.readline(100) != BUNDLE_HEADER:
                raise Refused("the bundle of the run's commits is of an unknown version")
            head = ""
            while (line := stream.readline(4096)) not in (b"\n", b""):
                if not line.startswith(b"-"):
                    head = line[:40].decode("ascii", "replace")
            if not HEX40.match(head):
                raise Refused("the bundle of the run's commits names no head")
            pack = stream.read()
        if self._git("index-pack", "--stdin", "--fix-thin", "--strict", "--fsck-objects", given=pack).returncode:
            raise Refused("the objects of the run's commits are not sound")
        if self._git("rev-list", "--quiet", "--objects", head, "--not", "--all").returncode:
            raise Refused("the run's commits are not complete")
        return head

    def is_ancestor(self, old: str, new: str) -> bool:
        """True where `old` is `new` or in its history."""
        return self._git("merge-base", "--is-ancestor", old, new).returncode == 0

    def merge(self, base: str, head: str, message: str, date: str) -> Merged:
        """`head` merged on `base` as one commit with two parents; no working tree is touched."""
        done = self._git("merge-tree", "--write-tree", "--name-only", "--no-messages", base, head)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        if done.returncode == 1:
            return Merged(None, lines[1:])
        if done.returncode or not lines:
            return Merged(None, [_why(done)])
        stamped = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        parents = ["-p", base, "-p", head]
        return Merged(self._ok("commit-tree", lines[0], *parents, "-F", "-", given=message.encode(), **stamped))

    def changes(self, base: str, head: str) -> list[Change]:
        """Every path that differs between two commits."""
        raw = self._ok("diff-tree", "-r", "-z", "--raw", "--no-renames", base, head)
        parts = [part for part in raw.split("\0") if part]
        found = []
        for meta, path in zip(parts[::2], parts[1::2], strict=True):
            old_mode, new_mode = meta.lstrip(":").split(" ")[:2]
            found.append(Change(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), old_mode, new_mode))
        return found

    def patch(self, base: str, head: str) -> bytes:
        """The difference as a patch, for people to read and for the ledger to know by its digest."""
        flags = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
        return self.listed(flags, base, head)

    def patch_sha256(self, base: str, head: str) -> str:
        """SHA-256 of `patch`, in hex."""
        return hashlib.sha256(self.patch(base, head)).hexdigest()

    def listed(self, flags: Sequence[str], base: str, head: str) -> bytes:
        """What git prints for `flags` of two commits, byte for byte."""
        done = self._git(*flags, base, head)
        if done.returncode:
            raise TownError(f"git {flags[0]} failed: {_why(done)}", about=str(self.path))
        return done.stdout

    def push(self, old: str, new: str) -> bool:
        """Move main of the origin from exactly `old` to `new`; False when it is not at `old` any more.

        Refused where the repository says no for a reason of its own (a hook, a
        protected branch), Unreachable where it does not answer.
        """
        ref = f"refs/heads/{self.branch}"
        done = self._git(
            "push", "--porcelain", "--no-verify", f"--force-with-lease={ref}:{old}", "--", self.origin, f"{new}:{ref}"
        )
        if done.returncode == 0:
            return True
        if self.fetch() != old:
            return False
        said = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("!")]
        raise Refused(f"the rig's repository did not take the merge: {said[0] if said else _why(done)}")
