"""Town: the folders, the ledger, the clock and the box of one town."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gastown import sandbox
from gastown.errors import Conflict, Misconfigured, NotFound, Refused, Usage
from gastown.git import Repo
from gastown.ledger import Ledger
from gastown.models import Rig
from gastown.sandbox import Box
from gastown.text import show

MARK = Path(".gt") / "ledger.db"
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - a folder of ours in it is checked for its owner


def utc_now() -> datetime:
    """The time, UTC-aware."""
    return datetime.now(UTC)


def find(named: str | None, env: Mapping[str, str], cwd: Path) -> Path:
    """The town that is meant: `--town`, else GT_TOWN, else upwards from here; NotFound."""
    said = named or env.get("GT_TOWN")
    if said:
        if not (Path(said) / MARK).exists():
            raise NotFound(f"there is no town in {said}", hint=f"gt install {said}", about=said)
        return Path(said).resolve()
    for folder in (cwd, *cwd.parents):
        if (folder / MARK).exists():
            return folder
    raise NotFound("this is not in a town", hint="gt install PATH, or say --town PATH")


def install(root: Path, clock: Callable[[], datetime] = utc_now) -> Path:
    """Make a town in `root`; Conflict where there is one already, Usage where its path is not text."""
    root = root.resolve()
    if any("\ud800" <= char <= "\udfff" for char in str(root)):
        raise Usage(f"a town cannot be in {show(root)}: the path is not text in UTF-8", hint="use another folder")
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    (root / ".gt").mkdir(mode=0o700, exist_ok=True)
    Ledger.create(root / MARK)
    town = Town(root, clock)
    with town.ledger.tx():
        town.ledger.event("town.installed", str(root))
    town.close()
    return root


class Town:
    """One town, opened.  Close it, or use it with `with`.

    `rigs` holds the town's own repositories, `logs` those of gates, `reports`
    what was handed to the Wasteland; only the host's user sees these.  `runs`
    is the folder that boxes reach into.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.root = root
        self.clock = clock
        self.ledger = Ledger(root / MARK, clock)
        self.rigs, self.logs, self.reports = (self._private(name) for name in ("rigs", "logs", "reports"))
        self.runs = runs_folder(root)
        self._box: Box | None = None

    def __enter__(self) -> Town:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def _private(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def box(self) -> Box:
        """The box of this machine; probed once in the life of a supervisor."""
        if self._box is None:
            self._box = sandbox.open_box(self.runs)
            with self.ledger.tx():
                before = (self.ledger.meta("sandbox_level"), self.ledger.meta("sandbox_reasons"))
                found = (self._box.level, "; ".join(self._box.reasons))
                if before != found:
                    self.ledger.set_meta("sandbox_level", found[0])
                    self.ledger.set_meta("sandbox_reasons", found[1])
                    self.ledger.event("sandbox.probed", found[0], reasons=list(self._box.reasons))
        return self._box

    def repo(self, rig: Rig) -> Repo:
        """The town's own repository of a rig, made when it is not there."""
        repo = Repo(self.rigs / f"{rig.name}.git", rig.origin, rig.branch)
        if not (repo.path / "HEAD").exists():
            repo.init()
        return repo

    def run_folder(self, run_id: str) -> Path:
        """The folder of one run; boxes pass through it and cannot list it."""
        return self.runs / run_id

    @contextmanager
    def lock(self, patience: float = 1.0) -> Iterator[None]:
        """Be the town's one supervisor; Conflict where another process is for more than `patience` seconds.

        Some patience is needed: `supervised` holds the lock for a moment.
        """
        until = time.monotonic() + patience
        with (self.root / ".gt" / "lock").open("w", encoding="ascii") as held:
            while True:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= until:
                        raise Conflict("a supervisor runs in this town already", hint="gt down ends it") from error
                    time.sleep(0.02)
            yield

    @property
    def supervised(self) -> bool:
        """True while some process is the supervisor."""
        try:
            with self.lock(patience=0.0):
                return False
        except Conflict:
            return True


def runs_folder(root: Path) -> Path:
    """Where run folders of the town go: where the box's user can reach them.

    In the town, unless this is root and the way there is closed to others; then
    a folder of this town in /var/tmp.
    """
    _, uid = sandbox.unprivileged()
    folder = root / "runs"
    if uid != os.geteuid() and not reachable(root):
        mark = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
        folder = ELSEWHERE / f"gt-{os.geteuid()}-{mark}"
    folder.mkdir(mode=0o711, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Misconfigured("the folder for runs belongs to somebody else", about=str(folder))
    folder.chmod(0o711)
    return folder


def reachable(path: Path) -> bool:
    """True where every user may pass through `path` and all folders above it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def check_bind(town: Town, said: str) -> str:
    """A path that boxes of a rig may read, resolved; Refused where that would open too much.

    It may not be the root, a home folder, or lead to the town or to a home.
    """
    path = Path(said).resolve()
    if not path.exists():
        raise NotFound(f"there is no {said} to bind", about=said)
    home = Path(os.path.expanduser("~")).resolve()
    shut = (home, town.root.resolve(), town.runs.resolve(), Path("/etc"), Path("/proc"), Path("/sys"), Path("/run"))
    inside = town.root.resolve() in path.parents or town.runs.resolve() in path.parents
    if inside or any(path == folder or path in folder.parents for folder in shut):
        raise Refused(f"{path} may not be bound into a box", hint="bind one folder of programs", about=str(path))
    _, uid = sandbox.unprivileged()
    if uid != os.geteuid() and not reachable(path.parent):
        raise Refused(
            f"{path} cannot be reached by the box's user",
            hint="put it where every user may read, such as under /usr/local or /opt",
            about=str(path),
        )
    return str(path)


def sweep(town: Town) -> None:
    """Remove what gates, probes and ended runs left on disk; logs and exit files of runs stay."""
    for left in town.runs.iterdir():
        if left.name.startswith(("gate-", "probe-")):
            shutil.rmtree(left, ignore_errors=True)
    for run in town.ledger.runs():
        if not run.live:
            clear(town.run_folder(run.id))


def clear(folder: Path) -> None:
    """Remove the clone of an ended run."""
    for left in [folder / "in", folder / "work", *folder.glob("out-*")]:
        shutil.rmtree(left, ignore_errors=True)
