"""The `dolt` program: found, its environment made, and started for one-shot calls.  Nothing else starts it.

A Dolt on PATH is taken from 1.82.4 on, else the one that `scripts/setup`
built into the user's data directory.  It runs with an environment that is
named word by word, so that no token of the user's reaches it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasteland.errors import Misconfigured, Unreachable, WastelandError
from wasteland.local import private
from wasteland.text import reason, show

if TYPE_CHECKING:
    from subprocess import CompletedProcess, Popen

NEEDED = (1, 82, 4)
PASSED = (
    "PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GNUPGHOME",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
# A failure of these is most often the other side's; nothing was lost by it, and it may be tried again.
REMOTE = frozenset({"clone", "fetch", "pull", "push"})
ODD = re.compile(r"[%\\\x00-\x1f\x7f\ud800-\udfff]")
ODD_REMOTE = re.compile(r"[%#?\\\x00-\x1f\x7f\ud800-\udfff]")
STALE, LEFT = 60, 7 * 86400  # seconds after which a temporary file of Dolt's is litter: an empty one, and any
WRITTEN = "dolt-version"  # beside a database: the newest Dolt that wrote to it
WRITTEN_BY = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})\s*")
PANIC = re.compile(r"^(?:.*caught )?panic: *(.*)$", re.MULTILINE)
FRESH = "; or move the clone away, then wl leave and wl join make another"
COPIED = ("user.name", "user.creds", "sqlserver.global.signingkey")


def data_dir() -> Path:
    """The user's data directory."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def find() -> Path:
    """The `dolt` to use: WL_DOLT, else PATH, else ours; Misconfigured where there is none new enough."""
    named = os.environ.get("WL_DOLT")
    if named:
        if not os.access(named, os.X_OK):
            raise Misconfigured(f"WL_DOLT names {named}, which is not a program", about=named)
        have = version(Path(named))
        if have < NEEDED:
            is_ = f"Dolt {dotted(have)}; {dotted(NEEDED)} or later is needed" if any(have) else "not a Dolt that runs"
            raise Misconfigured(f"WL_DOLT names {named}, which is {is_}", about=named)
        return Path(named).absolute()
    ours = data_dir() / "wasteland" / "bin" / "dolt"
    found = _on_path()
    if found:
        have = version(found)
        if have >= NEEDED:
            return found
        if not ours.exists():
            raise Misconfigured(
                f"the Dolt on PATH is {dotted(have)}; {dotted(NEEDED)} or later is needed", hint="run scripts/setup"
            )
    if os.access(ours, os.X_OK):
        return ours
    raise Misconfigured("Dolt is not installed", hint="run scripts/setup, which builds it once")


