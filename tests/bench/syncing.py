"""What a sync of very many new rows holds in memory."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.cost import Cost, cost_of
from tests.conftest import User, World
from wasteland.dolt import binary

LIMIT = 250  # MiB
HEADER = "INSERT INTO wanted (id, title, description, posted_by, status, created_at, updated_at) VALUES "
BATCH = 5000


def _rows(n: int) -> str:
    at = "'2026-01-01 00:00:00'"
    batches = (range(first, min(first + BATCH, n)) for first in range(0, n, BATCH))
    return "".join(
        HEADER
        + ", ".join(
            f"('w-{i:010d}', 'Item number {i}', 'What is wanted, in a line of words', 'far', 'open', {at}, {at})"
            for i in batch
        )
        + ";\n"
        for batch in batches
    )


def _load(owner: User, n: int) -> None:
    """Put `n` rows on upstream's main in one commit, as a person with Dolt would."""
    owner.stop()
    env = owner.environment() | {"DOLT_ROOT_PATH": str(owner.home)}
    for words, text in (
        (["sql"], _rows(n)),
        (["add", "-A"], None),
        (["commit", "-m", f"{n} items", "--author", "far <far@example.com>"], None),
        (["push", "origin", "main"], None),
    ):
        subprocess.run([str(binary.find()), *words], cwd=owner.clone(), env=env, input=text, text=True, check=True,
                       capture_output=True)  # fmt: skip


def measured(folder: Path, n: int) -> Cost:
    """What `wl sync` of `n` new rows costs."""
    world = World(folder)
    try:
        owner = world.create("owner", mode="wild-west")
        reader = world.join("reader")
        _load(owner, n)
        cost = cost_of(reader, "sync", "--json")
        came = json.loads(cost.said)["incoming"]["wanted"]["added"]
        if came != n:
            raise SystemExit(f"of {n} rows {came} came in")
        return cost
    finally:
        world.stop()


def main() -> None:
    """Print the figure, and fail where the limit is passed."""
    parser = argparse.ArgumentParser(prog="scripts/bench --sync")
    parser.add_argument("rows", type=int, nargs="?", default=200_000, metavar="N")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wl-bench-") as folder:
        cost = measured(Path(folder), given.rows)
    late = cost.memory > LIMIT
    if given.json:
        print(json.dumps({"rows": given.rows, "mib": cost.memory, "cpu": cost.cpu, "limit": LIMIT}))
    else:
        print(f"wl sync of {given.rows} rows: {cost.memory:.0f} MiB, at most {LIMIT}{'   MISSED' if late else ''}")
        print(f"  {cost.cpu:.2f} s of CPU, {cost.wall:.1f} s")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
