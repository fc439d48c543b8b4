"""A result that cannot be written is not an act that failed; a terminal gets back what was taken from it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import IO, Any

import pytest

from tests.conftest import User, World


@pytest.fixture(scope="module")
def rig(shared_world: World) -> Iterator[User]:
    return shared_world.create("poster", mode="wild-west")


def wl(
    user: User, *words: str, stdout: int | IO[Any] = subprocess.PIPE, stderr: int | IO[Any] = subprocess.PIPE, **env
):
    return subprocess.run(
        user.argv(*words),
        env=user.environment() | env,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=60,
        check=False,
    )


def titles(user: User) -> list[str]:
    return [row["title"] for row in user.json("browse")]


def with_closed(user: User, descriptors: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run as a shell would with `>&-` and the like."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {descriptors}', "bash", *user.argv(*words)],
        env=user.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def reader_gone() -> int:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("as_json", [False, True])
def test_on_a_full_device_the_act_is_done_and_said_to_be(rig, as_json):
    title = f"Full {as_json}"
    with open("/dev/full", "w") as full:
        done = wl(rig, "post", "--title", title, *(["--json"] if as_json else []), stdout=full)
    assert done.returncode == 74
    assert done.stderr.startswith("wl: done, but its result could not be written: No space left on device\n")
    assert title in titles(rig)


def test_a_reader_that_went_away_matters_only_where_something_was_done(rig):
    writer = reader_gone()
    try:
        assert wl(rig, "post", "--title", "Into a broken pipe", stdout=writer).returncode == 74
        assert "Into a broken pipe" in titles(rig)
        for words in (["browse"], ["browse", "--json"], ["me"], ["--help"], ["browse", "--help"]):
            shown = wl(rig, *words, stdout=writer)
            assert (shown.returncode, shown.stderr) == (0, ""), words
    finally:
        os.close(writer)


@pytest.mark.parametrize("descriptors", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_keep_nothing_from_being_done(rig, descriptors):
    title = f"Closed {descriptors}"
    done = with_closed(rig, descriptors, "post", "--title", title)
    assert done.returncode == 0, done.stderr
    assert title in titles(rig)
    refused = with_closed(rig, descriptors, "claim", "w-none")
    assert refused.returncode == 4


def test_words_for_a_person_that_cannot_be_written_stop_nothing(rig):
    with open("/dev/full", "w") as full:
        done = wl(rig, "post", "--title", "Silent", stderr=full)
        assert done.returncode == 0
        assert wl(rig, "claim", "w-none", stderr=full).returncode == 4
    assert "Silent" in titles(rig)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_letters_that_a_terminal_cannot_show_are_escaped(rig, encoding):
    done = subprocess.run(
        rig.argv("post", "--title", f"Gezeiten ✓ 潮 {encoding}"),
        env=rig.environment() | {"PYTHONIOENCODING": encoding}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u2713" in done.stdout
    assert f"Gezeiten ✓ 潮 {encoding}" in titles(rig)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_a_terminal_echoes_again_after_a_prompt_that_was_ended(tmp_path, number):
    user = World(tmp_path).user("somebody")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(number, signal.SIG_DFL)  # a shell that started the tests in the background has it ignored
        argv = user.argv("login", "--hub", "http://127.0.0.1:9")
        os.execve(argv[0], argv, user.environment() | {"TERM": "xterm"})
    seen, until = b"", time.monotonic() + 30
    while b"oken" not in seen and time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(pid, number)
    while not termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < until:
        time.sleep(0.01)
    assert termios.tcgetattr(terminal)[3] & termios.ECHO
    while select.select([terminal], [], [], 0.2)[0]:  # what it still says, so that it does not wait to be read
        try:
            os.read(terminal, 4096)
        except OSError:
            break
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == number if number != signal.SIGINT else os.WEXITSTATUS(status) == 130
    os.close(terminal)


def test_what_is_typed_at_a_prompt_is_read_and_not_shown(tmp_path):
    user = World(tmp_path).user("somebody")
    pid, terminal = pty.fork()
    if pid == 0:
        argv = user.argv("login", "--hub", "http://127.0.0.1:9")
        os.execve(argv[0], argv, user.environment())
    seen = b""
    while b"oken" not in seen or termios.tcgetattr(terminal)[3] & termios.ECHO:
        seen += os.read(terminal, 4096) if select.select([terminal], [], [], 0.02)[0] else b""
    os.write(terminal, b"two words\n")
    while b"Hint" not in seen and b"ASCII" not in seen:
        seen += os.read(terminal, 4096)
    assert b"this is not a token" in seen
    assert b"two words" not in seen
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 64
    os.close(terminal)


def test_json_of_a_refusal_stays_one_value(rig):
    done = wl(rig, "claim", "w-none", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "NotFound"
