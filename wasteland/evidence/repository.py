"""Where the commits of some evidence are, as a place that git may be sent to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from wasteland.addresses import without_secrets
from wasteland.errors import Misconfigured, NotFound, Refused, Unreachable, Usage
from wasteland.evidence import fetch
from wasteland.evidence.fetch import Reach
from wasteland.node.node import Node
from wasteland.text import show
from wasteland.trust.manifest import line

if TYPE_CHECKING:
    from wasteland.evidence.gitread import Scratch, Source

REFS_OF = "/info/refs?service=git-upload-pack"
SMART = "application/x-git-upload-pack-advertisement"  # the older protocol may name other hosts to go to
MISSING = (401, 404, 410, 451)  # 401: a repository that is private, or that never was; hosts do not tell which
SSH = re.compile(r"(?:ssh://)?[\w.-]+@([a-zA-Z0-9.-]+)[:/](?!/)([\w./~-]+)\Z", re.ASCII)
HTTPS = re.compile(r"https://(?:[^/?#@]*@)?([a-zA-Z0-9.-]+(?::[0-9]+)?)/([\w./~-]+)\Z", re.ASCII)


def reach_of(node: Node) -> Reach:
    """What this node may fetch: from the hosts that everybody may, and from those that its user added."""
    added = node.config.node.get("evidence_hosts")
    if added is None:
        return Reach()
    if not isinstance(added, str):
        raise Misconfigured(f"{node.config.node_path}: evidence_hosts must be names between commas")
    return Reach(hosts=fetch.HOSTS | fetch.hosts_of(added))


def remote(url: str, reach: Reach) -> Source:
    """The repository at an https URL, its host looked up and checked.

    Refused where that may not be asked, NotFound where the host says that
    there is none, Unreachable where it says nothing that helps.
    """
    from wasteland.evidence.gitread import Source

    if any(char in url for char in "?#"):
        raise Refused(f"this is not the address of a repository: {show(url)}", about=show(url))
    answer = fetch.probe(url.rstrip("/") + REFS_OF, reach, {"Git-Protocol": "version=2"})
    if answer.status in MISSING:
        raise NotFound(f"there is no repository at {show(url)} that everybody may read ({answer.status})", about=url)
    if answer.status != 200 or answer.media_type != SMART or not answer.url.endswith(REFS_OF):
        raise Unreachable(f"{show(url)} answers {answer.status}, as no repository does", about=url)
    return Source(answer.url.removesuffix(REFS_OF), answer.pin, reach.cafile)


def named(text: str, reach: Reach) -> Source:
    """The repository that the user names: an https URL as everybody's, or a path of this machine."""
    from wasteland.evidence.gitread import Source

    if text.lower().startswith("https://"):
        return remote(text, reach)
    path = text.removeprefix("file://")
    if "://" in path:
        raise Usage(f"invalid repository {show(text)!r}: give a path of this machine or an https URL")
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise NotFound(f"there is no repository at {show(folder)}", about=str(folder))
    return Source(str(folder))


def public_name(source: Source, scratch: Scratch) -> str:
    """How others are told of a repository: its URL, or its folder's name; a path of this machine stays here."""
    if source.pin:
        return without_secrets(source.origin)
    folder = Path(source.origin)
    url = scratch.origin_of(folder) or ""
    found = HTTPS.match(url) or SSH.match(url)
    if found and line(f"https://{found[1]}/{found[2]}"):
        return without_secrets(f"https://{found[1]}/{found[2]}")
    return folder.name if line(folder.name) else "repository"