def _on_path() -> Path | None:
    """The first `dolt` on PATH; folders that are not absolute are passed over, since they move with us."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = Path(folder) / "dolt"
        if program.is_absolute() and program.is_file() and os.access(program, os.X_OK):
            return program
    return None


def dotted(version: Sequence[int]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def version(program: Path) -> tuple[int, ...]:
    """The version of a `dolt`, remembered by path, size and time of change: asking costs 70 ms.

    All zeros where it says none.
    """
    import json

    stat = program.stat()
    key = f"{program}:{stat.st_size}:{stat.st_mtime_ns}"
    cache = data_dir() / "wasteland" / "dolt-version.json"
    try:
        known = json.loads(cache.read_text())
        if known["key"] == key:
            return tuple(known["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = _ask(program)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        private.write(cache, json.dumps({"key": key, "version": found}).encode(), lasting=False)
    except OSError:
        pass
    return found


def _ask(program: Path) -> tuple[int, ...]:
    import subprocess

    home = dolt_home(data_dir())
    try:
        done = subprocess.run(
            [str(program), "version"], env=environment(home), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0, 0)
    found = re.search(r"dolt version (\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups()) if found else (0, 0, 0)


def environment(home: Path) -> dict[str, str]:
    """The whole environment of a Dolt process."""
    found = {name: os.environ[name] for name in PASSED if name in os.environ}
    if not os.path.isfile(found.get("SSL_CERT_FILE", "")):  # Go would believe no certificate at all
        found.pop("SSL_CERT_FILE", None)
    return found | {
        "DOLT_ROOT_PATH": str(home), "TZ": "UTC", "DOLT_USE_ADAPTIVE_ENCODING": "false", "NO_COLOR": "1",
        "DOLT_DISABLE_EVENT_FLUSH": "1",  # else each start starts another Dolt, which sends what was done, or may not
        **_scratch(home),
    }  # fmt: skip


def _scratch(home: Path) -> dict[str, str]:
    """A folder of our own for Dolt's temporary files: it leaves an empty one each time that it starts.

    Those are swept, and after days also what one that was killed had in it.
    """
    folder = home / "tmp"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = time.time()
        with os.scandir(folder) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                old = now - found.st_mtime > (LEFT if found.st_size else STALE)
                if old and entry.is_file(follow_symlinks=False):
                    os.unlink(entry)
    except OSError:
        return {}
    return {"TMPDIR": str(folder)}


def fit(folder: Path, *, remote: bool = False) -> None:
    """See that Dolt can work in `folder`, or with remotes in it; Misconfigured names what in its path it cannot.

    Dolt reads a folder's path as part of an address, so it takes these for something else.
    """
    odd = ODD_REMOTE if remote else ODD
    if found := odd.search(str(folder)):
        raise Misconfigured(
            f"Dolt cannot work in {show(folder)}: the path holds {_called(found[0])}",
            about=show(folder),
            hint="use a folder without it"
            + ("" if remote else "; with XDG_DATA_HOME and XDG_CONFIG_HOME wl keeps its files elsewhere"),
        )


def admit(program: Path, data: Path, beside: Path, hint: str = FRESH) -> tuple[int, ...]:
    """Let a `dolt` write to the databases in `data`, and remember its version in `beside`.

    Gives the newest version that wrote there before.  Misconfigured where that
    is newer than `program`: an older Dolt panics on some of what a newer one
    has written.  Where nothing can be written nothing is remembered, and
    reading goes on.
    """
    before, have = written_by(beside), version(program)
    if have < before:
        raise Misconfigured(
            f"{show(data)} was last written to by Dolt {dotted(before)}, and {program} is {dotted(have)}: "
            "an older one may not be able to read it",
            about=str(data),
            hint=f"use {dotted(before)} or later: WL_DOLT=/path/to/dolt{hint}",
        )
    remember(beside, have)
    return before


def written_by(beside: Path) -> tuple[int, ...]:
    """The newest version of Dolt that wrote to a database, as remembered beside it; empty where nothing is known."""
    try:
        found = WRITTEN_BY.fullmatch((beside / WRITTEN).read_text())
    except (OSError, ValueError):
        return ()
    return tuple(map(int, found.groups())) if found else ()


def remember(beside: Path, version: Sequence[int]) -> None:
    """Write down which Dolt last wrote to a database, as far as the disk lets one."""
    note = beside / WRITTEN
    if written_by(beside) == tuple(version):
        return
    with contextlib.suppress(OSError):
        if not version:
            note.unlink(missing_ok=True)
            return
        private.write(note, f"{dotted(version)}\n".encode(), lasting=False)


def broke_down(words: str, program: Path, data: Path, hint: str = FRESH) -> Misconfigured | None:
    """What is said of a Dolt that panicked, by its last words; None where it did not."""
    found = PANIC.search(words)
    if found is None:
        return None
    return Misconfigured(
        f"Dolt {dotted(version(program))} broke down on {show(data)}: {reason(found[1])}",
        about=str(data),
        hint=f"a newer Dolt may have written to it; use that one: WL_DOLT=/path/to/dolt{hint}",
    )


def _called(char: str) -> str:
    if "\ud800" <= char <= "\udfff":
        return "bytes that are not UTF-8"
    return repr(char) if char.isprintable() else f"a control character (U+{ord(char):04X})"


def dolt_home(data: Path) -> Path:
    """The node's own Dolt home, made at the first call: no metrics, the user's identity and credentials."""
    import json

    home = data / "wasteland" / "dolt-home"
    settings = _user_settings() | {"metrics.disabled": "true", "versioncheck.disabled": "true"}
    if "@" in settings.setdefault("user.name", "wasteland"):
        settings["user.name"] = "wasteland"
    settings["user.email"] = "node@wasteland.invalid"  # the user's own is published on request only
    file = home / ".dolt" / "config_global.json"
    _link_creds(home)
    _keep_own_key(home, settings)
    text = json.dumps(settings, sort_keys=True)
    try:
        if file.read_text() == text:
            return home
    except OSError:
        pass
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.parent.chmod(0o700)
    made = file.with_suffix(f".{os.getpid()}")
    made.write_text(text)
    os.replace(made, file)
    return home


def _link_creds(home: Path) -> None:
    """Let the node use the keys of `dolt login`, wherever the user's folder of them is by now."""
    creds = _user_home() / ".dolt" / "creds"
    link = home / ".dolt" / "creds"
    if not creds.is_dir() or link == creds or (link.exists() and not link.is_symlink()):
        return
    if link.is_symlink() and os.readlink(link) == str(creds):
        return
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = link.with_name(f"creds.{os.getpid()}")
    made.unlink(missing_ok=True)
    made.symlink_to(creds)
    os.replace(made, link)


