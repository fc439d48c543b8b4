"""scripts/setup on machines where something is missing; nothing is downloaded or built here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = "bash cat cut date dirname env flock grep head ln mkdir mktemp mv rm sed sha256sum sleep sort tail tr uname"


@pytest.fixture
def machine(tmp_path):
    """A clone, an empty HOME, and a PATH with little on it."""
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    for name in [*TOOLS.split(), "git", "gpg", "bwrap", "unshare"]:
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
        else:
            a_program(tmp_path / "bin" / name, "exit 0")
    return tmp_path


def a_program(path: Path, words: str) -> None:
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)


def setup(machine: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(machine / "home"), "PATH": str(machine / "bin"), **more}
    return subprocess.run(
        [machine / "clone" / "scripts" / "setup"], env=env, capture_output=True, text=True, timeout=60, check=False,
        cwd=machine,
    )  # fmt: skip


def lib(words: str) -> bool:
    done = subprocess.run(
        ["bash", "-c", f"source {ROOT}/scripts/lib.sh; {words}"], timeout=10, check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0


@pytest.mark.parametrize("have", ["1.82.4", "1.82.10", "1.83.0", "2.0.0", "1.100", "1.82.4-rc1", "1.82.08"])
def test_versions_that_will_do(have):
    assert lib(f"at_least {have} 1.82.4")


@pytest.mark.parametrize("have", ["1.82.3", "1.9.0", "0.99.99", "1.82", "''", "none"])
def test_versions_that_will_not(have):
    assert not lib(f"at_least {have} 1.82.4")


def test_setup_says_in_one_sentence_what_dolt_needs(machine):
    a_venv(machine)
    a_program(machine / "bin" / "gcc", "exit 0")
    a_program(machine / "bin" / "go", 'test "$1" = env && echo go1.19.8')
    # Go that another folder holds would be found as well.
    script = machine / "clone" / "scripts" / "setup"
    script.write_text(script.read_text().replace("/usr/local/go/bin/go", "/nowhere/go"))
    done = setup(machine)

    assert done.returncode == 1
    assert "Go 1.25.6 or later (found: 1.19.8) is missing" in done.stderr


def test_setup_with_nothing_missing_only_looks(machine):
    a_venv(machine)
    a_program(machine / "bin" / "dolt", "echo dolt version 1.82.4; echo 'Warning: you are on an old version'")
    done = setup(machine)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((machine / "home").iterdir()) == []


def test_setup_builds_no_dolt_where_one_is_named(machine):
    a_venv(machine)
    a_program(machine / "bin" / "go", "exit 1")
    a_program(machine / "mine", "echo dolt version 2.3.1")
    for named in (str(machine / "mine"), "mine"):
        done = setup(machine, WL_DOLT=named)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [("echo dolt version 1.82.3", "which is Dolt 1.82.3; 1.82.4 or later is needed"),
     ("exit 1", "which is not a Dolt that runs")],
)  # fmt: skip
def test_setup_refuses_a_named_dolt_that_will_not_do(machine, words, said):
    a_venv(machine)
    a_program(machine / "bin" / "dolt", "echo dolt version 1.83.2")
    a_program(machine / "mine", words)
    done = setup(machine, WL_DOLT=str(machine / "mine"))
    assert done.returncode == 1
    assert done.stderr == f"setup: WL_DOLT names {machine}/mine, {said}\n"


def test_a_venv_that_is_half_made_is_made_again(machine):
    a_venv(machine)
    (machine / "clone" / ".venv" / ".setup-stamp").unlink()
    a_program(machine / "bin" / "dolt", "echo dolt version 1.83.2")
    a_program(machine / "bin" / "uv", f'echo "$@" >> {machine}/asked; mkdir -p {machine}/clone/.venv/bin')
    a_program(machine / "bin" / "python3", "echo /some/python")
    done = setup(machine)

    assert done.returncode == 0, done.stderr
    asked = (machine / "asked").read_text().splitlines()
    assert asked[0].startswith("venv ")
    assert "--require-hashes -r requirements.lock" in asked[1]
    assert "--no-deps --no-build-isolation -e ." in asked[2]


def a_venv(machine: Path) -> None:
    """What setup leaves behind when it has made .venv."""
    clone = machine / "clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    a_program(clone / ".venv" / "bin" / "python", "exit 0")
    made = f"cat requirements.lock pyproject.toml <(printf '%s\\n' {clone.resolve()}) | sha256sum | cut -d ' ' -f 1"
    stamp = subprocess.run(["bash", "-c", made], cwd=clone, capture_output=True, text=True, check=True).stdout
    (clone / ".venv" / ".setup-stamp").write_text(stamp)
