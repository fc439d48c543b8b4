"""`wl create, join, leave, list, config`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli.output import Out, field, verb
from wasteland.errors import Refused, Usage
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.member.join import Joined

DEFAULT = "hop/wl-commons"


def refuse_providers(given: dict[str, Any]) -> None:
    """Providers that a peer has and this version has not."""
    for flag in ("git_remote", "github", "github_local"):
        if given.pop(flag, None):
            raise Refused(f"--{flag.replace('_', '-')} is not supported by this version", hint="--remote-base <folder>")


def providers(function: Any) -> Any:
    """The options that say where databases live."""
    for option in (
        click.option("--github-local", hidden=True),
        click.option("--github", is_flag=True, hidden=True),
        click.option("--git-remote", hidden=True),
        click.option("--remote-base", metavar="FOLDER", help="A hub in a folder."),
        click.option("--hub", metavar="URL", help="A hub at an address (or WL_HUB); DoltHub otherwise."),
        click.option("--signed", is_flag=True, help="Sign Dolt's commits with GPG too."),
        click.option("--email", help="Published to everybody; leave it out unless you want that."),
        click.option("--display-name", help="How you are shown."),
        click.option("--handle", help="This rig's name."),
    ):
        function = option(function)
    return function


@click.command("create")
@click.argument("upstream", metavar="ORG/DB")
@click.option("--name", "title", help="The wasteland's name, for people.")
@click.option("--local-only", is_flag=True, help="Do not publish it.")
@click.option("--private", is_flag=True, help="Only who is let in may see it.")
@providers
@verb
def create_command(out: Out, upstream: str, **given: Any) -> None:
    """Make the wasteland ORG/DB; you are its root, maintainer and validator."""
    from wasteland.member.create import create

    refuse_providers(given)
    out.say(f"Creating wasteland {upstream}...", indent="")
    node = out.adopt(create(out.paths, upstream, say=out.say, **given))
    config = node.config
    found = {"schema_version": 1, "upstream": upstream, "handle": config.rig_handle, "local_dir": config.local_dir,
             "wasteland_id": config.node["wasteland_id"]}  # fmt: skip
    lines = [f"✓ Created wasteland: {upstream}", field("Handle", config.rig_handle), field("Local", config.local_dir)]
    if not given["local_only"]:
        lines += [f"  Pushed to {upstream}", "", f"  Share: wl join {upstream}"]
    out.result(found, lines)


@click.command("join")
@click.argument("upstream", metavar="ORG/DB", default=DEFAULT)
@click.option("--fork-org", help="Who owns your fork (or DOLTHUB_ORG).")
@click.option("--direct", is_flag=True, help="Clone upstream itself; needs the right to push there.")
@click.option("--remote", metavar="URL", help="A Dolt remote that is no hub: a git repository, a bucket, a folder.")
@click.option("--anew", is_flag=True, help="It was made anew under its name: forget what was pinned of the old one.")
@providers
@verb
def join_command(out: Out, upstream: str, **given: Any) -> None:
    """Join ORG/DB: fork it, clone the fork, make a key, ask to be registered."""
    refuse_providers(given)
    out.say(f"Joining wasteland {upstream}...", indent="")
    found = _joined(out, upstream, **given)
    config = out.adopt(found.node).config
    head = f"Already joined: {upstream}" if found.already else f"✓ Joined wasteland: {upstream}"
    lines = [head, field("Handle", config.rig_handle), field("Fork", f"{config.fork_org}/{config.fork_db}"),
             field("Local", config.local_dir)]  # fmt: skip
    if roles := config.node.get("roles_sha256"):
        lines.append(field("Roles", f"{roles[:16]}…  (compare it with what the maintainers publish)"))
    if found.pull:
        lines.append(field("PR", f"#{found.pull.number} {found.pull.url}"))
    out.result(found.to_json(), [*lines, "", "  Next: wl browse  — browse the wanted board"])


def _joined(out: Out, upstream: str, *, remote: str | None, **given: Any) -> Joined:
    from wasteland.member import join

    if remote is None:
        return join.join(out.paths, upstream, say=out.say, **given)
    from wasteland.member import fork

    if [name for name in ("remote_base", "hub", "fork_org", "direct", "anew") if given.pop(name)]:
        raise Usage("--remote goes without --remote-base, --hub, --fork-org, --direct and --anew")
    return join.Joined(fork.join_remote(out.paths, upstream, remote, say=out.say, **given), None)


@click.command("leave")
@click.argument("upstream", metavar="[ORG/DB]", required=False)
@verb
def leave_command(out: Out, upstream: str | None) -> None:
    """Forget a wasteland on this machine; the clone and your key stay."""
    from wasteland.member.leave import leave

    config = leave(out.paths, upstream or out.wasteland)
    found = {"schema_version": 1, "left": config.upstream, "local_dir": config.local_dir}
    out.result(found, [f"✓ Left wasteland: {config.upstream}", field("Clone kept", config.local_dir)])


@click.command("list")
@verb
def list_command(out: Out) -> None:
    """List the wastelands that this user has joined."""
    from wasteland.local import config

    found = [config.read(out.paths, upstream) for upstream in config.joined(out.paths)]
    lines: list[str] = []
    for one in found:
        lines += [
            one.upstream,
            field("Handle", one.rig_handle),
            field("Fork", f"{one.fork_org}/{one.fork_db}"),
            field("Mode", one.mode),
            field("Local", one.local_dir),
            field("Joined", one.joined_at),
            "",
        ]
    shown = [
        {"upstream": c.upstream, "handle": c.rig_handle, "fork": f"{c.fork_org}/{c.fork_db}", "mode": c.mode,
         "backend": c.backend, "local_dir": c.local_dir, "joined_at": c.joined_at}
        for c in found
    ]  # fmt: skip
    out.result(shown, lines[:-1] or ["No wastelands joined.", "  Next: wl join <org/db>"])


@click.group("config")
def config_command() -> None:
    """Read or change a setting.

    KEY is mode, signing, server-idle, hub, evidence-hosts, fork-limit,
    commit-email or remote-base; provider-type can be read only.
    """


def _mode(value: str) -> str:
    from wasteland.local.config import MODES

    if value not in MODES:
        raise Usage(f'invalid mode "{show(value)}": must be one of {", ".join(MODES)}')
    return value


def _truth(value: str) -> bool:
    if value not in ("true", "false"):
        raise Usage(f'invalid value "{show(value)}" for signing: must be true or false')
    return value == "true"


def _seconds(value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or not 1 <= int(value) <= 86400:
        raise Usage("server-idle must be 1 to 86400 seconds")
    return int(value)


def _mebibytes(value: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", value) or not 1 <= int(value) <= 102400:
        raise Usage("fork-limit must be 1 to 102400 MiB")
    return int(value)


def _email(value: str) -> str:
    from wasteland.text import checked

    if value and not re.fullmatch(r"[^@<>\s]+@[^@<>\s]+", value):
        raise Usage("commit-email must be an e-mail address, or empty so that none is published")
    return checked(value, "owner_email")


def _address(value: str) -> str:
    from wasteland.hub.site import base_url

    return base_url(value)


def _hosts(value: str) -> str:
    from wasteland.evidence.fetch import hosts_of

    hosts_of(value)
    return value


SHARED: dict[str, Callable[[str], Any]] = {"mode": _mode, "signing": _truth}  # in the file that peers read too
OWN: dict[str, Callable[[str], Any]] = {
    "server-idle": _seconds, "hub": _address, "evidence-hosts": _hosts, "fork-limit": _mebibytes,
    "commit-email": _email,
}  # fmt: skip
BASE = "remote-base"  # of a hub in a folder: part of the addresses of upstream and of the clone's remotes
KEYS = (*SHARED, "provider-type", *OWN, BASE)


def _value(config: Any, key: str) -> Any:
    if key not in KEYS:
        raise Usage(f'unknown key "{show(key)}": must be one of {", ".join(KEYS)}')
    if key == BASE:
        from wasteland.member.moving import base_of

        return base_of(config)
    name = key.replace("-", "_")
    return config.node.get(name) if key in OWN else getattr(config, name)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


@config_command.command("get")
@click.argument("key")
@verb
def get_setting(out: Out, key: str) -> None:
    """Print a setting."""
    value = _value(out.node.config, key)
    out.result({"schema_version": 1, "key": key, "value": value}, [_shown(value)])


@config_command.command("set")
@click.argument("key")
@click.argument("value")
@verb
def set_setting(out: Out, key: str, value: str) -> None:
    """Change a setting."""
    config = out.node.config
    _value(config, key)
    if key in SHARED:
        setattr(config, key, SHARED[key](value))
        config.save()
    elif key in OWN:
        config.node[key.replace("-", "_")] = OWN[key](value)
        config.save_node()
    elif key == BASE:
        from wasteland.member.moving import move_hub

        move_hub(out.node, value)
    else:
        raise Usage(f"{key} cannot be changed: it is decided when joining")
    out.result({"schema_version": 1, "key": key, "value": _value(config, key)}, [f"{key} = {value}"])
