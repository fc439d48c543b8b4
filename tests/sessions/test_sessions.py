"""What the README, the guides and the sessions beside this file show, happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import User
from tests.sessions.session import Ran, Step, failure, matches, run, steps

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md")), *sorted(HERE.glob("*.md"))]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the sandbox's user may pass through; servers started in it are stopped."""
    made = Path(tempfile.mkdtemp(prefix="wl-session-")).resolve()
    made.chmod(0o711)
    yield made
    for home in {file.parents[5] for file in made.glob("**/.*.node/server.json")}:
        User(home.name, home).stop()
    shutil.rmtree(made, ignore_errors=True)


def boxed(folder: Path) -> bool:
    """Whether this machine has a sandbox that holds."""
    argv = [sys.executable, "-c", "from gastown.cli import main; main()", "install", str(folder / "probe"), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    level: str = json.loads(done.stdout)["sandbox"]["level"]
    return level == "L2"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_session_goes_as_it_is_shown(file: Path, folder: Path) -> None:
    session = steps(file.read_text())
    assert session
    unboxed = [step for step in session if "sandbox" not in step.needs]
    left_out = unboxed != session and not boxed(folder)
    if left_out:
        session = unboxed
    wrong = failure(file.name, session, run(session, folder))
    assert wrong is None, wrong
    if left_out:
        pytest.skip("no sandbox here: the blocks that need one did not run")


def test_blocks_are_read_in_order_with_their_needs() -> None:
    text = "```console\n$ a \\\n> b\nout\n> out\n```\n```sh\n$ no\n```\n```console sandbox\n$ c\n```\n"
    assert steps(text) == [Step(2, "a \\\nb", expected=["out", "> out"]), Step(11, "c", frozenset({"sandbox"}))]


@pytest.mark.parametrize(
    ("expected", "printed", "answer"),
    [
        ([], [], True),
        ([], ["x"], False),
        (["a…c"], ["abc  "], True),
        (["a…c"], ["ab", "c"], False),
        (["a", "…", "z"], ["a", "z"], True),
        (["a", "…", "z"], ["a", "1", "", "z"], True),
        (["a", "…", "z"], ["a", "1"], False),
        (["1.0 (x)"], ["1x0 (x)"], False),
    ],
)
def test_an_ellipsis_stands_for_text_or_lines(expected: list[str], printed: list[str], answer: bool) -> None:
    assert matches(expected, printed) is answer


def test_ports_that_a_page_names_are_replaced_by_free_ones(folder: Path) -> None:
    session = steps(
        "```console\n$ at=127.0.0.1:8090; echo $at http://127.0.0.1:50051/ 8090; echo ${at#*:} > port\n```\n"
    )
    session[0].expected.append("127.0.0.1:8090 http://127.0.0.1:50051/ 8090")
    assert failure("x", session, run(session, folder)) is None
    assert (folder / "port").read_text() != "8090\n"


@pytest.mark.parametrize("last", ["true", "false", "exit", "exec kill -9 $$"])
def test_what_runs_in_the_background_ends_with_the_session(folder: Path, last: str) -> None:
    run(steps(f"```console\n$ sleep 1000 &\n$ echo $! > pid\n$ {last}\n```\n"), folder)
    pid = (folder / "pid").read_text().strip()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: str) -> bool:
    """Whether a process runs; one that only waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_fails_ends_the_session(folder: Path) -> None:
    session = steps("```console\n$ there=yes; cd /\n$ echo $there $PWD >&2\nyes /\n$ false\n$ echo no\n```\n")
    done = run(session, folder)
    assert done == [Ran(0, []), Ran(0, ["yes /"]), Ran(1, [])]
    assert "x:5: exit code 1" in str(failure("x", session, done))


def test_other_output_than_shown_is_a_failure(folder: Path) -> None:
    session = steps("```console\n$ echo one\ntwo\n```\n")
    assert "x:2: printed something else" in str(failure("x", session, run(session, folder)))
    assert "x:2: the shell ended" in str(failure("x", session, run(steps("```console\n$ exit\n```\n"), folder)))
