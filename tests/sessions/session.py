"""Console blocks of a Markdown file, run as they stand.

    ```console
    $ wl browse                      a command; the next lines that start with
    > --json                         `> ` belong to it
    Wanted items (…):                what it prints, standard error included
    ```

`…` stands for any text within a line, and alone on a line for any lines.  A
command that fails, or that prints something else, ends the session.  Words
after `console` say what the block needs of the machine; `sandbox` is known.

All blocks of a file are one bash session in one folder.  What they leave in the
background, as `wl hub serve hub &`, is stopped when the session ends, however
it ends.  The ports that a page names (PORTS) may be taken on this machine: the
commands get free ones in their place, and what they print is turned back.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

FENCE = re.compile(r"```console((?: [a-z]+)*)\Z")
ANY = "…"
TIMEOUT = 300  # seconds for a session, on a machine that is busy
PATIENCE = 20  # seconds for what runs in the background to stop
STOP = "kill $(jobs -p) 2>/dev/null; wait"
PORTS = re.compile(r"(?<=127\.0\.0\.1:)(?:8090|50051)\b")


@dataclass
class Step:
    """One command of a session, the line that it stands on, and what it should print."""

    line: int
    command: str
    needs: frozenset[str] = frozenset()
    expected: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    lines: list[str]


def steps(text: str) -> list[Step]:
    """The commands of all console blocks of a Markdown text, in order."""
    found: list[Step] = []
    needs: frozenset[str] | None = None
    fresh = False  # whether the line before was a command's, which `> ` continues
    for number, line in enumerate(text.splitlines(), 1):
        if needs is None:
            if fence := FENCE.match(line):
                needs, fresh = frozenset(fence[1].split()), False
        elif line == "```":
            needs = None
        elif line.startswith("$ "):
            found.append(Step(number, line[2:], needs))
            fresh = True
        elif fresh and line.startswith("> "):
            found[-1].command += "\n" + line[2:]
        else:
            assert found, f"line {number}: a console block starts with a command"
            found[-1].expected.append(line)
            fresh = False
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether lines are what a block shows; blanks at the ends of lines do not count."""
    parts = []
    for line in expected:
        if line.strip() == ANY:
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append("[^\n]*".join(map(re.escape, line.rstrip().split(ANY))) + r"\n")
    return re.fullmatch("".join(parts), "".join(line.rstrip() + "\n" for line in printed)) is not None


def run(session: list[Step], folder: Path) -> list[Ran]:
    """Run the commands in `folder`, until one fails; what each did."""
    mark = f"--{secrets.token_hex(8)}--"
    ports = free_ports({port for step in session for port in PORTS.findall(step.command)})
    script = "".join(
        f"eval {shlex.quote(swapped(step.command, ports))} </dev/null 2>&1; s=$?; printf '\\n{mark} %d\\n' $s; "
        "((s == 0)) || exit 0\n"
        for step in session
    )
    with (folder / ".session").open("w+b") as out:
        _bash(f"trap {shlex.quote(STOP)} EXIT\n{script}", folder, out)
        out.seek(0)
        printed = swapped(out.read().decode(), {free: named for named, free in ports.items()})
    ended = re.compile(rf"\n{mark} (\d+)\n")
    pieces = ended.split(printed)
    done = [Ran(int(code), text.splitlines()) for text, code in zip(pieces[::2], pieces[1::2], strict=False)]
    if len(done) < len(session) and pieces[-1].strip():
        done.append(Ran(-1, pieces[-1].splitlines()))
    return done


def _bash(script: str, folder: Path, out: IO[bytes]) -> None:
    """Run a script to its end, or to TIMEOUT; what it has started in the background ends with it."""
    dolt = os.environ.get("WL_DOLT")
    places = [str(Path(sys.executable).parent), *([str(Path(dolt).parent)] if dolt else []), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(places), "HOME": str(folder), "LANG": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
                   "WL_KEYSTORE": "file", "WL_SERVER_IDLE": "5"}  # fmt: skip
    if dolt:
        environment["WL_DOLT"] = dolt
    bash = subprocess.Popen(
        ["bash", "--norc", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        start_new_session=True,
    )  # fmt: skip
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            bash.wait(TIMEOUT)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(bash.pid, number)
                bash.wait(PATIENCE)


def free_ports(named: set[str]) -> dict[str, str]:
    """A free port of this machine for each that is named."""
    with contextlib.ExitStack() as stack:
        found = {}
        for port in sorted(named):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            found[port] = str(sock.getsockname()[1])
        return found


def swapped(text: str, ports: dict[str, str]) -> str:
    """The text with other ports after 127.0.0.1; a port that is not among them stays."""
    return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: ports.get(found[0], found[0]), text)


def failure(name: str, session: list[Step], done: list[Ran]) -> str | None:
    """The first command that did not do what its block shows, for people; None where all did."""
    for step, ran in zip(session, done, strict=False):
        if ran.code or not matches(step.expected, ran.lines):
            shown, printed = ("\n".join(f"    {line}" for line in lines) for lines in (step.expected, ran.lines))
            ending = f"exit code {ran.code}" if ran.code else "printed something else"
            return f"{name}:{step.line}: {ending}\n  $ {step.command}\n  shown:\n{shown}\n  printed:\n{printed}"
    return None if len(done) == len(session) else f"{name}:{session[len(done)].line}: the shell ended before it"
