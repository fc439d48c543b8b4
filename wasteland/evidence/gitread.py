"""The one caller of git here: it reads other people's repositories, and only into a scratch one of its own.

Git never runs where somebody else's configuration could tell it what to start:
what is wanted is fetched, object by object checked, into an empty bare
repository that is gone afterwards.  The environment and configuration are named
word by word; no hook, filter, driver, credential or user's setting takes part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from wasteland.errors import Misconfigured, Refused, Unreachable
from wasteland.local import config as configuration
from wasteland.orders import CHANGES, changes_sha256
from wasteland.text import reason, show
from wasteland.values import dataclass

TIMEOUT = 300  # seconds
LIMIT = 2 << 30  # bytes, of any one file that git writes: a pack, a patch, a listing
LISTED = 64 << 20  # bytes of a listing that are read
REFS = 20_000
NEEDED = (2, 38)  # since 2.37, a connection can be held to the address that was checked
HEX40 = re.compile(r"[0-9a-f]{40}\Z")
OURS = "refs/wl"
MIRRORED = ("heads", "tags", "remotes")
# Evidence of the first format digests the text of the patch: what git does without a configuration, word by word.
PATCH = (
    "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary", "--diff-algorithm=myers",
    "--indent-heuristic", "--unified=3", "--inter-hunk-context=0", "--find-renames=50%", "-l1000", "--src-prefix=a/",
    "--dst-prefix=b/", "--submodule=short", "--ignore-submodules=none", "--no-relative", "--ws-error-highlight=none",
)  # fmt: skip
CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "",
    "core.attributesFile": "/dev/null",
    "core.symlinks": "false",
    "credential.helper": "",
    "fetch.unpackLimit": "1",  # always one pack, so that the limit on a file is one on the fetch
    "fetch.fsck.badTimezone": "ignore",  # old tools wrote these three, and nothing here depends on them
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "http.sslVerify": "true",
    "init.templateDir": "",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "safe.bareRepository": "explicit",
    "transfer.bundleURI": "false",
    "transfer.fsckObjects": "true",
}
ENV = {
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}


@dataclass(frozen=True)
class Source:
    """Where a repository is: a path that the user named, or an https URL whose host was checked.

    `pin` is `host:port:address`: for a URL, the connection goes there and nowhere else.
    """

    origin: str
    pin: str = ""
    cafile: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How a run of git ended: what it printed, as far as listings are read, and the digest of all of it."""

    code: int
    raw: bytes
    sha256: str
    said: str

    @property
    def out(self) -> str:
        """What it printed, as text."""
        return self.raw.decode("utf-8", "replace")


