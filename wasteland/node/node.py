"""One joined wasteland: its handle, key, database, hub and clock.  The verbs are functions of a Node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.dolt.server import Server
from wasteland.errors import NotFound, Refused
from wasteland.local import config as configuration
from wasteland.local.config import Config, Paths
from wasteland.local.steps import step
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.hub import Branch, Hub
    from wasteland.local.journal import Journal
    from wasteland.local.keys import Key, KeyStore


def utc_now() -> datetime:
    """The time, in UTC, whole seconds: what the commons can keep."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Node:
    """What a verb works with.  `notices` are said on stderr after the result."""

    config: Config
    paths: Paths
    clock: Callable[[], datetime] = utc_now
    notices: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    saw_upstream: bool = False  # whether upstream has told this command what it holds
    say: Callable[[str], None] = lambda _: None  # progress, and what must be read before the command goes on

    @property
    def handle(self) -> str:
        """This rig's name in the wasteland."""
        return self.config.rig_handle

    @cached_property
    def home(self) -> Path:
        """The folder that Dolt takes for the user's."""
        return binary.dolt_home(self.paths.data)

    @cached_property
    def db(self) -> Database:
        """The clone's database."""
        return open_database(self.config, self.home)

    @cached_property
    def hub(self) -> Hub | None:
        """Where the forks and pull requests are; None where the provider has no pull requests."""
        return open_hub(self.config, self.paths, lambda text: self.say(text))

    @cached_property
    def upstream_remote(self) -> str:
        """The remote that is upstream: a creator's or direct clone has only `origin`."""
        return "upstream" if "upstream" in self._remotes else "origin"

    @cached_property
    def has_remotes(self) -> bool:
        """Whether there is anywhere to push to: a wasteland made with --local-only has nothing."""
        return bool(self._remotes)

    @cached_property
    def _remotes(self) -> frozenset[str]:
        return frozenset(self.db.remotes())

    @cached_property
    def keystore(self) -> KeyStore:
        """The user's keys."""
        from wasteland.local.keys import KeyStore

        return KeyStore(self.paths.keys, "file" if configuration.setting("WL_KEYSTORE") == "file" else "auto")

    @cached_property
    def key(self) -> Key | None:
        """This rig's key, or None where it has none yet."""
        try:
            return self.keystore.load(self.handle)
        except NotFound:
            return None

    @cached_property
    def journal(self) -> Journal:
        """The journal of what this rig has signed."""
        from wasteland.local.journal import Journal

        return Journal(self.paths.keys / f"{self.handle}.journal")

    def fork_branch(self, name: str) -> Branch:
        """A branch of this rig's fork, on the hub."""
        from wasteland.hub import Branch

        return Branch(self.config.fork_org, self.config.fork_db, name)

    @property
    def upstream_main(self) -> Branch:
        """Upstream's main, on the hub."""
        from wasteland.hub import Branch

        return Branch(self.config.org, self.config.db, "main")

    def notice(self, text: str) -> None:
        """Something that the user should know and that is not the result."""
        self.notices.append(text)

    def upstream_answered(self) -> None:
        """What the clone holds of upstream is true now; when that was is kept for commands that cannot ask."""
        self.saw_upstream = True
        with contextlib.suppress(OSError):  # a refusal then names no time; nothing else reads it
            self._seen_file.touch()

    @property
    def upstream_seen_at(self) -> datetime | None:
        """When upstream told last what it holds; None where no command noted it."""
        try:
            return datetime.fromtimestamp(self._seen_file.stat().st_mtime, UTC)
        except OSError:
            return None

    @property
    def _seen_file(self) -> Path:
        return self.db.server.folder / "upstream.seen"

    def settled(self) -> None:
        """What was signed may have left this machine: its place in the chain is taken for good."""
        for sha in self.pending:
            self.journal.mark_published(sha)
        self.pending.clear()
        step("settled")

    def unsettled(self) -> None:
        """A commit failed, perhaps after it was made: the next signature looks for it before it goes on."""
        self.pending.clear()

    def void(self) -> None:
        """What was signed has certainly not left this machine: its place in the chain is free again."""
        for sha in self.pending:
            self.journal.mark_void(sha)
        self.pending.clear()

    def close(self) -> None:
        """End the sessions."""
        if "db" in self.__dict__:
            self.db.close()
        if self.__dict__.get("hub") is not None:
            self.__dict__["hub"].finish()


def kept_name(branch: str, head: str) -> str:
    """The name under which a branch that lost against upstream is kept."""
    return f"lost/{branch.removeprefix('wl/')}-{head[:8]}"


def open_node(upstream: str | None, where: Paths | None = None) -> Node:
    """The node of the wasteland named, or of the only one joined."""
    where = where or configuration.paths()
    return Node(configuration.load(where, upstream), where)


def open_database(config: Config, home: Path) -> Database:
    """The database of a clone; the server starts with the first question."""
    idle = configuration.seconds("WL_SERVER_IDLE") or config.node.get("server_idle")
    extra = {}
    for name in ("HOME", "GNUPGHOME"):
        if value := configuration.setting(name):
            extra[name] = value
    server = Server(config.clone, home, idle=float(idle) if idle else None, extra_env=extra)
    signing = (binary.signing_key(home) or "") if config.signing else None
    return Database(server, author=author(config, home), signing_key=signing)


def author(config: Config, home: Path) -> str:
    """Who Dolt's commits are by: the user's name or the handle, and the address that was to be published, if any.

    Else the address goes nowhere.
    """
    name = binary.user_name(home) or config.rig_handle
    email = config.node.get("commit_email") or f"{config.rig_handle}@wasteland.invalid"
    clean = "".join(char for char in name if char not in "<>\n")
    return f"{clean} <{email}>"


def open_hub(config: Config, paths: Paths, say: Callable[[str], None] = lambda _: None) -> Hub | None:
    """The hub of a wasteland; None where its provider has no pull requests.

    Raises Unreachable where the hub's address is new here and does not answer.
    """
    if config.provider_type == "file" and config.upstream_url.startswith("file://"):
        from wasteland.hub.local import LocalHub

        folder = Path(config.upstream_url.removeprefix("file://")).parent.parent
        return LocalHub(folder, binary.dolt_home(paths.data))
    base = hub_base(config)
    if base is None:
        return None
    from wasteland.hub.credentials import find_token
    from wasteland.hub.dolthub import DolthubHub, discover
    from wasteland.hub.site import cache_folder

    token = find_token(base, paths)
    return DolthubHub(discover(base, cache_folder(paths)), token.value if token else None, cache_folder(paths), say=say)


def hub_base(config: Config) -> str | None:
    """The address of the hub's API; None where there is none.  A peer's file names DoltHub's remote and no hub."""
    from wasteland.hub import site

    if config.provider_type != "dolthub":
        return None
    if named := config.node.get("hub"):
        return str(named)
    return site.DOLTHUB if config.upstream_url.startswith((site.DOLTHUB_REMOTE + "/", site.DOLTHUB + "/")) else None


def need_hub(node: Node) -> Hub:
    """The node's hub; Refused where its provider has no pull requests."""
    hub = node.hub
    if hub is None:
        raise Refused(
            f"{node.config.upstream} has no pull requests that this program can reach: its provider is "
            f"{node.config.provider_type!r}",
            hint="where it has a hub: wl config set hub URL; where you may push: wl config set mode wild-west",
        )
    return hub
