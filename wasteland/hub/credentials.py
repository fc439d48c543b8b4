"""Tokens for hubs, each kept for the one place that it is for, and the key that Dolt shows to a remote.

A token is looked for in this order; the first that is found is taken:

    DOLTHUB_TOKEN    for DoltHub, or for the host that DOLTHUB_TOKEN_HOST names
    WL_HUB_TOKEN     for the hub that WL_HUB names
    wl login         the OS keyring, or `tokens.json` (0600) beside the configuration
    dh               DH_TOKEN and what DoltHub's own program has stored, for DoltHub

The place is the origin (scheme, host and port): what was given to an `https`
hub is never sent to the same host in clear, and never to another host.
"""

from __future__ import annotations

import json
import stat
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wasteland.dolt import binary
from wasteland.errors import Misconfigured, Usage, WastelandError
from wasteland.hub.rest.shapes import EPOCH, plain, time_of
from wasteland.hub.site import DOLTHUB, DOLTHUB_HOSTS, base_url
from wasteland.local import config as configuration
from wasteland.local import private
from wasteland.local.config import Paths
from wasteland.values import dataclass

SERVICE = "wasteland-hub"
FILE = "tokens.json"
LONGEST = 4096
DH_HOST = "www.dolthub.com"
DH_PREFIX = "dh.oauth.v1:"
GO_PREFIX = "go-keyring-base64:"


@dataclass(frozen=True)
class Token:
    """The secret for one hub, and where it came from; printing it does not show it."""

    value: str = field(repr=False)
    source: str


def checked(value: str) -> str:
    """A token as it may be stored and sent; Usage, without repeating it, where it is none."""
    value = value.strip()
    if not value:
        raise Usage("the token is empty")
    if len(value) > LONGEST or not value.isascii() or not value.isprintable() or " " in value:
        raise Usage("this is not a token: a token is one word of ASCII characters")
    return value


def find_token(base: str, paths: Paths) -> Token | None:
    """The token for the hub at `base`, or None; Misconfigured where a store is locked or not safe."""
    origin = origin_of(base)
    found = _from_environment(origin) or _stored(origin, paths)
    return found or (_from_dh(paths) if origin == DOLTHUB else None)


def save(base: str, paths: Paths, value: str) -> str:
    """Keep the token for the hub at `base`; the name of the store that took it."""
    value, origin = checked(value), origin_of(base)
    if _with_keyring() and _ring_set(origin, value):
        _file_set(paths, origin, None)
        return "keyring"
    _file_set(paths, origin, value)
    return "file"


def forget(base: str, paths: Paths) -> bool:
    """Remove the stored token for the hub at `base`; whether there was one."""
    origin = origin_of(base)
    there = _file_set(paths, origin, None)
    if _with_keyring():
        there = _ring_delete(origin) or there
    return there


def origin_of(base: str) -> str:
    """The scheme, host and port of a hub."""
    parts = urlsplit(base_url(base))
    return f"{parts.scheme}://{parts.netloc}"


def _from_environment(origin: str) -> Token | None:
    value = configuration.setting("DOLTHUB_TOKEN")
    if value and _is_for(configuration.setting("DOLTHUB_TOKEN_HOST") or DOLTHUB, origin):
        return Token(checked(value), "DOLTHUB_TOKEN")
    value, hub = configuration.setting("WL_HUB_TOKEN"), configuration.setting("WL_HUB")
    if value and hub and origin != DOLTHUB and _is_for(hub, origin):
        return Token(checked(value), "WL_HUB_TOKEN")
    return None


def _is_for(place: str, origin: str) -> bool:
    """Whether a place that the user named is this one; a bare host means `https`, or `http` on this machine."""
    if "://" in place:
        return origin_of(place) == origin
    parts = urlsplit(origin)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return parts.netloc == place.lower() and (parts.scheme == "https" or local)


def _stored(origin: str, paths: Paths) -> Token | None:
    value = _tokens(paths).get(origin)
    if value:
        return Token(checked(value), "file")
    value = _ring_get(SERVICE, origin) if _with_keyring() else None
    return Token(checked(value), "keyring") if value else None


def _with_keyring() -> bool:
    return configuration.setting("WL_KEYSTORE") != "file"


def _tokens(paths: Paths) -> dict[str, str]:
    """What is in the file of tokens; Misconfigured where others could read it."""
    path = paths.config / "wasteland" / FILE
    found = _private_json(path)
    return {origin: value for origin, value in found.items() if isinstance(value, str)}


