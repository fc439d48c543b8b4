"""A clone in the making: where its databases are, one command at a time, and nothing left of one that failed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from wasteland.dolt import binary
from wasteland.dolt.server import Server
from wasteland.errors import Conflict, Unauthenticated, Usage
from wasteland.local import config as configuration
from wasteland.local.config import Config, Paths
from wasteland.member.registration import Person
from wasteland.node.node import Node, utc_now
from wasteland.text import org_db
from wasteland.values import dataclass

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a wasteland's databases are: the provider, the URL of upstream, and the hub's address, where it has one."""

    provider: str
    url: str
    hub: str | None = None

    @property
    def name(self) -> str:
        """The place in words."""
        return self.hub or self.url.removeprefix("file://").rpartition("/")[0].rpartition("/")[0]


def place(where: Paths, upstream: str, remote_base: str | None, hub: str | None = None) -> Place:
    """Where `upstream` is: in a folder, at the hub named, at WL_HUB, or at DoltHub.

    Usage for an address that is none, Unreachable where a hub does not answer,
    Unauthenticated where there is no token for it.
    """
    org, db = org_db(upstream)
    if remote_base is not None:
        if hub is not None:
            raise Usage("--remote-base and --hub exclude each other")
        if "://" in remote_base:
            raise Usage("--remote-base is a folder, not an address", hint="--hub URL names a hub")
        binary.fit(Path(remote_base).absolute(), remote=True)
        return Place("file", f"file://{Path(remote_base).absolute()}/{org}/{db}")
    from wasteland.hub.credentials import find_token
    from wasteland.hub.site import DOLTHUB, base_url, cache_folder, discover

    base = base_url(hub or configuration.setting("WL_HUB") or DOLTHUB)
    if find_token(base, where) is None:
        hint = "wl login, or DOLTHUB_TOKEN; or --remote-base <folder>" if base == DOLTHUB else f"wl login --hub {base}"
        raise Unauthenticated(f"there is no token for {base}", hint=hint)
    return Place("dolthub", f"{discover(base, cache_folder(where)).remote}/{org}/{db}", base)


def fresh(where: Paths, upstream: str) -> Path:
    """Where the clone goes; what an interrupted create or join left there is removed first.

    Misconfigured when Dolt cannot work there, Conflict when a clone lies there that holds somebody's work.
    """
    clone = where.clone(upstream)
    binary.fit(clone)
    clear_leftover(clone)
    if clone.exists() and any(clone.iterdir()):
        raise Conflict(f"{clone} already exists", about=str(clone), hint="wl join takes it up again; or move it away")
    return clone


def clear_leftover(clone: Path) -> None:
    """Remove a clone that was being made when its command was killed: nobody was told that it exists."""
    clone.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = Server(clone, clone)
    if server.being_made:
        server.stop()
        shutil.rmtree(clone, ignore_errors=True)
        shutil.rmtree(server.folder, ignore_errors=True)


def alone(where: Paths, upstream: str) -> AbstractContextManager[None]:
    """One create or join of a wasteland at a time: what one begins, another must not take for a leftover."""
    org, db = org_db(upstream)
    return configuration.locked(where.data / "wasteland" / org / f".{db}.join.lock")


def config_for(where: Paths, upstream: str, who: Person, spot: Place, fork_org: str, clone: Path) -> Config:
    """The configuration of a wasteland that is being joined, with what was pinned when it was joined before."""
    return Config(
        path=where.wasteland(upstream), upstream=upstream, rig_handle=who.handle, provider_type=spot.provider,
        upstream_url=spot.url, fork_org=fork_org, fork_db=org_db(upstream)[1], local_dir=str(clone),
        hop_uri=who.hop_uri, joined_at=utc_now().strftime("%Y-%m-%dT%H:%M:%SZ"), mode="pr", backend="local",
        node_path=where.node(upstream),
        node=_pins(where, upstream) | ({"hub": spot.hub} if spot.hub else {})
        | ({"commit_email": who.email} if who.email else {}),
    )  # fmt: skip


def _pins(where: Paths, upstream: str) -> dict[str, Any]:
    """What was pinned when this user joined before: leaving a wasteland does not forget who it was."""
    path = where.node(upstream)
    return configuration.read_json(path) if path.exists() else {}


def undo(node: Node, known: Config | None = None) -> None:
    """Leave nothing of a failed create or join on this machine; a clone and a configuration from before stay."""
    node.close()
    clear_leftover(node.config.clone)
    if known is None:
        node.config.path.unlink(missing_ok=True)
