"""Where a hub is: its API, its Dolt remotes, its pages, and which generations of the API it speaks.

DoltHub's own places are known.  A hub of `wl hub serve` says them itself; any
other is taken for a DoltLab, whose ports are fixed.  What was found is kept
for a day, so that a command costs no question.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wasteland.errors import Misconfigured, NotFound, Unreachable, Usage
from wasteland.local import config as configuration
from wasteland.local.config import Paths
from wasteland.text import show
from wasteland.values import dataclass

DOLTHUB = "https://www.dolthub.com"
DOLTHUB_HOSTS = ("www.dolthub.com", "dolthub.com")
DOLTHUB_REMOTE = "https://doltremoteapi.dolthub.com"
VERSIONS = ("v2", "v1alpha1")
DOLTLAB_PORT = 50051
KEPT = 86400.0  # seconds


@dataclass(frozen=True)
class Site:
    """One hub; `versions` are the generations of its API, the one to use first, `keys` whether it takes keys by API."""

    api: str
    remote: str
    page: str
    versions: tuple[str, ...]
    keys: bool

    @property
    def host(self) -> str:
        """The host with its port."""
        return urlsplit(self.api).netloc


def base_url(text: str) -> str:
    """The base of a hub as `https://host[:port]`; Usage for what is none, and for one with a password in it."""
    if "@" in text:
        raise Usage("a hub's address must not have a user or token in it", hint="wl login --hub URL asks for the token")
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if (
        parts.scheme not in ("http", "https") or parts.query or parts.fragment or port == -1
        or not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]", parts.netloc.removesuffix(f":{port}"))
        or not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?", parts.path) or not text.isprintable()
    ):  # fmt: skip
        raise Usage(f"{show(text)!r} is not the address of a hub", hint="for example https://www.dolthub.com")
    if is_dolthub(f"{parts.scheme}://{parts.netloc}"):
        return DOLTHUB
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_dolthub(base: str) -> bool:
    """Whether the address is DoltHub's own."""
    parts = urlsplit(base)
    return parts.netloc.lower() in DOLTHUB_HOSTS and parts.scheme in ("http", "https")


def cache_folder(paths: Paths) -> Path:
    """Where what hubs have told is kept."""
    return Path(configuration.setting("XDG_CACHE_HOME") or paths.home / ".cache") / "wasteland" / "hubs"


def site_cache(cache: Path, api: str) -> Path:
    """The folder of one hub in the cache."""
    parts = urlsplit(api)
    return cache / re.sub(r"[^a-z0-9.-]", "_", f"{parts.scheme}-{parts.netloc}{parts.path}".lower())


def discover(base: str, cache: Path, *, fresh: bool = False) -> Site:
    """The hub at `base`, from the cache or by asking it; Unreachable where it does not answer."""
    base = base_url(base)
    file = site_cache(cache, base) / "site.json"
    known, at = _read(file)
    if known is not None and known.api != base:
        known = None  # the token must not follow a file that names another place
    if known is None or fresh or not 0 <= time.time() - at < KEPT:
        try:
            known = _asked(base)
        except Unreachable:
            if known is None and base == DOLTHUB:
                known = _dolthub(VERSIONS)
            if known is None:
                raise
        else:
            _write(file, known)
    return _forced(known)


def _asked(base: str) -> Site:
    from wasteland.hub.rest.client import Wire

    wire = Wire(base, None)
    try:
        if base == DOLTHUB:
            return _dolthub(_versions(wire))
        told = wire.request("GET", ".well-known/wasteland-hub")
        if told.status == 200 and told.object.get("hub") == "wl":
            return _ours(base, told.object)
        parts = urlsplit(base)
        remote = f"{parts.scheme}://{parts.hostname}:{DOLTLAB_PORT}"
        return Site(base, remote, base, _versions(wire), keys=False)
    finally:
        wire.close()


def _dolthub(versions: tuple[str, ...]) -> Site:
    return Site(DOLTHUB, DOLTHUB_REMOTE, DOLTHUB, versions, keys=False)


def _ours(base: str, told: dict[str, Any]) -> Site:
    """What a hub of our own says of itself, checked."""
    remote, versions = told.get("remote"), told.get("versions")
    if not isinstance(remote, str) or not isinstance(versions, list):
        raise Unreachable(f"the hub at {base} does not say where its remotes are", about=base)
    spoken = tuple(one for one in VERSIONS if one in versions)
    if not spoken:
        raise Unreachable(f"the hub at {base} speaks no generation of the API that this program knows", about=base)
    try:
        return Site(base, base_url(remote), base, spoken, keys=told.get("keys") is True)
    except Usage as error:
        raise Unreachable(f"the hub at {base} names no usable place for its remotes", about=base) from error


def _versions(wire: Any) -> tuple[str, ...]:
    """The generations that are there: without a token, v2 answers its user route with a problem and not with 404."""
    answer = wire.request("GET", "api/v2/user")
    if answer.status in (200, 400, 401, 403) and answer.object:
        return VERSIONS
    # A read of SQL is what every hub of the older generation has, and says in JSON what it misses.
    if not is_dolthub(wire.api) and not wire.request("GET", "api/v1alpha1/a/a/main", params={"q": "SELECT 1"}).object:
        raise NotFound(f"there is no hub at {wire.api}: something else answers", about=wire.api, hint="--hub URL")
    return VERSIONS[1:]


def _forced(site: Site) -> Site:
    """The site with the generation first that WL_HUB_API names."""
    wanted = configuration.setting("WL_HUB_API")
    if wanted is None:
        return site
    if wanted not in VERSIONS:
        raise Misconfigured(f"WL_HUB_API must be one of {', '.join(VERSIONS)}", about="WL_HUB_API")
    return Site(site.api, site.remote, site.page, (wanted,), site.keys)


def _read(file: Path) -> tuple[Site | None, float]:
    """What is in the cache and since when; a damaged file is no file."""
    try:
        found = configuration.read_json(file)
        at, versions = float(found.pop("at")), tuple(found.pop("versions"))
        if not set(versions) <= set(VERSIONS) or not versions:
            return None, 0.0
        site = Site(versions=versions, **found)
    except (Misconfigured, KeyError, TypeError, ValueError):
        return None, 0.0
    texts = (site.api, site.remote, site.page)
    return (site, at) if all(isinstance(one, str) for one in texts) and isinstance(site.keys, bool) else (None, 0.0)


def _write(file: Path, site: Site) -> None:
    """Keep what was found; a cache that cannot be written is no reason to fail."""
    found = {"api": site.api, "remote": site.remote, "page": site.page, "keys": site.keys}
    try:
        configuration.write_json(file, found | {"versions": list(site.versions), "at": time.time()})
    except OSError:
        return
