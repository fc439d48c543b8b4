"""Files, environment and flags: the one reader of `os.environ`.

`wl`'s own files are taken over as they are and written back with every field
that we do not know:

    $XDG_CONFIG_HOME/wasteland/wastelands/<org>/<db>.json   one joined wasteland
    $XDG_DATA_HOME/wasteland/<org>/<db>                      its clone

What only this node needs lies beside them, where a peer never looks:

    $XDG_CONFIG_HOME/wasteland/node/<org>/<db>.json          pinned identity, settings
    $XDG_CONFIG_HOME/wasteland/keys/                         keys and the signing journal
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from wasteland.errors import Misconfigured, NotFound, Usage
from wasteland.local import private
from wasteland.text import org_db, show
from wasteland.values import dataclass

MODES = ("pr", "wild-west")
Rules = TypeVar("Rules")
RULES_LIMIT = 1 << 20  # bytes of a file of rules
KNOWN = (
    "upstream", "provider_type", "upstream_url", "fork_org", "fork_db", "local_dir", "rig_handle",
    "hop_uri", "joined_at", "mode", "backend", "signing", "last_sync_at",
)  # fmt: skip

OWN = {
    "wasteland_id": str, "roles_sha256": str, "roles_version": int, "seen_upstream": str, "server_idle": int,
    "hub": str, "evidence_hosts": str, "leveled_at": int, "searches": dict,
    "schema_taken": str, "cleaned_upstream": str, "parents": list, "seen_parent": str, "fork_limit": int,
    "commit_email": str,
}  # fmt: skip


@dataclass
class Paths:
    """Where things are, for one user."""

    home: Path
    config: Path
    data: Path

    @property
    def wastelands(self) -> Path:
        """The folder of joined wastelands."""
        return self.config / "wasteland" / "wastelands"

    @property
    def keys(self) -> Path:
        """The folder of keys and journals."""
        return self.config / "wasteland" / "keys"

    def wasteland(self, upstream: str) -> Path:
        """The configuration file of one wasteland."""
        org, db = org_db(upstream)
        return self.wastelands / org / f"{db}.json"

    def node(self, upstream: str) -> Path:
        """This node's own file about one wasteland."""
        org, db = org_db(upstream)
        return self.config / "wasteland" / "node" / org / f"{db}.json"

    def house(self, upstream: str) -> Path:
        """The rules of the house of one wasteland, for its maintainers."""
        org, db = org_db(upstream)
        return self.config / "wasteland" / "policy" / org / f"{db}.toml"

    def clone(self, upstream: str) -> Path:
        """Where the clone of a wasteland goes."""
        org, db = org_db(upstream)
        return self.data / "wasteland" / org / db


@dataclass
class Config:
    """One joined wasteland: the file that a peer's program also reads, and our own beside it."""

    path: Path
    upstream: str
    rig_handle: str
    provider_type: str = "dolthub"
    upstream_url: str = ""
    fork_org: str = ""
    fork_db: str = ""
    local_dir: str = ""
    hop_uri: str = ""
    joined_at: str = ""
    mode: str = "pr"
    backend: str = "local"
    signing: bool = False
    last_sync_at: str = ""
    moved_from: str = ""  # where the file says that the clone is, when that was the usual place of another home
    extra: dict[str, Any] = field(default_factory=dict)
    node_path: Path = Path()
    node: dict[str, Any] = field(default_factory=dict)
    node_read: dict[str, Any] = field(default_factory=dict)  # as it was read or written last

    @property
    def clone(self) -> Path:
        """The local clone."""
        return Path(self.local_dir)

    @property
    def org(self) -> str:
        """The owner of upstream."""
        return self.upstream.partition("/")[0]

    @property
    def db(self) -> str:
        """The database's name at upstream."""
        return self.upstream.partition("/")[2]

    def save(self) -> None:
        """Write the shared file: known fields first, unknown ones kept, atomically."""
        made: dict[str, Any] = {}
        for name in KNOWN:
            value = getattr(self, name)
            if value or name in ("upstream", "rig_handle", "fork_org", "fork_db", "local_dir"):
                made[name] = value
        write_json(self.path, made | self.extra)

    def save_node(self) -> None:
        """Write what we have changed in our own file, atomically; what another command noted there meanwhile stays."""
        there = read_json(self.node_path) if self.node_path.exists() else {}
        newest = max(int(there.get("roles_version", 0)), int(self.node.get("roles_version", 0)))
        ours = {name: value for name, value in self.node.items() if self.node_read.get(name) != value}
        gone = self.node_read.keys() - self.node.keys()
        kept = {name: value for name, value in there.items() if name not in gone}
        self.node = kept | ours | ({"roles_version": newest} if newest else {})
        write_json(self.node_path, self.node)
        self.node_read = copy.deepcopy(self.node)

    def forget(self, names: Iterable[str]) -> None:
        """Remove what is noted in our own file under these names, atomically."""
        there = read_json(self.node_path) if self.node_path.exists() else {}
        self.node = {name: value for name, value in (there | self.node).items() if name not in set(names)}
        write_json(self.node_path, self.node)
        self.node_read = copy.deepcopy(self.node)


