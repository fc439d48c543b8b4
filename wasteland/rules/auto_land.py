"""The rules of one house: what its merge queue may land by itself, and how many must approve the rest.  Pure.

A maintainer's file of TOML says them; they only ever ask for more than the
rules of `policy`, which hold everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wasteland.errors import Misconfigured
from wasteland.rules.lifecycle import TRANSITIONS
from wasteland.text import show
from wasteland.values import dataclass

# What a proposal may do besides steps of items: a rig's words about itself, its keys, its signatures, the roles.
TABLES = {
    "rigs": "profile", "wl_key_events": "keys", "wl_attestations": "attest", "wl_leases": "renew", "wl_roles": "roles",
}  # fmt: skip
VERBS = frozenset({*TABLES.values(), *(step.verb for step in TRANSITIONS)})
MOST_APPROVALS = 20

COMMENTED = """\
# How pull requests to {upstream} land.  Only the node of a maintainer reads this.

# What `wl queue --auto` may land without a person, where the rules find nothing against it.
auto = [{verbs}]

# How many maintainers must approve anything else.
approvals = 1
"""


@dataclass(frozen=True)
class House:
    """`auto` are the verbs that need no person; `approvals` how many people anything else needs."""

    auto: frozenset[str] = VERBS
    approvals: int = 1

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> House:
        """From a file's values; Misconfigured, in a sentence, for what the file cannot say."""
        if unknown := data.keys() - {"auto", "approvals"}:
            raise Misconfigured(f"there is no rule {show(min(unknown))}", hint="the rules are auto and approvals")
        auto, approvals = data.get("auto", sorted(VERBS)), data.get("approvals", 1)
        if not isinstance(auto, list) or not all(isinstance(verb, str) for verb in auto):
            raise Misconfigured("auto must be a list of verbs")
        if unknown := set(auto) - VERBS:
            raise Misconfigured(f"there is no verb {show(min(unknown))}", hint=f"there are {', '.join(sorted(VERBS))}")
        if type(approvals) is not int or not 1 <= approvals <= MOST_APPROVALS:
            raise Misconfigured(f"approvals must be a number from 1 to {MOST_APPROVALS}")
        return cls(frozenset(auto), approvals)


def verbs_of(steps: Iterable[str], tables: Iterable[str]) -> frozenset[str]:
    """What a proposal does, in the words of a house: the steps of its items, and what else its tables say.

    Signatures and leases that come with a step are part of it.
    """
    taken = frozenset(steps)
    found = frozenset(TABLES.get(table, table) for table in tables if table in TABLES or not taken)
    return taken | (found - ({"attest", "renew"} if taken else frozenset()))


def commented(upstream: str) -> str:
    """The file with what holds without one."""
    return COMMENTED.format(upstream=upstream, verbs=", ".join(f'"{verb}"' for verb in sorted(VERBS)))
