"""`wl hub serve, user, org, token, key, webhook`: a hub of one's own, and who may do what on it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wasteland.cli.output import Out, verb
from wasteland.errors import Misconfigured, Usage
from wasteland.text import org_db, show

if TYPE_CHECKING:
    from wasteland.hubserver.store import Store

FOLDER = click.Path(path_type=Path, file_okay=False, resolve_path=True)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("hub")
def hub_command() -> None:
    """Serve a hub of your own: forks, pull requests and Dolt remotes, without an account elsewhere."""


@contextlib.contextmanager
def _store(folder: Path, *, make: bool = False) -> Iterator[Store]:
    """The hub's memory, also while the hub runs."""
    from wasteland.hubserver.store import Store

    if not make and not (folder / ".hub" / "hub.sqlite").exists():
        raise Misconfigured(
            f"there is no hub in {folder}", about=str(folder), hint=f"wl hub serve {folder}, or: wl hub user add"
        )
    store = Store(folder / ".hub")
    try:
        yield store
    finally:
        store.close()


@hub_command.command("serve")
@click.argument("folder", type=FOLDER)
@click.option("--listen", default="127.0.0.1:8090", show_default=True, metavar="HOST:PORT", help="Where the API is.")
@click.option(
    "--remote-listen", default="127.0.0.1:50051", show_default=True, metavar="HOST:PORT", help="Where Dolt remotes are."
)
@click.option("--tls-cert", type=FILE, help="Certificate chain in PEM.")
@click.option("--tls-key", type=FILE, help="Its key.")
@click.option("--public-api", metavar="URL", help="Where clients reach the API, where that is another address.")
@click.option("--public-remote", metavar="URL", help="Where clients reach the remotes, where that is another address.")
@click.option("--fault", "faults", multiple=True, metavar="NAME[=VALUE]", help="Misbehave, for tests of clients.")
@verb
def hub_serve(
    out: Out, folder: Path, listen: str, remote_listen: str, tls_cert: Path | None, tls_key: Path | None,
    public_api: str | None, public_remote: str | None, faults: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve the hub of FOLDER until it is told to stop.

    Port 0 takes a free port.  Without a certificate it listens on loopback
    only.
    """
    from wasteland.hub.site import base_url
    from wasteland.hubserver import faults as switches
    from wasteland.hubserver.running import serve

    if (tls_cert is None) != (tls_key is None):
        raise Usage("--tls-cert and --tls-key go together", about="tls")
    found = switches.parsed(faults)
    if found:
        (folder / ".hub").mkdir(mode=0o700, parents=True, exist_ok=True)
        switches.write(folder / ".hub", found)

    def ready(api: str, remote: str) -> None:
        out.tell(json.dumps({"api": api, "remote": remote}) if out.as_json else f"Serving {api}, remotes at {remote}")

    public = tuple(base_url(url) if url else None for url in (public_api, public_remote))
    pair = (tls_cert, tls_key) if tls_cert and tls_key else None
    serve(folder, listen, remote_listen, pair, ready, (public[0], public[1]))


@hub_command.group("user")
def user_group() -> None:
    """Add and list users."""


@user_group.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("name")
@verb
def user_add(out: Out, folder: Path, name: str) -> None:
    """Add the user NAME; a token is made with: wl hub token add."""
    with _store(folder, make=True) as store:
        store.add_owner(name, "user")
    out.result({"schema_version": 1, "user": name}, [f"✓ User {name}"])


@user_group.command("list")
@click.argument("folder", type=FOLDER)
@verb
def user_list(out: Out, folder: Path) -> None:
    """List users and organisations."""
    with _store(folder) as store:
        found = [dict(row) for row in store.rows("SELECT name, kind, created FROM owners ORDER BY name")]
    lines = [f"  {show(one['name'])}  {one['kind']}" for one in found]
    out.result({"schema_version": 1, "owners": found}, lines or ["No users yet."])


@hub_command.group("org")
def org_group() -> None:
    """Add organisations and their members."""


@org_group.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("name")
@verb
def org_add(out: Out, folder: Path, name: str) -> None:
    """Add the organisation NAME."""
    with _store(folder, make=True) as store:
        store.add_owner(name, "org")
    out.result({"schema_version": 1, "org": name}, [f"✓ Organisation {name}"])


@org_group.command("member")
@click.argument("folder", type=FOLDER)
@click.argument("org")
@click.argument("user")
@click.option("--role", type=click.Choice(["reader", "writer", "admin"]), default="reader", show_default=True)
@click.option("--remove", is_flag=True, help="End the membership.")
@verb
def org_member(out: Out, folder: Path, org: str, user: str, role: str, remove: bool) -> None:
    """Make USER a member of ORG, or change what he may do there."""
    with _store(folder) as store:
        if remove:
            store.remove_member(org, user)
        else:
            store.add_member(org, user, role)
    line = f"✓ {user} is no member of {org}" if remove else f"✓ {user} is {role} of {org}"
    out.result({"schema_version": 1, "org": org, "user": user, "role": None if remove else role}, [line])


@hub_command.group("token")
def token_group() -> None:
    """Make and revoke API tokens."""


@token_group.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("user")
@click.option("--read-only", is_flag=True, help="A token that may not write.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires; never, if not given.")
@verb
def token_add(out: Out, folder: Path, user: str, read_only: bool, days: int | None) -> None:
    """Make a token of USER.  It is printed once and kept as a digest only."""
    from datetime import UTC, datetime, timedelta

    until = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") if days else None
    with _store(folder) as store:
        number, token = store.add_token(user, "read" if read_only else "write", until)
    out.result(
        {"schema_version": 1, "id": number, "token": token, "expires": until},
        [token, f"  Token {number} of {user}; it is not shown again."],
    )


@token_group.command("list")
@click.argument("folder", type=FOLDER)
@verb
def token_list(out: Out, folder: Path) -> None:
    """List tokens by number, without what they are."""
    with _store(folder) as store:
        found = [
            dict(row) for row in store.rows("SELECT id, user, scope, created, expires, revoked FROM tokens ORDER BY id")
        ]
    lines = [
        f"  {one['id']}  {show(one['user'])}  {one['scope']}{'  revoked' if one['revoked'] else ''}" for one in found
    ]
    out.result({"schema_version": 1, "tokens": found}, lines or ["No tokens yet."])


@token_group.command("revoke")
@click.argument("folder", type=FOLDER)
@click.argument("number", type=int)
@verb
def token_revoke(out: Out, folder: Path, number: int) -> None:
    """Make token NUMBER invalid, at once."""
    with _store(folder) as store:
        store.revoke_token(number)
    out.result({"schema_version": 1, "revoked": number}, [f"✓ Token {number} is revoked"])


@hub_command.group("key")
def key_group() -> None:
    """Register public keys of `dolt creds`."""


@key_group.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("user")
@click.argument("public_key")
@verb
def key_add(out: Out, folder: Path, user: str, public_key: str) -> None:
    """Let USER push with the key that `dolt creds ls` shows as PUBLIC_KEY."""
    from wasteland.hubserver import dolt_keys

    public = dolt_keys.public_key(public_key)
    with _store(folder) as store:
        store.add_key(store.need(user, "user"), dolt_keys.key_id(public), public)
    out.result({"schema_version": 1, "user": user, "key_id": dolt_keys.key_id(public)}, [f"✓ Key of {user}"])


@hub_command.group("webhook")
def webhook_group() -> None:
    """Have events of a database sent to a URL."""


@webhook_group.command("add")
@click.argument("folder", type=FOLDER)
@click.argument("database", metavar="OWNER/DB")
@click.argument("url")
@verb
def webhook_add(out: Out, folder: Path, database: str, url: str) -> None:
    """Send pushes, branches and pull requests of OWNER/DB to URL.  The secret is printed once."""
    import secrets

    from wasteland.errors import NotFound
    from wasteland.hubserver import pulls, webhooks

    checked = webhooks.checked_url(url)
    secret = secrets.token_hex(32)
    with _store(folder) as store:
        repo = store.repository(*org_db(database))
        if repo is None:
            raise NotFound(f"there is no database {show(database)} on this hub", about=show(database))
        number = pulls.add_webhook(store, repo, checked, secret)
    out.result(
        {"schema_version": 1, "id": number, "secret": secret},
        [f"✓ Webhook {number}", f"  Secret: {secret}", "  It is not shown again."],
    )


@webhook_group.command("remove")
@click.argument("folder", type=FOLDER)
@click.argument("number", type=int)
@verb
def webhook_remove(out: Out, folder: Path, number: int) -> None:
    """Send nothing more to webhook NUMBER."""
    from wasteland.hubserver import pulls

    with _store(folder) as store:
        pulls.remove_webhook(store, number)
    out.result({"schema_version": 1, "removed": number}, [f"✓ Webhook {number} is removed"])
