"""Each row and guard of the rules, removed in a copy of the package: some test must turn red.

Run by `scripts/mutate` too, which tells of each mutant.  A worker process
imports what the tests need once and forks for each mutant, so a mutant costs
its tests and little more.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
LIFECYCLE = ("rules/test_lifecycle.py", "rules/test_policy.py")
LEASE = ("rules/test_lease.py", *LIFECYCLE)
SIGNATURES = ("trust/test_envelope.py", "local/test_keys.py", "rules/test_policy.py")
POLICY = ("rules/test_policy.py",)
# What no test can tell from the original, and why.
EQUIVALENT: dict[str, str] = {
    "attestations: _bad_attestation: never if row.row.get('signer') != actor":
        "the payload must name the actor too, and the columns must repeat the payload; this says it in plainer words",
    "lifecycle: _mismatch: old is None and new.get('posted_by') != item.posted_by without old is None":
        "a row that exists keeps its poster: no step from it writes posted_by, so the columns are refused before",
    "lifecycle: _mismatch: every extra - DEFAULTED, not if new.get(name) is not None":
        "a column that is NULL in a new row never counts as changed",
    "lifecycle: _next: step.frm != step.to or steps without step.frm != step.to":
        "at the first step the only status seen is the one it starts from",
    "leases: _bad_renewal: item is None or before is None or made is None without before is None":
        "a claim that upstream has no lease of is not renewed: the table says so as well",
}  # fmt: skip
PROCESSES = 2
CHOSEN = 8
LIMIT = 40  # seconds of CPU for the tests of one mutant, which take a few; of the clock, WAITING times as many
WAITING = 5
TIMED_OUT = (-signal.SIGXCPU, -signal.SIGALRM)


@dataclass(frozen=True)
class Mutant:
    """One thing taken away: where, what, the source that is left, and the tests that should see it."""

    module: str
    what: str
    source: str
    tests: tuple[str, ...]

    @property
    def part(self) -> bool:
        """Whether it is a part of a condition: only `scripts/mutate` tries those."""
        return " without " in self.what and ": " in self.what and " columns " not in self.what

    @property
    def chosen(self) -> bool:
        """Whether it is among those that are tried with every change: one in CHOSEN, by its name."""
        return hashlib.sha256(self.name.encode()).digest()[0] % CHOSEN == 0

    @property
    def name(self) -> str:
        return f"{self.module.rpartition('/')[2]}: {self.what}"


Edit = Callable[[ast.Module], None]


def _mutants(module: str, tests: tuple[str, ...], edits: Iterator[tuple[str, Edit]], source: str) -> Iterator[Mutant]:
    for what, edit in edits:
        tree = ast.parse(source)
        edit(tree)
        yield Mutant(module, what, ast.unparse(ast.fix_missing_locations(tree)), tests)


def _at(tree: ast.AST, index: int) -> ast.AST:
    """The node at a place of `ast.walk`, which is the same in every parse of one source."""
    return list(ast.walk(tree))[index]


def _setter(index: int, change: Callable[[ast.AST], None]) -> Edit:
    return lambda tree: change(_at(tree, index))


def _said(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."


def guards(tree: ast.Module, only: tuple[str, ...] | None = None) -> Iterator[tuple[str, Edit]]:
    """Each `if` never taken, each part of an `and` or `or` left out, each `if` of a comprehension left out."""
    owner: dict[int, str] = {}
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            owner.update({id(inner): node.name for inner in ast.walk(node)})
    for index, node in enumerate(nodes):
        name = owner.get(id(node))
        if name is None or (only is not None and name not in only):
            continue
        if isinstance(node, ast.If):

            def never(found: ast.AST) -> None:
                found.test = ast.Constant(False)  # type: ignore[attr-defined]

            yield f"{name}: never if {_said(node.test)}", _setter(index, never)
        elif isinstance(node, ast.BoolOp):
            for place, part in enumerate(node.values):

                def less(found: ast.AST, place: int = place) -> None:
                    del found.values[place]  # type: ignore[attr-defined]

                yield f"{name}: {_said(node)} without {_said(part)}", _setter(index, less)
        elif isinstance(node, ast.comprehension) and node.ifs:

            def every(found: ast.AST) -> None:
                found.ifs = []  # type: ignore[attr-defined]

            yield f"{name}: every {_said(node.iter)}, not if {_said(node.ifs[0])}", _setter(index, every)


def table(tree: ast.Module) -> Iterator[tuple[str, Edit]]:
    """Each row of the transition table, and each thing that a row says."""
    from wasteland.rules.lifecycle import BY_VERB

    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRANSITIONS":
            for place, row in enumerate(node.value.elts):  # type: ignore[attr-defined]

                def shorter(found: ast.AST, place: int = place) -> None:
                    del found.value.elts[place]  # type: ignore[attr-defined]

                yield f"TRANSITIONS without {row.args[0].value}", _setter(index, shorter)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Transition":
            verb = node.args[0].value  # type: ignore[attr-defined]
            yield from _row(verb, index, node, sorted(BY_VERB[verb].writes))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("PASSED_THROUGH", "DEFAULTED"):
            for place, one in enumerate(node.value.args[0].elts):  # type: ignore[attr-defined]

                def fewer(found: ast.AST, place: int = place) -> None:
                    del found.value.args[0].elts[place]  # type: ignore[attr-defined]

                yield f"{ast.unparse(node.targets[0])} without {_said(one)}", _setter(index, fewer)


def _row(verb: str, index: int, node: ast.Call, writes: list[str]) -> Iterator[tuple[str, Edit]]:
    for place, party in enumerate(node.args[3].args[0].elts):  # type: ignore[attr-defined]

        def nobody(found: ast.AST, place: int = place) -> None:
            inner = found.args[3].args[0]  # type: ignore[attr-defined]
            del inner.elts[place]
            if not inner.elts:
                found.args[3].args = []  # type: ignore[attr-defined]

        yield f"{verb} not by {_said(party)}", _setter(index, nobody)
    for column in writes:

        def unwritten(found: ast.AST, column: str = column) -> None:
            found.args[4] = ast.BinOp(found.args[4], ast.Sub(), ast.Set([ast.Constant(column)]))  # type: ignore[attr-defined]

        yield f"{verb} does not write {column}", _setter(index, unwritten)
    for place, keyword in enumerate(node.keywords):
        if keyword.arg == "rows":
            for mark, one in enumerate(keyword.value.args[0].elts):  # type: ignore[attr-defined]

                def unmarked(found: ast.AST, place: int = place, mark: int = mark) -> None:
                    value = found.keywords[place].value  # type: ignore[attr-defined]
                    del value.args[0].elts[mark]
                    if not value.args[0].elts:
                        value.args = []

                yield f"{verb} without the row {_said(one)}", _setter(index, unmarked)
        else:

            def unsaid(found: ast.AST, place: int = place) -> None:
                del found.keywords[place]  # type: ignore[attr-defined]

            yield f"{verb} without {keyword.arg}={_said(keyword.value)}", _setter(index, unsaid)


def columns(tree: ast.Module) -> Iterator[tuple[str, Edit]]:
    """Each column of a row that is bound to what was signed."""
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "columns":
            for place, column in enumerate(node.value.elts):  # type: ignore[union-attr]

                def unbound(found: ast.AST, place: int = place) -> None:
                    del found.value.elts[place]  # type: ignore[attr-defined]

                yield f"{len(node.value.elts)} columns without {column.elts[0].value}", _setter(index, unbound)  # type: ignore[union-attr]


def returning(tree: ast.Module, function: str, value: object) -> Iterator[tuple[str, Edit]]:
    """A function that says `value` whatever it is asked."""
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.FunctionDef) and node.name == function:

            def constant(found: ast.AST) -> None:
                found.body = [ast.Return(ast.Constant(value))]  # type: ignore[attr-defined, arg-type]

            yield f"{function} always {value}", _setter(index, constant)


def mutants() -> list[Mutant]:
    """All of them, in a fixed order."""
    found: list[Mutant] = []

    def add(module: str, tests: tuple[str, ...], *makers: Callable[[ast.Module], Iterator[tuple[str, Edit]]]) -> None:
        source = (ROOT / "wasteland" / f"{module}.py").read_text()
        for make in makers:
            found.extend(_mutants(module, tests, make(copy.deepcopy(ast.parse(source))), source))

    add("rules/lifecycle", LIFECYCLE, table, guards)
    add("rules/lease", LEASE, guards, lambda t: returning(t, "bad_times", None))
    add(
        "local/keys",
        SIGNATURES,
        lambda t: returning(t, "verify_signature", True),
        lambda t: guards(t, ("verify_signature",)),
    )  # fmt: skip
    add("trust/envelope", SIGNATURES, lambda t: guards(t, ("verify_envelope", "signer_of", "checked_statement")))
    add("trust/binding", SIGNATURES, columns, lambda t: guards(t, ("evidence_matches", "redacted", "check_chain")),
        lambda t: returning(t, "evidence_matches", True), lambda t: returning(t, "check_stamp_row", ()))  # fmt: skip
    add("rules/policy/attestations", POLICY, lambda t: guards(t, ("_bad_attestation", "judge_attestations")),
        lambda t: returning(t, "_bad_attestation", None))  # fmt: skip
    add("rules/policy/signed", POLICY, lambda t: guards(t, ("index",)), lambda t: returning(t, "index", None))
    add("rules/policy/leases", POLICY, lambda t: guards(t, ("judge_leases", "_bad_lease", "_bad_renewal")),
        lambda t: returning(t, "_bad_lease", None), lambda t: returning(t, "_bad_renewal", None))  # fmt: skip
    add("rules/policy/stamps", POLICY, lambda t: guards(t, ("_doubt", "akin")), lambda t: returning(t, "akin", None),
        lambda t: returning(t, "one_key", False), lambda t: returning(t, "one_key", True))  # fmt: skip
    add("rules/policy/wanted", POLICY, lambda t: returning(t, "odd_id", None))
    add("rules/policy/pull_request", POLICY, lambda t: (one for one in guards(t, ("judge",)) if "not rows" in one[0]))
    add("models", POLICY, lambda t: guards(t, ("held_by", "more_than_times")))
    return found


def _try(mutant: Mutant | None, folder: Path) -> int:
    """In a forked child: run the tests on the copy; pytest's exit code."""
    package = folder / "wasteland"
    shutil.copytree(ROOT / "wasteland", package)
    os.symlink(ROOT / "schema", folder / "schema")
    if mutant is not None:
        written = package / f"{mutant.module}.py"
        written.write_text(mutant.source)
        for stale in (written.parent / "__pycache__").glob(f"{written.stem}.*"):
            stale.unlink()
    sys.path.insert(0, str(folder))
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    import importlib

    for name in [name for name in sys.modules if name.partition(".")[0] == "wasteland"]:
        del sys.modules[name]
    # Imported before pytest puts the repository first: submodules then come from the copy as well.
    imported = importlib.import_module("wasteland")
    assert str(imported.__file__).startswith(str(folder))
    tests = dict.fromkeys(mutant.tests if mutant else (*LEASE, *SIGNATURES))
    words = [str(TESTS / name) for name in tests if (TESTS / name).exists()]
    # The parent has imported hypothesis, which pytest would rewrite.
    quiet = ["-W", "ignore:Module already imported"]
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *quiet, *words]))


