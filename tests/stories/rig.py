"""The process of one rig: orders come on stdin, a JSON object a line, and answers go to stdout."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, TextIO

from tests.stories import audit
from tests.stories.five import UPSTREAM, caught
from wasteland import cli
from wasteland.dolt.database import Database
from wasteland.hub.dolthub import DolthubHub
from wasteland.node.node import open_node


class Counted:
    """The calls of the hubs that were opened since the last look."""

    def __init__(self) -> None:
        self.hubs: list[DolthubHub] = []
        made = DolthubHub.__init__

        def counted(hub: DolthubHub, *words: Any, **named: Any) -> None:
            made(hub, *words, **named)
            self.hubs.append(hub)

        DolthubHub.__init__ = counted  # type: ignore[method-assign]

    def calls(self) -> int:
        found = sum(hub.calls for hub in self.hubs)
        self.hubs.clear()
        return found


class Paused:
    """Stops before each first push of main, between judgement and push, until the driver says go on."""

    def __init__(self, answers: TextIO) -> None:
        self.on = False
        self._passed = False
        real = Database.push

        def push(db: Database, remote: str, branch: str, *, force: bool = False) -> None:
            if self.on and branch == "main" and not self._passed:
                print(json.dumps({"at": "push"}), file=answers, flush=True)
                sys.stdin.readline()
                self._passed = True
                real(db, remote, branch, force=force)
                self._passed = False
                return
            real(db, remote, branch, force=force)
            self._passed = False

        Database.push = push  # type: ignore[method-assign]


def serve() -> None:
    """Carry out orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    counted, paused = Counted(), Paused(answers)
    while line := sys.stdin.readline():
        order = json.loads(line)
        paused.on = bool(order.get("paused"))
        began = time.monotonic()
        answer = _called(order) if "call" in order else _typed(order["words"])
        answer |= {"seconds": time.monotonic() - began, "calls": counted.calls()}
        print(json.dumps(answer, default=str), file=answers, flush=True)


def _typed(words: list[str]) -> dict[str, Any]:
    with caught() as (out, err):
        code = cli.run(words)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def _called(order: dict[str, Any]) -> dict[str, Any]:
    node = open_node(UPSTREAM)
    try:
        return {"value": getattr(audit, order["call"])(node, **order["given"])}
    except Exception:
        return {"error": traceback.format_exc()}
    finally:
        node.close()
