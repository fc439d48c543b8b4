"""Of what a program says when it fails, the line that says why."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasteland.text import REASON, reason

UNREAD = (
    "fatal: Could not read from remote repository.\n\n"
    "Please make sure you have the correct access rights\nand the repository exists.\n"
)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"fatal: '/none' does not appear to be a git repository\n{UNREAD}",
         "fatal: '/none' does not appear to be a git repository"),
        (f"git@h.example: Permission denied (publickey).\r\n{UNREAD}",
         "git@h.example: Permission denied (publickey)."),
        (f"Warning: Permanently added 'h' to the list of known hosts.\n{UNREAD}",
         "fatal: Could not read from remote repository."),
        ("error: object 1: missingEmail: invalid author\nfatal: fsck error in packed object\n"
         "fatal: fetch-pack: invalid index-pack output", "error: object 1: missingEmail: invalid author"),
        ("remote: Counting objects: 3, done.\nremote: error: GH006: Protected branch\nTo https://h.example/r\n"
         " ! [remote rejected] main -> main (hook declined)\nerror: failed to push some refs to 'r'\n"
         "hint: see the note", "remote: error: GH006: Protected branch"),
        ("remote: \nremote: nobody pushes on a Friday\nerror: failed to push some refs to 'r'",
         "remote: nobody pushes on a Friday"),
        ("fatal: ambiguous argument 'x': unknown revision\nUse '--' to separate paths from revisions, like this:\n"
         "'git <command> [<revision>...] -- [<file>...]'", "fatal: ambiguous argument 'x': unknown revision"),
        ("error: unknown option `bogus'\nusage: git fetch [<options>]\n   or: git fetch --all\n\n    -v  more\n",
         "error: unknown option `bogus'"),
        ("Author identity unknown\n\n*** Please tell me who you are.\n\nRun\n\n  git config --global user.email you\n\n"
         "fatal: unable to auto-detect email address", "fatal: unable to auto-detect email address"),
        ("hint: only advice", "hint: only advice"), ("  \n\n", "nothing"), ("", "nothing"),
        ("warning: x\nsomething broke", "something broke"), ("usage: wl [x]", "usage: wl [x]"),
        ("Receiving objects:  50%\rReceiving objects: 100%\rfatal: early stop", "fatal: early stop"),
        ("cloning https://h.example/a/b\nProcessed 3 chunks\nclone failed; permission denied\n",
         "clone failed; permission denied"),
        ("fatal: unable to access 'https://u:pw@h.example/r/': no\n",
         "fatal: unable to access 'https://…@h.example/r/': no"),
        ("Cloning into 'x'...\nremote: Total 3 (delta 0)\nReceiving objects: 100%\n", "nothing"),
        ("fatal: \x1b[31mred\u202e", "fatal: \\x1b[31mred\\u202e"),
    ],
)  # fmt: skip
def test_the_line_that_explains_is_taken(said: str, why: str) -> None:
    assert reason(said, "nothing") == why


def test_of_a_log_the_newest_error_is_taken() -> None:
    log = "level=error msg=old\nlevel=fatal msg=new\nlevel=info msg=bye\n"
    assert reason(log, newest=True) == "level=fatal msg=new"
    assert reason(log) == "level=error msg=old"
    assert reason("", newest=True) == "it said nothing"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["ls-remote", "/nonexistent/r"], "does not appear to be a git repository"),
        (["rev-parse", "HEAD", "--"], "not a git repository"), (["clone", "--bogus"], "unknown option"),
        (["clone", "file:///nonexistent/r", "x"], "does not appear to be"), (["bogus"], "is not a git command"),
    ],
)  # fmt: skip
def test_what_git_says_in_fact_is_understood(tmp_path: Path, words: list[str], why: str) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),
    }
    done = subprocess.run(["git", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert done.returncode
    assert why in reason(done.stderr)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.text()
    | st.lists(st.sampled_from(["\n", "fatal: ", "hint:", "usage: ", "\r", " ", "level=error", "x"])).map("".join)
)
def test_any_output_has_one_line_or_none(said: str) -> None:
    for newest in (False, True):
        why = reason(said, "nothing", newest=newest)
        assert "\n" not in why
        assert why
        assert len(why) <= 10 * REASON