def _limit(seconds: int) -> None:
    """End this process, by a signal, where a mutant makes it loop or wait for ever."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    signal.alarm(seconds * WAITING)


def run(found: list[Mutant | None], folder: Path, limit: int = LIMIT) -> list[int]:
    """The exit code of each mutant's tests, negative for a signal; None is the original.

    A mutant that takes more than `limit` seconds of CPU is ended: see TIMED_OUT.
    """
    import hypothesis.strategies  # noqa: F401

    running: dict[int, int] = {}
    codes = [-1] * len(found)

    def reap() -> None:
        pid, status = os.wait()
        index = running.pop(pid)
        codes[index] = os.waitstatus_to_exitcode(status)
        if codes[index] == 0 and found[index] is not None:
            print(f"not caught: {found[index].name}", file=sys.stderr, flush=True)

    for index, mutant in enumerate(found):
        while len(running) >= PROCESSES:
            reap()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                _limit(limit)
                quiet = os.open(folder / f"{index}.log", os.O_WRONLY | os.O_CREAT)
                os.dup2(quiet, 1)
                os.dup2(quiet, 2)
                own = folder / str(index)
                own.mkdir()
                code = _try(mutant, own)
                shutil.rmtree(own)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        running[pid] = index
    while running:
        reap()
    return codes


def main() -> int:
    """Try every mutant; print what survives, 1 where anything does."""
    quick, some = "--quick" in sys.argv, "--some" in sys.argv
    found = [one for one in mutants() if not ((quick or some) and one.part) and (one.chosen or not some)]
    with tempfile.TemporaryDirectory(prefix="wl-mutants-") as folder:
        codes = run([None, *found], Path(folder))
        if codes[0] != 0:
            print((Path(folder) / "0.log").read_text())
    if codes[0] != 0:
        print(f"the tests do not pass on the original (exit {codes[0]})")
        return 1
    survivors = [m.name for m, code in zip(found, codes[1:], strict=True) if code == 0]
    broken = [f"{m.name} (exit {c})" for m, c in zip(found, codes[1:], strict=True) if c not in (0, 1, 2, *TIMED_OUT)]
    late = sum(code in TIMED_OUT for code in codes[1:])
    known = [name for name in survivors if name in EQUIVALENT]
    stale = sorted((EQUIVALENT.keys() & {m.name for m in found}) - set(survivors))
    alive = [name for name in survivors if name not in EQUIVALENT]
    for title, names in (
        ("survived", alive),
        ("could not be tried", broken),
        ("listed as equivalent, yet caught", stale),
    ):
        for name in names:
            print(f"{title}: {name}")
    caught = f"{len(found) - len(survivors) - len(broken)} caught" + (f" ({late} of them timed out)" if late else "")
    print(f"{len(found)} mutants, {caught}, {len(known)} equivalent")
    return 1 if alive or broken or stale else 0


@pytest.mark.parametrize("how_many", ["--some", pytest.param("--quick", marks=pytest.mark.long)])
def test_removing_a_row_or_a_guard_turns_a_test_red(how_many):
    done = subprocess.run(
        [sys.executable, "-m", "tests.rules.test_mutation", how_many], cwd=ROOT,
        env={**os.environ, "HOME": "/nonexistent"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


ENDLESS = """
import sys
from pathlib import Path
from tests.rules import test_mutation as mutation