def _keep_own_key(home: Path, settings: dict[str, Any]) -> None:
    """Leave the key selected that `dolt creds new` made for the node, where it can reach none of the user's."""
    creds = home / ".dolt" / "creds"
    if "user.creds" in settings and (creds.is_symlink() or not creds.is_dir()):
        return
    own = _settings_in(home).get("user.creds")
    if isinstance(own, str) and (creds / f"{own}.jwk").is_file():
        settings["user.creds"] = own


def _user_home() -> Path:
    return Path(os.environ.get("DOLT_ROOT_PATH") or os.environ.get("HOME") or Path.home())


def _user_settings() -> dict[str, Any]:
    found = _settings_in(_user_home())
    return {name: found[name] for name in COPIED if isinstance(found.get(name), str)}


def _settings_in(home: Path) -> dict[str, Any]:
    """Dolt's global settings under a home; empty where there are none that can be read."""
    import json

    try:
        found = json.loads((home / ".dolt" / "config_global.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def user_name(home: Path) -> str | None:
    """The name that the user has given to Dolt, where there is one that is no address."""
    found: str | None = _user_settings().get("user.name")
    return found if found and "@" not in found else None


def signing_key(home: Path) -> str | None:
    """The GPG key that the user has set for Dolt's commits."""
    found: str | None = _user_settings().get("sqlserver.global.signingkey")
    return found


def run(
    args: Sequence[str],
    *,
    cwd: Path,
    env: dict[str, str],
    timeout: float = 120,
    input: str | None = None,
    check: bool = True,
) -> CompletedProcess[str]:
    """Run `dolt` once; Unreachable when it does not end in time, WastelandError with its words when it fails."""
    import subprocess

    fit(cwd)
    found = find()
    beside = cwd.parent / f".{cwd.name}.node"
    if (beside / WRITTEN).exists():
        admit(found, cwd, beside)
    program = str(found)
    what = f"dolt {show(args[0])}"
    try:
        process = subprocess.Popen(
            [program, *args], cwd=cwd, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Misconfigured(f"{what} could not be started: {show(error)}", about=program) from error
    try:
        out, err = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise Unreachable(f"{what} did not end within {timeout:.0f} s", about=args[0]) from error
    except BaseException:
        _end(process)
        raise
    if check and process.returncode:
        if panicked := broke_down(err, found, cwd):
            raise panicked
        kind = Unreachable if args[0] in REMOTE else WastelandError
        raise kind(f"{what} failed: {reason(err, '') or reason(out)}", about=args[0])
    return subprocess.CompletedProcess([program, *args], process.returncode, out, err)


def _end(process: Popen[str]) -> None:
    """Kill a `dolt` with all that it has started (gpg, git)."""
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