def _environment(source: Source | None) -> dict[str, str]:
    settings = dict(CONFIG)
    if source is not None and source.pin:
        host, port, address = source.pin.split(":", 2)
        settings["http.curloptResolve"] = f"{host}:{port}:{f'[{address}]' if ':' in address else address}"
    made = ENV | {"PATH": configuration.setting("PATH") or os.defpath, "GIT_CONFIG_COUNT": str(len(settings))}
    made["GIT_ALLOW_PROTOCOL"] = "https" if source is not None and source.pin else "file"
    trust = str(source.cafile) if source and source.cafile else configuration.setting("SSL_CERT_FILE")
    if trust:
        made["GIT_SSL_CAINFO"] = trust
    for number, (key, value) in enumerate(settings.items()):
        made[f"GIT_CONFIG_KEY_{number}"], made[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return made


def _limited() -> None:
    """In the child, before git: a file that grows over the limit ends it, as does the time of a processor."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(argv: Sequence[str], folder: Path, source: Source | None = None) -> Ended:
    """Run git; its output goes to files, so that limits hold for it too.  Unreachable where it takes too long."""
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
        code = _wait(["git", *argv], folder, _environment(source), out.fileno(), err.fileno())
        for file in (out, err):
            file.seek(0)
        digest = hashlib.sha256()
        first = out.read(LISTED)
        digest.update(first)
        while chunk := out.read(1 << 20):
            digest.update(chunk)
        said = err.read(1 << 16).decode("utf-8", "replace")
    return Ended(code, first, digest.hexdigest(), reason(said, f"git ended with {code}"))


def _wait(argv: Sequence[str], folder: Path, env: dict[str, str], out: int, err: int) -> int:
    try:
        child = subprocess.Popen(
            argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            preexec_fn=_limited,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Misconfigured("git is not installed", hint="install git 2.38 or later") from error
    try:
        return child.wait(TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"git did not finish within {TIMEOUT} seconds") from error
    finally:
        if child.returncode is None:  # with its children, which carry the transfer
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class Scratch:
    """An empty bare repository into which others are read; `scratch` makes it."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.version = version  # as git calls itself
        self.said = ""  # git's last words about what failed
        self._refs: dict[str, str] = {}

    def _git(self, *argv: str, source: Source | None = None) -> Ended:
        return _run([f"--git-dir={self.folder}/git", *argv], self.folder, source)

    def start(self) -> None:
        """Point HEAD at what never is: some versions of git take attributes from it, which change a patch."""
        self._git("symbolic-ref", "HEAD", f"{OURS}/none")

    def origin_of(self, folder: Path) -> str | None:
        """The URL of `origin` in a repository of the user's, read from its file alone; None where there is none."""
        return self._configured(folder, "--get", "remote.origin.url")

    def _configured(self, folder: Path, *words: str) -> str | None:
        for file in (folder / ".git" / "config", folder / "config"):
            if file.is_file():
                return self._git("config", "--file", str(file), *words).out.strip() or None
        return None

    @property
    def shallow(self) -> bool:
        """Whether what was taken is a copy whose history is cut off: that it lacks a commit then proves nothing."""
        return (self.folder / "git" / "shallow").is_file()

    def refs(self, source: Source) -> dict[str, str] | None:
        """What each ref of a repository names; None where it cannot be read."""
        listed = self._git("ls-remote", "--", source.origin, source=source)
        self.said = listed.said
        if listed.code:
            return None
        lines = (line.split("\t") for line in listed.out.splitlines())
        return {parts[1]: parts[0] for parts in lines if len(parts) == 2}

    def take(self, source: Source, names: Sequence[str] = ()) -> bool:
        """Fetch the branches and tags of a repository, and the commits in `names`; False where it cannot be read.

        Where there are very many refs, only the commits.  A commit that is not there is no failure; ask `commit`.
        """
        found = self.refs(source)
        if found is None:
            return False
        self._refs = found
        specs = [f"+refs/{kind}/*:refs/{kind}/*" for kind in MIRRORED]
        if "HEAD" in found:
            specs.append(f"+HEAD:{OURS}/HEAD")
        if len(found) <= REFS and not self._fetch(source, specs):
            if not source.pin and self._configured(Path(source.origin), "--get-regexp", r"^remote\..*\.promisor$"):
                self.said = f"it is a partial clone, which lacks objects that were never fetched ({self.said})"
            return False
        for name in names:
            if HEX40.match(name) and self.commit(name) is None:
                self._fetch(source, [f"+{name}:{OURS}/{name}"])
        return True

    def _fetch(self, source: Source, specs: Sequence[str]) -> bool:
        flags = (
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--quiet",
            "--force",
            "--update-shallow",
        )
        done = self._git("fetch", *flags, "--", source.origin, *specs, source=source)
        self.said = done.said
        return done.code == 0

    def commit(self, name: str) -> str | None:
        """The full name of the commit that a branch, tag or (part of a) hash names; None where there is none."""
        at_head = re.sub(r"^(HEAD|@)(?![A-Za-z0-9_./-])", f"{OURS}/HEAD", name)
        done = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{at_head}^{{commit}}")
        found = done.out.strip()
        return found if done.code == 0 and HEX40.match(found) else None

    def parent(self, head: str) -> str | None:
        """The first parent of a commit; None for the first of all."""
        return self.commit(f"{head}^1")

    def is_ancestor(self, base: str, head: str) -> bool:
        """Whether the history of `head` holds `base`; both are here."""
        return self._git("merge-base", "--is-ancestor", base, head).code == 0

    def meeting(self, base: str, head: str) -> str | None:
        """The commit where two histories part, or None."""
        found = self._git("merge-base", base, head).out.split()
        return found[0] if found else None

    def held(self, head: str) -> bool | None:
        """Whether a ref of the repository that was taken still leads to a commit; None where it has too many refs."""
        if head in self._refs.values():
            return True
        if len(self._refs) > REFS:
            return None
        where = [f"refs/{kind}" for kind in MIRRORED]
        return bool(self._git("for-each-ref", "--count=1", "--contains", head, *where).out.strip())

    def changes_sha256(self, base: str, head: str) -> str:
        """The digest of how two commits that are here differ, as manifests of kind git carry it."""
        done = self._git(*CHANGES, base, head)
        try:
            if done.code:
                raise ValueError(done.said)
            return changes_sha256(done.raw)
        except ValueError as error:
            raise Refused(f"the changes cannot be listed, or not within {LISTED} bytes: {error}", about=head) from error

    def patch_sha256(self, base: str, head: str) -> str:
        """The digest of the text of their patch, as manifests of the first format carry it."""
        done = self._git(*PATCH, base, head)
        if done.code:
            raise Refused(f"the patch could not be made, or is larger than {LIMIT} bytes: {done.said}", about=head)
        return done.sha256


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """A scratch repository, gone afterwards.  Misconfigured where git is missing or older than 2.38."""
    with tempfile.TemporaryDirectory(prefix="wl-git-", ignore_cleanup_errors=True) as name:
        said = _run(["--version"], Path(name)).out.strip()
        made = Scratch(Path(name), show(said))
        version = re.search(r"(\d+)\.(\d+)", said)
        if not version or (int(version[1]), int(version[2])) < NEEDED:
            raise Misconfigured("git is too old", hint="install git 2.38 or later")
        done = _run(["init", "--quiet", "--bare", f"{name}/git"], made.folder)
        if done.code:
            raise Misconfigured(f"git cannot make a repository in {name}: {done.said}", about=name)
        made.start()
        yield made
