"""`scripts/demo`, as a new user runs it: the main job, once, for real."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder():
    """A folder that the user of a box can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="wl-demo-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_the_demo_comes_to_its_end(folder, tmp_path):
    env = {name: os.environ[name] for name in ("PATH", "WL_DOLT", "VIRTUAL_ENV") if name in os.environ}
    done = subprocess.run(
        [ROOT / "scripts" / "demo"], env=env | {"HOME": str(tmp_path), "TMPDIR": str(folder)}, cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "stamped, verified." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert list(folder.iterdir()) == [], "it leaves nothing behind"
