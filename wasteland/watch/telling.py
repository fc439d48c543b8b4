"""Hand an event over: to a program of the user's, started without a shell and without the tokens of its parent."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from typing import Self

from wasteland.errors import Usage
from wasteland.local import config as configuration
from wasteland.text import show
from wasteland.values import dataclass
from wasteland.watch.events import Event

# Named word by word, so that nothing secret passes by accident.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "DISPLAY",
    "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "WL_DOLT", "WL_HUB_API", "WL_KEYSTORE", "WL_SERVER_IDLE",
)  # fmt: skip
LIMIT = 60.0  # seconds that a program has for one event


@dataclass(frozen=True)
class Program:
    """A command that gets each event as JSON on its standard input, and nothing of it among its words."""

    words: tuple[str, ...]
    limit: float = LIMIT

    @classmethod
    def of(cls, command: str, limit: float = LIMIT) -> Self:
        """The command as a shell would split it; Usage where it is none, or there is no such program."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise Usage(f"cannot read the command {show(command)!r}: {error}", about="exec") from error
        if not words or shutil.which(words[0]) is None:
            raise Usage(f"there is no program {show(words[0] if words else '')!r}", about="exec")
        return cls(tuple(words), limit)

    def run(self, event: Event) -> str | None:
        """Run it for one event and wait for its end; what went wrong, or None."""
        environment = {name: value for name in PASSED if (value := configuration.setting(name))}
        try:
            child = subprocess.Popen(
                self.words, env=environment, stdin=subprocess.PIPE, stdout=2, text=True, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return f"{show(self.words[0])} could not be started: {error}"
        try:
            with contextlib.suppress(BrokenPipeError):
                child.communicate(json.dumps(event.to_json(), default=str) + "\n", timeout=self.limit)
        except subprocess.TimeoutExpired:
            return f"{show(self.words[0])} was stopped after {self.limit:.0f} s"
        finally:
            _end(child)
        return None if child.returncode == 0 else f"{show(self.words[0])} ended with {child.returncode}"


def _end(child: subprocess.Popen[str]) -> None:
    """Stop a program that has not ended, with all that it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdin:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
