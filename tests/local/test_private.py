"""Files that are the user's alone: whole or not at all, and read by one rule."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wasteland.local import private


@pytest.mark.parametrize("lasting", [True, False])
def test_a_file_is_replaced_whole_and_others_cannot_read_it(tmp_path, lasting):
    file = tmp_path / "kept.json"
    file.write_bytes(b"old")
    file.chmod(0o644)
    private.write(file, b"new", lasting=lasting)
    assert file.stat().st_mode & 0o777 == 0o600
    assert private.read(file) == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    file = tmp_path / "kept.json"
    private.write(file, b"old")
    words = (
        "import resource, signal, sys; from pathlib import Path; from wasteland.local import private\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "private.write(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", words, str(file)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr, done.stderr
    assert private.read(file) == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_only_a_plain_file_of_ones_own_that_is_closed_to_others_is_read(tmp_path):
    file, link = tmp_path / "kept", tmp_path / "link"
    private.write(file, b"x")
    link.symlink_to(file)
    assert private.read(link) is None
    assert private.flaw(link.lstat()) == private.FOREIGN
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert private.read(tmp_path / "pipe") is None
    (tmp_path / "folder").mkdir(mode=0o700)
    assert private.read(tmp_path / "folder") is None
    for mode in (0o640, 0o604, 0o610):
        file.chmod(mode)
        assert private.read(file) is None
        assert private.flaw(file.stat()) == private.OPEN
    file.chmod(0o400)
    assert (private.read(file), private.flaw(file.stat())) == (b"x", None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_user_is_not_believed(tmp_path):
    file = tmp_path / "kept"
    private.write(file, b"x")
    os.chown(file, 12345, -1)
    assert private.read(file) is None
    assert private.flaw(file.stat()) == private.FOREIGN
