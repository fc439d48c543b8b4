"""A clone of its own for each run and each gate, made, used and read inside the box.

The host writes a bundle into `in/` and reads a bundle out of `out-*/`; it never
runs git in `work/`, where an agent can write.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gastown import sandbox
from gastown.errors import Refused
from gastown.git import Repo
from gastown.sandbox import Box, Mount

INSPECT_SECONDS = 120.0
MOST_BUNDLE = 512 << 20
MOST_STATUS = 64 << 10

CHECKOUT = """
set -eu
git init -q -b main .
git fetch -q --no-tags "$GT_BUNDLE" "refs/town/$GT_REF"
git reset -q --hard FETCH_HEAD
exec "$@"
"""
INSPECT = """
set -eu
git status --porcelain --untracked-files=all > "$GT_OUT/status"
git rev-parse HEAD > "$GT_OUT/head"
if [ -n "$(git rev-list -n 1 "$GT_BASE..HEAD")" ]; then
  git bundle create -q "$GT_OUT/work.bundle" "$GT_BASE..HEAD"
fi
"""
GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "polecat",
    "GIT_AUTHOR_EMAIL": "polecat@town.invalid",
    "GIT_COMMITTER_NAME": "polecat",
    "GIT_COMMITTER_EMAIL": "polecat@town.invalid",
}


@dataclass(frozen=True)
class Found:
    """What a clone holds, as git in the box says: uncommitted paths, HEAD, commits ahead (None: none)."""

    dirty: list[str]
    head: str
    bundle: bytes | None


class Clone:
    """The folders of one clone: `in` (read-only in the box) and `work`."""

    def __init__(self, folder: Path, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.mounts = [Mount("/in", folder / "in"), Mount("/work", folder / "work", writable=True)]

    def prepare(self, repo: Repo, name: str, commit: str, files: Mapping[str, str]) -> None:
        """Lay out the folders: a bundle of `commit` and the given text files in `in`; `work` empty."""
        self.folder.mkdir(mode=0o711, exist_ok=True)
        self.folder.chmod(0o711)
        for part in ("in", "work"):
            (self.folder / part).mkdir(mode=0o755)
            (self.folder / part).chmod(0o755)
        repo.keep(name, commit)
        repo.bundle(name, self.folder / "in" / "base.bundle")
        for file, text in files.items():
            (self.folder / "in" / file).write_text(text, encoding="utf-8")
        for path in (self.folder / "in").iterdir():
            path.chmod(0o644)
        self._give(self.folder / "work")

    def command(self, argv: Sequence[str], ref: str, env: Mapping[str, str], binds: Sequence[str]) -> list[str]:
        """The argv that checks the bundle out in `work` and then becomes `argv`."""
        placed = {"GT_BUNDLE": self.place("/in/base.bundle"), "GT_REF": ref}
        line = ["/bin/sh", "-c", CHECKOUT, "checkout", *argv]
        return self.box.command(line, self.mounts, cwd="/work", env={**GIT_ENV, **placed, **env}, binds=binds)

    def place(self, inside: str) -> str:
        """The path by which a command of this clone finds `inside`."""
        return self.box.place(self.mounts, inside)

    def inspect(self, base: str) -> Found:
        """What the clone holds now, and a bundle of what is ahead of `base`.

        A second command in the box looks, after the first one and all its
        processes have ended; what it writes is read as hostile.
        """
        out = Path(tempfile.mkdtemp(prefix="out-", dir=self.folder))
        self._give(out)
        mounts = [*self.mounts, Mount("/out", out, writable=True)]
        env = {**GIT_ENV, "GT_OUT": self.box.place(mounts, "/out"), "GT_BASE": base}
        command = self.box.command(["/bin/sh", "-c", INSPECT], mounts, cwd="/work", env=env)
        done = sandbox.run(command, self.folder / "inspect.log", INSPECT_SECONDS)
        if done.exit:
            raise Refused("the clone that the run left cannot be read by git")
        status = (read_hostile(out / "status", MOST_STATUS) or b"").decode("utf-8", "replace")
        head = (read_hostile(out / "head", 64) or b"").decode("ascii", "replace").strip()
        return Found(status.splitlines(), head, read_hostile(out / "work.bundle", MOST_BUNDLE))

    def _give(self, folder: Path) -> None:
        if self.box.uid != os.geteuid():
            os.chown(folder, self.box.uid, self.box.uid)


def read_hostile(path: Path, most: int) -> bytes | None:
    """The content of a file in a folder that a box wrote to; None when it is not there.

    Refused for links, pipes, devices and anything over `most` bytes.
    """
    try:
        found = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"the run left {path.name} in a form that is not read") from error
    with os.fdopen(found, "rb") as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise Refused(f"the run left {path.name} as something that is not a plain file")
        content = stream.read(most + 1)
    if len(content) > most:
        raise Refused(f"the run left {path.name} larger than {most} bytes")
    return content
