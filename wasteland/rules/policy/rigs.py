"""Rows of `rigs`: who may register whom, and change what of a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wasteland.models import RowDiff
from wasteland.rules.lifecycle import handle_key
from wasteland.rules.policy.findings import AUTO, REJECT, REVIEW, Judgement, Upstream
from wasteland.text import NAME

PROFILE = frozenset({"display_name", "hop_uri", "owner_email", "gt_version", "last_seen"})
RESERVED = frozenset({"register"})  # wl/register/… is where registrations are


def judge_rigs(rows: Sequence[RowDiff], org: str, upstream: Upstream, verdict: Judgement) -> None:
    """Whether a fork may add or change these rigs."""
    taken = {handle_key(handle): handle for handle in upstream.rigs}
    for row in rows:
        handle = str(row.row.get("handle"))
        if row.kind == "added":
            why = unfit_rig(row.row, org, upstream.rigs, taken)
            taken.setdefault(handle_key(handle), handle)
            verdict.add(REJECT if why else REVIEW, "RIG-ADD", why or f"registers {handle}")
        elif row.kind == "modified" and (row.old or {}).get("dolthub_org") == org and row.columns <= PROFILE:
            verdict.add(AUTO, "RIG-SELF", f"{handle} changes its own profile")
        else:
            columns = ", ".join(sorted(row.columns))
            verdict.add(REJECT, "RIG-OTHER", f"{org} may not {row.kind.removesuffix('d')} {columns} of rig {handle}")


def unfit_rig(
    row: Mapping[str, Any], org: str, rigs: Mapping[str, Mapping[str, Any]], taken: Mapping[str, str]
) -> str | None:
    """Why `org` may not register this rig; `taken` are the handles that others have, by what spellings share."""
    handle = str(row.get("handle"))
    if row.get("dolthub_org") != org:
        return f"{handle} is registered for {row.get('dolthub_org')}, but the fork is {org}'s"
    if not NAME.match(handle) or handle in RESERVED:
        return f"the handle {handle} is none that rigs have"
    twin = taken.get(handle_key(handle))
    if twin is not None:
        return f"the handle {handle} can be taken for {twin}"
    if (row.get("trust_level") or 0) > 1:
        return f"{handle} gives itself trust level {row.get('trust_level')}"
    parent = row.get("parent_rig")
    if parent and rigs.get(parent, {}).get("dolthub_org") != org:
        return f"{handle} names a parent that is not {org}'s"
    return None
