"""The box that agents and gates run in, and the probe that says how good it is.

    L2   bubblewrap: own file tree, processes, users and an empty network
    L0   nothing; refuses claimed work

The level is decided by trying to get out (`probe.py`), never by looking at
versions.  As root the box runs as an unprivileged user: root in a box is
still root to parts of /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gastown import probe, shim
from gastown.text import reason

NOBODY = 65534
PROBE_TIMEOUT = 20.0
TMP_SIZE = str(1 << 30)
SCRATCH = ("/tmp", "/home")  # noqa: S108 - inside the box, where each is empty and its own
LIMITS = ("--nproc=512", "--nofile=4096", f"--fsize={2 << 30}", "--core=0")
ROOTS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = ("/etc/ssl", "/etc/alternatives", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Mount:
    """A folder of the host at a path inside the box."""

    inside: str
    host: Path
    writable: bool = False


@dataclass(frozen=True)
class Box:
    """How to run a command at a level.

    `reasons` says why the level is not higher; `drop` is the command that
    changes to an unprivileged user, empty for an ordinary user; `uid` is the
    user that the box runs as, seen from the host.
    """

    level: str
    reasons: tuple[str, ...]
    drop: tuple[str, ...]
    uid: int
    etc: Path

    @property
    def network(self) -> str:
        """What a command reaches: `none` in a box, else `host`."""
        return "none" if self.level == "L2" else "host"

    def place(self, mounts: Sequence[Mount], inside: str) -> str:
        """The path by which a command at this level finds `inside`."""
        if self.level == "L2":
            return inside
        for mount in mounts:
            if inside == mount.inside or inside.startswith(mount.inside + "/"):
                return str(mount.host) + inside[len(mount.inside) :]
        return inside

    def command(
        self,
        argv: Sequence[str],
        mounts: Sequence[Mount],
        *,
        cwd: str,
        env: Mapping[str, str],
        binds: Sequence[str] = (),
    ) -> list[str]:
        """The whole argv that runs `argv` at this level, with exactly this environment.

        `cwd` is a path inside; `binds` are read-only at their own paths.
        """
        base = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **env}
        if self.level == "L2":
            return [*self.drop, *_bwrap(self.etc, mounts, binds, cwd, base), *_limits(), *argv]
        home = self.place(mounts, "/work")
        given = [f"{key}={value}" for key, value in {"HOME": home, **base}.items()]
        return [*self.drop, *_tied(), "/usr/bin/env", "-i", "-C", self.place(mounts, cwd), *given, *argv]


def _bwrap(etc: Path, mounts: Sequence[Mount], binds: Sequence[str], cwd: str, env: Mapping[str, str]) -> list[str]:
    line = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    line += ["--clearenv", "--cap-drop", "ALL", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr"]
    for name in ROOTS:
        root = Path("/") / name
        if root.is_symlink():
            line += ["--symlink", os.readlink(root), str(root)]
        elif root.is_dir():
            line += ["--ro-bind", str(root), str(root)]
    for path in ETC:
        line += ["--ro-bind-try", path, path]
    for name in ("passwd", "group", "hosts"):
        line += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    line += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for path in SCRATCH:
        line += ["--size", TMP_SIZE, "--tmpfs", path]
    line += ["--dir", "/home/agent"]
    for bind in binds:
        line += ["--ro-bind", bind, bind]
    for mount in mounts:
        line += ["--bind" if mount.writable else "--ro-bind", str(mount.host), mount.inside]
    for key, value in {"HOME": "/home/agent", **env}.items():
        line += ["--setenv", key, value]
    return [*line, "--chdir", cwd, "--"]


def _limits() -> list[str]:
    """Limits of the box, set inside it: there they count only its own processes."""
    return ["/usr/bin/prlimit", *LIMITS, "--"] if Path("/usr/bin/prlimit").exists() else []


def _tied() -> list[str]:
    """What makes a command without a box die with the process that started it."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def run(command: Sequence[str], log: Path, seconds: float, cap: int = 4 << 20) -> shim.Ending:
    """Run a made command to its end, its output in `log`; killed after `seconds`."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return shim.supervise(list(command), out, cap=cap, seconds=seconds, stop=lambda: False)
    finally:
        os.close(out)


def unprivileged() -> tuple[tuple[str, ...], int]:
    """The command that drops root, and the user it becomes; nothing to drop for others."""
    if os.geteuid() != 0:
        return (), os.geteuid()
    if not shutil.which("setpriv"):
        return (), 0
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"), NOBODY


def make_etc(folder: Path, uid: int) -> Path:
    """Files of /etc that a box sees; they name its user and nobody else."""
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    made = {
        "passwd": f"agent:x:{uid}:{uid}::/home/agent:/bin/sh\n",
        "group": f"agent:x:{uid}:\n",
        "hosts": "127.0.0.1 localhost sandbox\n",
    }
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o644)
    return folder


def open_box(runs: Path) -> Box:
    """The best box that holds here, found by trying to get out of it.

    `runs` is the folder of run folders, which the box's user must reach.
    """
    drop, uid = unprivileged()
    etc = make_etc(runs / ".etc", uid)
    box = Box("L2", (), drop, uid, etc)
    reasons = _missing(uid) or _probe(box, runs)
    return box if not reasons else Box("L0", tuple(reasons), drop, uid, etc)


def _missing(uid: int) -> list[str]:
    if not shutil.which("bwrap"):
        return ["bubblewrap (bwrap) is not installed"]
    if uid == 0:
        return ["this is root, and setpriv is not there to become an unprivileged user"]
    return []


def _interpreter() -> tuple[str, list[str]]:
    """A Python that runs in the box, and what it needs bound."""
    for name in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(name).exists():
            return name, []
    return str(Path(sys.executable).resolve()), [sys.base_prefix]


def _probe(box: Box, runs: Path) -> list[str]:
    """Why the box does not hold; empty when it does."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir=runs) as name, socket.create_server(("127.0.0.1", 0)) as tcp:
        place = Path(name)
        place.chmod(0o711)
        for folder in ("in", "work"):
            (place / folder).mkdir(mode=0o755)
        (place / "canary").write_text("canary", encoding="utf-8")
        (place / "in" / "probe.py").write_text(Path(probe.__file__).read_text(encoding="utf-8"), encoding="utf-8")
        if box.drop:
            os.chown(place / "work", box.uid, box.uid)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as abstract:
            abstract.bind(f"\0{name}")
            abstract.listen(1)
            python, binds = _interpreter()
            port = str(tcp.getsockname()[1])
            script = 'touch /work/written && exec "$@"'
            argv = ["/bin/sh", "-c", script, "probe", python, "/in/probe.py", str(place / "canary"), port, name]
            mounts = [Mount("/in", place / "in"), Mount("/work", place / "work", writable=True)]
            command = box.command(argv, mounts, cwd="/work", env={}, binds=binds)
            os.environ["GT_PROBE_CANARY"] = "1"
            try:
                done = run(command, place / "log", PROBE_TIMEOUT)
            finally:
                del os.environ["GT_PROBE_CANARY"]
        return _judged(done, (place / "log").read_text(encoding="utf-8", errors="replace"), place)


def _judged(done: shim.Ending, said: str, place: Path) -> list[str]:
    if done.exit or not (place / "work" / "written").exists():
        return [f"a box does not start here: {reason(said, f'it ended with {done.exit}')}"]
    try:
        could = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return ["the probe in the box did not answer"]
    if (place / "work" / "written").lstat().st_uid == 0:
        could.append("be root of the host")
    return [f"from inside the box one can {what}" for what in could]