def paths() -> Paths:
    """The user's folders, by the XDG variables."""
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))
    return Paths(
        home,
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"),
        Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"),
    )


def setting(name: str) -> str | None:
    """An environment variable of ours, or None; the empty text counts as not set."""
    return os.environ.get(name) or None


def seconds(name: str) -> float | None:
    """An environment variable that is a number of seconds, or None; Misconfigured where it is something else."""
    text = setting(name)
    try:
        found = None if text is None else float(text)
    except ValueError:
        found = -1
    if found is not None and not 0 < found <= 86400:
        raise Misconfigured(f"{name} must be a number of seconds, at most 86400", about=name)
    return found


def joined(where: Paths) -> list[str]:
    """The upstreams of all joined wastelands, by name."""
    return sorted(f"{file.parent.name}/{file.stem}" for file in where.wastelands.glob("*/*.json"))


def load(where: Paths, upstream: str | None) -> Config:
    """The wasteland named, or the only one joined.

    Raises NotFound when none or another is joined, Usage when several are and
    none was named, Misconfigured when the file cannot be read.
    """
    known = joined(where)
    if upstream is None:
        if not known:
            raise NotFound("this rig has not joined a wasteland", hint="wl join <org/db>, or: wl create <org/db>")
        if len(known) > 1:
            raise Usage(
                "several wastelands are joined: " + ", ".join(known), hint="choose one with --wasteland <org/db>"
            )
        upstream = known[0]
    if upstream not in known:
        org_db(upstream)
        raise NotFound(f"this rig has not joined {show(upstream)}", about=upstream, hint=f"wl join {show(upstream)}")
    return read(where, upstream)


def read(where: Paths, upstream: str) -> Config:
    """One wasteland's files as a Config; Misconfigured where they make no sense."""
    path = where.wasteland(upstream)
    found = read_json(path)
    if not isinstance(found.get("rig_handle"), str) or found.get("upstream") != upstream:
        raise Misconfigured(
            f"{path} does not describe {upstream}: rig_handle or upstream is missing or differs", about=str(path)
        )
    known = {name: found[name] for name in KNOWN if found.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, bool if name == "signing" else str):
            raise Misconfigured(f"{path}: {name} has the wrong type", about=str(path))
    made = Config(path=path, extra={name: v for name, v in found.items() if name not in KNOWN}, **known)
    made.mode = made.mode or "pr"
    if made.mode not in MODES:
        raise Misconfigured(f"{path}: mode must be one of {', '.join(MODES)}", about=str(path))
    _find_clone(made, where.clone(upstream))
    made.node_path = where.node(upstream)
    made.node = read_json(made.node_path) if made.node_path.exists() else {}
    made.node_read = copy.deepcopy(made.node)
    for name, kind in OWN.items():
        if not isinstance(made.node.get(name), kind | None):
            raise Misconfigured(f"{made.node_path}: {name} has the wrong type", about=str(made.node_path))
    return made


def _find_clone(config: Config, usual: Path) -> None:
    """The clone is where the file says, unless that was the usual place and the user's home has moved since."""
    named = config.clone
    if not config.local_dir:
        config.local_dir = str(usual)
    elif named.parts[-3:] == usual.parts[-3:] and not named.exists() and (usual / ".dolt").is_dir():
        config.moved_from, config.local_dir = config.local_dir, str(usual)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; Misconfigured where it is none."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise Misconfigured(f"cannot read {path}: {error}", about=str(path), hint="mend or remove the file") from error
    if not isinstance(found, dict):
        raise Misconfigured(f"{path} must hold one JSON object", about=str(path))
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """A file of rules; Misconfigured where it is none, is too long, or others can change it."""
    import tomllib

    try:
        with path.open("rb") as file:
            about, data = os.fstat(file.fileno()), file.read(RULES_LIMIT + 1)
        if about.st_mode & 0o022 or about.st_uid not in (os.getuid(), 0):
            raise Misconfigured(f"others can change {path}", about=str(path), hint=f"chmod 600 {path}")
        if len(data) > RULES_LIMIT:
            raise Misconfigured(f"{path} is longer than {RULES_LIMIT >> 10} KiB", about=str(path))
        return tomllib.loads(data.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise Misconfigured(f"cannot read {path}: {error}", about=str(path), hint="mend or remove the file") from error


def rules(path: Path, parse: Callable[[dict[str, Any]], Rules]) -> Rules | None:
    """What `parse` makes of a file of rules; None where there is no file."""
    if not path.exists():
        return None
    found = read_toml(path)
    try:
        return parse(found)
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error.message}", about=str(path), hint=error.hint) from error


def write_rules(path: Path, text: str) -> None:
    """A file of rules of mode 0600, where there is none yet; FileExistsError where there is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process at a time, by a lock on `file`."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON object to a file of mode 0600: whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private.write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
