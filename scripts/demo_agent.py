"""A coding agent without a model: it reads its task, tries what it must not, fixes one bug, and commits.

Run inside the box by the demo.  It knows nothing but the file it is given and
the clone it stands in.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

BROKEN = "    return ordered[middle]\n"
FIXED = (
    "    if len(ordered) % 2:\n        return ordered[middle]\n    return (ordered[middle - 1] + ordered[middle]) / 2\n"
)


def attempt(what: str, action) -> None:
    try:
        action()
    except OSError as error:
        print(f"REFUSED {what}: {error.strerror or error}")
    else:
        print(f"ESCAPED {what}")


def main() -> int:
    task, canary, host_config, port = sys.argv[1:5]
    text = Path(task).read_text(encoding="utf-8")
    print("task:", next((line for line in text.splitlines() if "test_median" in line), "?").strip())
    attempt("read a file in the user's HOME", lambda: Path(canary).read_text())
    attempt("write the host's .git/config", lambda: open(host_config, "a").close())
    attempt("connect to the host's network", lambda: socket.create_connection(("127.0.0.1", int(port)), 3).close())
    attempt("read a token from the environment", lambda: os.environ["DOLTHUB_TOKEN"] if "DOLTHUB_TOKEN" in os.environ
            else (_ for _ in ()).throw(OSError("not set")))  # fmt: skip
    before = subprocess.run([sys.executable, "-m", "unittest", "-q"], capture_output=True)
    print("tests before:", "pass" if before.returncode == 0 else "fail")
    source = Path("median.py")
    source.write_text(source.read_text().replace(BROKEN, FIXED))
    after = subprocess.run([sys.executable, "-m", "unittest", "-q"], capture_output=True)
    print("tests after:", "pass" if after.returncode == 0 else "fail")
    subprocess.run(["git", "add", "median.py"], check=True)
    subprocess.run(["git", "commit", "-q", "-m", "median: average the middle two of an even number"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