def _private_json(path: Path) -> dict[str, Any]:
    """A JSON object that only its owner can read; empty where there is no file."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return {}
    if not stat.S_ISREG(about.st_mode) or private.flaw(about):
        raise Misconfigured(f"others can read {path}, or it is not yours", hint=f"chmod 600 {path}", about=str(path))
    return configuration.read_json(path)


def _file_set(paths: Paths, origin: str, value: str | None) -> bool:
    """Put a token into the file, or take it out; whether there was one."""

    path = paths.config / "wasteland" / FILE
    if value is None and not path.exists():
        return False
    with configuration.locked(path.with_suffix(".lock")):
        tokens = _tokens(paths)
        there = tokens.pop(origin, None) is not None
        if value is not None:
            tokens[origin] = value
        if there or value is not None:
            configuration.write_json(path, tokens)
    return there


def _ring_get(service: str, username: str) -> str | None:
    """A secret of the OS keyring; None where there is none or no keyring."""
    import keyring.errors

    try:
        return keyring.get_password(service, username)
    except keyring.errors.NoKeyringError:
        return None
    except Exception as error:  # back ends raise types of their own
        raise _locked() from error


def _ring_set(username: str, value: str) -> bool:
    """Put a secret into the OS keyring; False where there is no keyring."""
    import keyring.errors

    try:
        keyring.set_password(SERVICE, username, value)
        kept = keyring.get_password(SERVICE, username)
    except keyring.errors.NoKeyringError:
        return False
    except Exception as error:  # back ends raise types of their own
        raise _locked() from error
    if kept != value:
        raise Misconfigured("the OS keyring did not keep the token", hint="WL_KEYSTORE=file uses a file")
    return True


def _ring_delete(username: str) -> bool:
    import keyring.errors

    try:
        if keyring.get_password(SERVICE, username) is None:
            return False
        keyring.delete_password(SERVICE, username)
    except keyring.errors.NoKeyringError:
        return False
    except Exception as error:  # back ends raise types of their own
        raise _locked() from error
    return True


def _locked() -> Misconfigured:
    return Misconfigured(
        "the OS keyring is locked or does not work", hint="unlock it, or use WL_KEYSTORE=file for a file"
    )


def _from_dh(paths: Paths) -> Token | None:
    """The token of DoltHub's own program; what it stored otherwise, or is not safe, is passed over."""
    value = configuration.setting("DH_TOKEN")
    if value and (configuration.setting("DH_HOST") or DH_HOST) in DOLTHUB_HOSTS:
        return Token(checked(value), "DH_TOKEN")
    folder = paths.config / "dh"
    try:
        user = plain(configuration.read_json(folder / "config.json").get("active_users")).get(DH_HOST)
        stored = plain(plain(_private_json(folder / "credentials.json").get("credentials")).get(DH_HOST)).get(str(user))
        if not stored and isinstance(user, str) and _with_keyring():
            stored = _ring_get("dh", f"{DH_HOST}:{user}")
        value = _dh_secret(stored) if isinstance(stored, str) else None
    except (Misconfigured, ValueError):
        return None
    return Token(checked(value), "dh") if value else None


def _dh_secret(stored: str) -> str | None:
    """The access token in what `dh` stores; None where it has expired, for only `dh` can renew it."""
    if stored.startswith(GO_PREFIX):
        import base64

        stored = base64.b64decode(stored.removeprefix(GO_PREFIX)).decode()
    if not stored.startswith(DH_PREFIX):
        return stored
    bundle = plain(json.loads(stored.removeprefix(DH_PREFIX)))
    ends = time_of(bundle.get("expires_at"))
    if EPOCH < ends <= datetime.now(UTC):
        return None
    value = bundle.get("access_token")
    return value if isinstance(value, str) else None


def dolt_key(home: Path) -> str:
    """The public key that the node's Dolt shows to remotes, as a hub wants it; one is made where there is none."""
    found = selected_key(home)
    if found is None:
        binary.run(["creds", "new"], cwd=home, env=binary.environment(home))
        found = selected_key(home)
    if found is None:
        raise WastelandError("dolt creds new made no key that Dolt would use", about=str(home))
    return found


def selected_key(home: Path) -> str | None:
    """The key that `dolt creds ls` marks as the one in use."""
    if not (home / ".dolt" / "creds").is_dir():
        return None
    listed = binary.run(["creds", "ls"], cwd=home, env=binary.environment(home)).stdout
    marked = [words[1] for line in listed.splitlines() if len(words := line.split()) == 2 and words[0] == "*"]
    return marked[0] if marked else None
