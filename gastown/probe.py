"""What a hostile program would try, run inside the box; also a script of its own.

    probe.py CANARY PORT ABSTRACT    prints a JSON list of what it could do

Standard library only, and nothing of the town: in the box there is only /usr.
The level of a box is what this could not do, not what a version number says.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable

CLONE_NEWUSER = 0x10000000
MOST_PROCESSES = 8


def reads(path: str) -> bool:
    """True if the file can be read."""
    with open(path, "rb") as found:
        return bool(found.read(1))


def opens_for_writing(path: str) -> bool:
    """True if the file can be opened for writing; nothing is written."""
    os.close(os.open(path, os.O_WRONLY))
    return True


def creates(path: str) -> bool:
    """True if a file can be made there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(path)
    return True


def connects(family: int, kind: int, address: object) -> bool:
    """True if something can be sent to the address."""
    with socket.socket(family, kind) as found:
        found.settimeout(1)
        found.connect(address)  # type: ignore[arg-type]
        found.send(b"x")
        return True


def makes_user_namespace() -> bool:
    """True if a new user namespace can be made: it opens much of the kernel."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def attempts(canary: str, port: int, abstract: str) -> dict[str, Callable[[], bool]]:
    """Each forbidden thing and the function that tries it."""
    tcp, udp, unix = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_UNIX
    return {
        "read a file of the host": lambda: reads(canary),
        "read the environment of the town": lambda: "GT_PROBE_CANARY" in os.environ,
        "see processes of the host": lambda: len([n for n in os.listdir("/proc") if n.isdigit()]) > MOST_PROCESSES,
        "open core_pattern for writing": lambda: opens_for_writing("/proc/sys/kernel/core_pattern"),
        "open sysrq-trigger for writing": lambda: opens_for_writing("/proc/sysrq-trigger"),
        "write to /usr": lambda: creates("/usr/.gt-probe"),
        "connect to the host by TCP": lambda: connects(socket.AF_INET, tcp, ("127.0.0.1", port)),
        "send by UDP": lambda: connects(socket.AF_INET, udp, ("192.0.2.1", 53)),
        "connect to an abstract socket of the host": lambda: connects(unix, tcp, "\0" + abstract),
        "make a user namespace": makes_user_namespace,
    }


def main(canary: str, port: str, abstract: str) -> None:
    """Try everything; print what worked."""
    could = []
    for what, attempt in attempts(canary, int(port), abstract).items():
        try:
            if attempt():
                could.append(what)
        except OSError:
            continue
    print(json.dumps(could))


if __name__ == "__main__":
    main(*sys.argv[1:])
