"""Turn the pages of the golden traces into event lists: convert.py <folder of the pages> [<folder of the JSON>].

README.md beside this file says what the events are.  Run by hand, once.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

Event = dict[str, Any]

PIECE = re.compile(
    r"^\#\#\# `(?P<rig>\w+)\$ wl (?P<words>.*?)`\n\n(?P<note>.*?)^exit (?P<exit>\d+),"
    r"|^\*maintainer merges `(?P<fork>[\w-]+):(?P<branch>[\w/-]+)`[^\n]*\*(?P<conflict> -> CONFLICT)?"
    r"|^\*\*(?P<where>[^\n]+?)\*\*(?: \(`(?P<ref>[^`\n]+)`\))?\n```\w*\n(?P<block>.*?)^```\n"
    r"(?:\nlog:\n```\n(?P<log>.*?)^```\n)?"
    r"|^config file [^\n]*?of the (?P<config_of>\w+):\n```json\n(?P<config>.*?)^```\n"
    r"|^    +\d+ms rc=0 dolt sql -q '(?P<schema>CREATE TABLE .*?)^'\n"
    r"|^\#\# (?P<section>\d+\. [^\n]+)\n"
    r"|^(?P<setup>`dolt [^\n]+)\n"
    r"|^✓ Posted wanted item: (?P<posted>w-\w+)\n",
    re.MULTILINE | re.DOTALL,
)
LOG = re.compile(r"^\w{10} \[(?P<author>[^\]]+)\] (?P<message>.*)$")
CREATE = (
    "hub$ create hub/commons --remote-base $RUN/{base}/remotes --name 'Test Wasteland' "
    "--display-name Hub --email hub@example.com"
)
JOIN = (
    "{rig}$ join hub/commons --remote-base $RUN/{base}/remotes --fork-org {rig}-org --handle {rig} "
    "--display-name {title} --email {rig}@example.com"
)


def implied(line: str, **more: Any) -> Event:
    rig, words = line.split("$ ", 1)
    return {"kind": "command", "rig": rig, "argv": shlex.split(words), "exit": 0, "implied": True, **more}


def opening(base: str, rigs: str, *, wild: bool) -> list[Event]:
    """The commands before the first one on a page: a commons, its rigs, and their mode."""
    found = [implied(CREATE.format(base=base))]
    found += [implied(JOIN.format(rig=rig, title=rig.title(), base=base)) for rig in rigs.split()]
    if wild:
        found += [implied(f"{rig}$ config set mode wild-west") for rig in rigs.split()]
    return found


def syncs(rigs: str) -> list[Event]:
    return [implied(f"{rig}$ sync --local-db") for rig in rigs.split()]


# Page -> what to put before which command; each is used at its first match, in this order.
FIRST = ""
MISSING: dict[str, list[tuple[str, list[Event]]]] = {
    "01": [],
    "02": [
        (FIRST, opening("s2", "poster worker rival", wild=False)),
        ("poster$ post", syncs("poster worker rival")),
        ("rival$ claim", syncs("rival")),
    ],
    "04": [
        (
            FIRST,
            [
                *opening("s4", "poster worker rival", wild=True),
                implied("poster$ post --title 'Item A' --local-db", posted="w-5aeee4aa46"),
                *syncs("worker"),
                implied("worker$ claim w-5aeee4aa46 --local-db"),
                *syncs("poster rival"),
            ],
        ),
        (
            "rival$ reject",
            [
                *syncs("worker"),
                implied("worker$ claim w-5aeee4aa46 --local-db"),
                implied("worker$ done w-5aeee4aa46 --evidence ev --local-db"),
                *syncs("rival"),
            ],
        ),
        (
            "rival$ accept",
            [
                *syncs("worker"),
                implied("worker$ done w-5aeee4aa46 --evidence ev --local-db"),
                *syncs("rival"),
            ],
        ),
        ("poster$ accept w-5aeee4aa46 --quality 1", syncs("poster")),
        ("worker$ reject", syncs("worker")),
        (
            "rival$ update w-d90e1ef62f",
            [
                *syncs("poster"),
                implied("poster$ post --title 'Item B' --local-db", posted="w-d90e1ef62f"),
                *syncs("rival"),
            ],
        ),
    ],
    "06": [(FIRST, opening("s6", "poster", wild=True))],
    "08": [
        (FIRST, opening("s8", "poster worker", wild=True)),
        (
            "poster$ post --title 'Signed item 2'",
            [implied(f"{rig}$ config set signing true") for rig in ("poster", "worker")],
        ),
        ("worker$ verify --last 4", [*syncs("worker"), implied("worker$ claim w-d2b28735d3 --local-db")]),
    ],
}
# What one command of a page ran under and its words do not say.
CONDITIONS = {
    ("04", "proxy to a dead port"): {"env": {"DOLTHUB_TOKEN": "set", "HTTPS_PROXY": "http://127.0.0.1:9"}},
    ("08", "a reader without the public keys"): {"env": {"GNUPGHOME": "an empty folder"}},
}


def tables(block: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in block.splitlines():
        if line.startswith("// "):
            table = line[3:].split(":")[0]
            found[table] = []
        else:
            found[table].append(json.loads(line))
    return found


def log(block: str) -> list[Event]:
    lines = [LOG.match(line) for line in block.splitlines()]
    return [{"message": line["message"], "author": line["author"]} for line in lines if line]


def store(where: str) -> str:
    """Whose store a heading speaks of: `upstream`, `poster fork`, `worker clone`."""
    if where.startswith("upstream"):
        return "upstream"
    found = re.search(r"\b(\w+) (fork|clone)\b", where)
    if not found:
        raise SystemExit(f"whose store? {where}")
    return f"{found[1]} {found[2]}"


def branches(block: str) -> list[str]:
    return [line[2:].split()[0] for line in block.splitlines()]


def state(piece: re.Match[str]) -> Event:
    where = piece["where"]
    if piece["block"].startswith("//"):
        event: Event = {"kind": "rows", "where": where, "ref": piece["ref"], "store": store(where)}
        event["tables"] = tables(piece["block"])
        if piece["log"]:
            event["log"] = log(piece["log"])
        return event
    return {"kind": "branches", "where": where, "store": store(where), "names": branches(piece["block"])}


def command(trace: str, piece: re.Match[str]) -> Event:
    event: Event = {
        "kind": "command",
        "rig": piece["rig"],
        "argv": shlex.split(piece["words"]),
        "exit": int(piece["exit"]),
    }
    if note := piece["note"].strip():
        event["note"] = note
        for (page, words), more in CONDITIONS.items():
            if page == trace and words in note:
                event |= more
    return event


def events(trace: str, page: str) -> list[Event]:
    missing = list(MISSING[trace])
    found: list[Event] = []
    for piece in PIECE.finditer(page):
        line = f"{piece['rig']}$ {piece['words']}" if piece["rig"] else ""
        starts = line or piece["fork"]
        while starts and missing and (line.startswith(missing[0][0]) if missing[0][0] else True):
            found += missing.pop(0)[1]
        if piece["rig"]:
            found.append(command(trace, piece))
        elif piece["posted"]:
            found[-1]["posted"] = piece["posted"]
        elif piece["fork"]:
            conflict = piece["conflict"] is not None
            found.append({"kind": "merge", "fork": piece["fork"], "branch": piece["branch"], "conflict": conflict})
        elif piece["where"]:
            found.append(state(piece))
        elif piece["config"]:
            rig = {"creator": "hub", "joiner": "worker"}[piece["config_of"]]
            found.append({"kind": "config", "rig": rig, "content": json.loads(piece["config"])})
        elif piece["schema"]:
            found.append({"kind": "schema", "sql": piece["schema"].replace("'\\''", "'")})
        else:
            found.append({"kind": "note", "text": piece["section"] or piece["setup"]})
    if missing:
        raise SystemExit(f"trace {trace}: no such command: {missing[0][0]}")
    return found


def main() -> None:
    pages = Path(sys.argv[1])
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
    for trace in MISSING:
        (page,) = pages.glob(f"{trace}-*.md")
        found = events(trace, page.read_text(encoding="utf-8"))
        lines = ",\n".join(json.dumps(event, ensure_ascii=False) for event in found)
        (target / f"{trace}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(trace, len(found), "events")


if __name__ == "__main__":
    main()
