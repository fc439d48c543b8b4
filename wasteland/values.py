"""Dataclasses whose methods are shared instead of generated, so that a class costs a tenth of the time.

`dataclasses.dataclass` writes source text for each class and compiles it: about
a millisecond for a frozen one, a third of what a command takes until it does
anything.  This one has the same fields, methods and errors, and works with
`dataclasses.replace`, `asdict` and `fields`; type checkers take it for the
other one.  It knows `frozen` and no other option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass

Class = TypeVar("Class", bound=type)
MISSING = dataclasses.MISSING
SHAPE = "__wasteland_shape__"  # of a class: names, what they are where not given, factories, required, for ==, for repr


def _init(self: Any, /, *args: Any, **given: Any) -> None:
    names, blank, factories, required, _, _ = getattr(self, SHAPE)
    values = blank.copy()
    if args:
        twice = given.keys() & set(names[: len(args)])
        if len(args) > len(names) or twice:
            what = f"{sorted(twice)} twice" if twice else f"{len(args)} values for {len(names)} fields"
            raise TypeError(f"{type(self).__qualname__}() got {what}")
        values.update(zip(names, args, strict=False))
    values.update(given)
    if len(values) != len(names):
        raise TypeError(f"{type(self).__qualname__}() has no field {sorted(values.keys() - blank.keys())}")
    for name, factory in factories:
        if values[name] is MISSING:
            values[name] = factory()
    for name in required:
        if values[name] is MISSING:
            raise TypeError(f"{type(self).__qualname__}() lacks {name!r}")
    self.__dict__.update(values)


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = getattr(self, SHAPE)[4]
    mine, theirs = self.__dict__, other.__dict__
    return [mine[name] for name in compared] == [theirs[name] for name in compared]


def _hash(self: Any) -> int:
    return hash(tuple([getattr(self, name) for name in getattr(self, SHAPE)[4]]))


def _repr(self: Any) -> str:
    told = ", ".join(f"{name}={getattr(self, name)!r}" for name in getattr(self, SHAPE)[5])
    return f"{type(self).__qualname__}({told})"


def _refuse_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _shared(cls: Class, frozen: bool) -> Class:
    own = cls.__dict__
    if "__post_init__" in own or "__slots__" in own:
        raise TypeError(f"{cls.__qualname__} needs more than a shared dataclass has")
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(made)
    blank = {one.name: one.default for one in fields}
    factories = [(one.name, one.default_factory) for one in fields if one.default_factory is not MISSING]
    required = [one.name for one in fields if one.default is MISSING and one.default_factory is MISSING]
    compared = [one.name for one in fields if one.compare]
    shown = [one.name for one in fields if one.repr]
    setattr(made, SHAPE, (tuple(blank), blank, factories, required, compared, shown))
    methods: dict[str, Any] = {"__init__": _init, "__eq__": _eq, "__repr__": _repr, "__hash__": None}
    if frozen:
        methods |= {"__hash__": _hash, "__setattr__": _refuse_set, "__delattr__": _refuse_delete}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return cls


if not TYPE_CHECKING:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False) -> type | Callable[[type], type]:
        """Make a class one of values, as `dataclasses.dataclass` does."""
        return _shared(cls, frozen) if cls is not None else lambda given: _shared(given, frozen)
