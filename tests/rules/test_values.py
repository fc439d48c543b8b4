"""`wasteland.values` against the standard library's dataclasses, which it is to be taken for."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Any

import pytest

from wasteland.values import dataclass as shared


def kinds(decorate: Any, **options: Any) -> tuple[type, type]:
    @decorate(**options)
    class Base:
        """One that must be given, one that need not, one made anew each time."""

        id: str
        size: int = 3
        tags: list[str] = field(default_factory=list)
        secret: str = field(default="s", repr=False)
        noise: int = field(default=0, compare=False)

        @property
        def loud(self) -> str:
            return self.id.upper()

    @decorate(**options)
    class More(Base):
        """With a field more, and another default."""

        size: int = 4
        last: str | None = None

    return Base, More


@shared(frozen=True)
class Ours:
    """Pickled by name."""

    id: str
    more: tuple[str, ...] = ()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_it_behaves_as_the_standard_one_does(frozen, which):
    theirs, ours = kinds(dataclasses.dataclass, frozen=frozen)[which], kinds(shared, frozen=frozen)[which]
    for args, given in ((("a",), {}), (("a", 5), {"tags": ["t"]}), ((), {"id": "b", "secret": "x", "noise": 2})):
        one, other = theirs(*args, **given), ours(*args, **given)
        assert asdict(one) == asdict(other)
        assert list(vars(one)) == list(vars(other))
        assert repr(one) == repr(other)
        assert other == ours(*args, **given)
        assert other == ours(*args, **given | {"noise": 9})
        assert other != ours(*args, **given | {"secret": "another"})
        assert other != one
        assert other.loud == one.loud
        assert asdict(replace(other, size=9)) == asdict(replace(one, size=9))
        assert copy.deepcopy(other) == other
    assert [f.name for f in dataclasses.fields(ours)] == [f.name for f in dataclasses.fields(theirs)]


def test_a_default_that_is_made_is_made_anew():
    ours = kinds(shared)[0]
    ours("a").tags.append("t")
    assert ours("b").tags == []


@pytest.mark.parametrize(
    ("args", "given"), [((), {}), (("a",), {"id": "b"}), (("a",), {"other": 1}), (("a", 1, [], "s", 0, 9), {})]
)
def test_what_the_standard_one_does_not_take_is_not_taken(args, given):
    for decorate in (dataclasses.dataclass, shared):
        with pytest.raises(TypeError):
            kinds(decorate)[0](*args, **given)


def test_a_frozen_one_stays_as_it_is_and_can_be_a_key():
    made = Ours("a", ("b",))
    with pytest.raises(FrozenInstanceError):
        made.id = "b"
    with pytest.raises(FrozenInstanceError):
        del made.id
    assert {made: 1}[Ours("a", ("b",))] == 1
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(TypeError):
        hash(kinds(shared)[0]("a"))


def test_a_method_of_the_class_itself_stays():
    @shared(frozen=True)
    class Named:
        """It says itself."""

        id: str

        def __repr__(self) -> str:
            return "me"

    assert repr(Named("a")) == "me"


def test_what_it_does_not_know_is_refused():
    with pytest.raises(TypeError, match="needs more"):

        @shared
        class Checked:
            """It looks at what it is given."""

            id: str

            def __post_init__(self) -> None:
                raise AssertionError
