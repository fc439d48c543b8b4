"""The requests of a rig that has a token and no Dolt key, by verb, waiting for the hub's operations included."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.federation import Federation
from tests.conftest import User
from tests.hubs import GENERATIONS

MOST = {"join": 30, "claim": 16, "done": 16, "post": 16, "unclaim": 16, "status": 4, "me": 8, "sync": 8}


class TokenOnly(Federation):
    """A maintainer with a key, and a rig whose rows travel by the API."""

    def __init__(self, folder: Path, *, pulls: int, api: str = "v2") -> None:
        super().__init__(folder, pulls=pulls, forks=1, api=api)
        self.fill()
        self.hub.faults(no_keys=True)

    def rig(self, name: str) -> User:
        """A user with a token in the environment."""
        return self.world.user(
            name, WL_HUB_API=self.api, WL_HUB=self.hub.api, WL_HUB_TOKEN=self.hub.add_user(name)
        )  # fmt: skip

    def measured(self, runs: int) -> dict[str, int]:
        """The most requests of each verb; the fork is known, and the pull requests were seen before."""
        rig = self.rig("bearer")
        joined = self.verb(rig, "join", "acme/commons")
        self.acme.ok("merge", str(joined["pull"]))
        rig.ok("inbox")
        for number in range(runs):
            item = self.item(f"For a token {number}")
            made = self.verb(rig, "claim", item)
            self.verb(rig, "done", item, "--evidence", "https://example.com/1")
            self.verb(rig, "status", item)
            self.verb(rig, "me")
            self.verb(rig, "sync")
            self.acme.ok("merge", str(made["pull"]["number"]))
            self.verb(rig, "post", "--title", f"By a token {number}")
            other = self.item(f"Taken back {number}")
            rig.ok("claim", other)
            self.verb(rig, "unclaim", other)
        if list(rig.home.rglob("*.jwk")):
            raise RuntimeError("the rig has a Dolt key, so this measured pushes")
        return {name: max(one.calls) for name, one in self.series.items()}


def main() -> int:
    """Measure and print; 1 where a verb makes more requests than it may."""
    parser = argparse.ArgumentParser(prog="scripts/bench --hub --token-only", description="Without a Dolt key.")
    parser.add_argument("--pulls", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    os.environ.update({"WL_SERVER_IDLE": "60", "TZ": "UTC", "WL_KEYSTORE": "file"})
    met = True
    print(f"{args.pulls} open pull requests, load {os.getloadavg()[0]:.1f}\n{'':12} {'requests':>8} {'at most':>8}")
    for api in GENERATIONS:
        with tempfile.TemporaryDirectory(prefix="wl-bench-") as folder:
            bench = TokenOnly(Path(folder), pulls=args.pulls, api=api)
            try:
                found = bench.measured(args.runs)
            finally:
                bench.stop()
        print(api)
        for name, calls in found.items():
            most = MOST[name] + (args.pulls if (api, name) == ("v1alpha1", "join") else 0)  # a look at each new one
            print(f"  {name:10} {calls:8} {most:8}")
            met = met and calls <= most
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
