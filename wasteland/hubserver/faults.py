"""Faults that a hub can be told to have, so that clients can be tested against what happens out there.

They stand in `<folder>/.hub/faults.json`, which is read at each request; a
file that is not there means none.

    delay          seconds that each request waits before anything is done
    rate_limit     each n-th request is answered 429 with `Retry-After: 1`, and does nothing
    error_before   each n-th request is answered 500, and does nothing
    error_after    each n-th request that writes is carried out, then answered 500
    drop_after     each n-th request that writes is carried out, then the connection is closed without an answer
    stale          seconds for which pull requests and SQL reads answer what they answered before
    lost_poll      polls of operations: "404" (there is no such operation) or "never" (it is never done)
    fork_lag       seconds for which a new fork is not found, though its operation says that it is done
    spelling       names in pull requests of v1alpha1: "old" (from_branch_name), "new" (from_branch) or "both"
    merge_lies     a merge reports success and has done nothing
    no_keys        keys of Dolt are taken on a web page only, as DoltHub does: a rig with a token has no way to push
    token_header_case   the authorization scheme is taken only as it is documented, `token` or `Bearer`
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from wasteland.errors import Usage

NUMBERS = ("delay", "rate_limit", "error_before", "error_after", "drop_after", "stale", "fork_lag")
WORDS = {"lost_poll": ("404", "never"), "spelling": ("old", "new", "both")}
FLAGS = ("merge_lies", "no_keys", "token_header_case")


class Faults:
    """The faults of one hub, as they are at this moment."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "faults.json"
        self._counts: dict[str, int] = {}
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def now(self) -> dict[str, Any]:
        """The faults that are on."""
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def number(self, name: str) -> float:
        """The number of a fault; 0 where it is off."""
        value = self.now().get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0

    def word(self, name: str, default: str = "") -> str:
        """The word of a fault."""
        return str(self.now().get(name) or default)

    def on(self, name: str) -> bool:
        """Whether a fault without a value is on."""
        return bool(self.now().get(name))

    def due(self, name: str) -> bool:
        """Count one request; whether it is one of those that the fault strikes."""
        every = int(self.number(name))
        if every < 1:
            return False
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1
            return self._counts[name] % every == 0

    def kept(self, key: tuple[str, ...]) -> Any:
        """The earlier answer that a request is given again, or None."""
        seconds = self.number("stale")
        with self._lock:
            at, answer = self._kept.get(key, (0.0, None))
            return answer if seconds and time.monotonic() - at < seconds else None

    def keep(self, key: tuple[str, ...], answer: Any) -> None:
        """Keep an answer for as long as the fault says."""
        if self.number("stale"):
            with self._lock:
                self._kept[key] = (time.monotonic(), answer)


def write(folder: Path, switches: dict[str, Any]) -> None:
    """Switch faults on, and all others off."""
    made = folder / "faults.json.new"
    made.write_text(json.dumps(switches))
    made.replace(folder / "faults.json")


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """`NAME[=VALUE]…` of the command line; Usage where there is no such fault."""
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in FLAGS:
            found[name] = True
        elif name in WORDS and value in WORDS[name]:
            found[name] = value
        elif name in NUMBERS:
            try:
                found[name] = float(value)
            except ValueError:
                raise Usage(f"the fault {name} needs a number: {name}=N", about=name) from None
        else:
            known = ", ".join([*NUMBERS, *(f"{word}={'|'.join(values)}" for word, values in WORDS.items()), *FLAGS])
            raise Usage("there is no such fault", hint=f"there are: {known}", about="fault")
    return found