source = (mutation.ROOT / "wasteland" / "rules" / "lease.py").read_text()
found = [
    mutation.Mutant("rules/lease", "loops", source + "\\nwhile True: pass\\n", mutation.LEASE),
    mutation.Mutant("rules/lease", "waits", source + "\\nimport time; time.sleep(1000)\\n", mutation.LEASE),
]
mutation.WAITING = 2
print(mutation.run(found, Path(sys.argv[1]), limit=1))
"""


def test_a_mutant_that_never_ends_counts_as_caught(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], cwd=ROOT, env={**os.environ, "HOME": "/nonexistent"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    codes = ast.literal_eval(done.stdout)
    assert len(codes) == 2, done.stderr
    assert set(codes) <= set(TIMED_OUT)


MERGED = "test_two_branches_that_are_green_alone_and_red_together"


def test_a_refinery_that_tests_the_branch_and_not_the_merged_tree_is_caught(tmp_path):
    home = next((f for f in sorted((ROOT / "tests" / "town").glob("test_*.py")) if MERGED in f.read_text()), None)
    if home is None:
        pytest.skip(f"SKIPPED ALOUD: tests/town has no {MERGED}")
    source = (ROOT / "gastown" / "refinery.py").read_text()
    right = "_gates(town, bead, rig, repo, made.target)"
    assert source.count(right) == 1
    for package in ("gastown", "wasteland", "schema"):
        shutil.copytree(ROOT / package, tmp_path / package)
    # The child imports the copy first, as above, so that pytest's own path comes too late.
    words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"{home}::{MERGED}"]
    start = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import gastown, wasteland, pytest; "
        f"sys.exit(pytest.main({words!r}))"
    )
    codes = []
    for text in (source, source.replace(right, right.replace("made.target", "merge.head"))):
        (tmp_path / "gastown" / "refinery.py").write_text(text)
        done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=300)
        codes.append(done.returncode)
    if "skipped" in done.stdout:
        pytest.skip("SKIPPED ALOUD: the town's test was skipped here")
    assert codes == [0, 1], done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
