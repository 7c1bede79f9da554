"""A stand-in for an SDK that has the names of one release and no others.

The JSON files beside this one are the public API of a release, read off its own bindings and
reduced to what an inference adapter could touch. Whatever is not in them raises as the real
binding does: an unknown name, member or enum value, a wrong argument count or type, a property
that cannot be set, a subclass that does not call its base's `__init__`. What is in them but has
no scripted behaviour raises too, so that nothing passes by accident.
"""

import enum
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Behaviour = Mapping[str, Callable[..., Any]]
BUFFERS = ("buffer", "typing_extensions.Buffer")
INTEGERS = ("int", "typing.SupportsInt")
NUMBERS = ("float", "typing.SupportsFloat")


class StrictEnum(enum.Enum):
    def __int__(self) -> int:
        return self.value


class Strict:
    """An object of a stand-in; its state is kept apart from its public members."""

    _members: Mapping[str, Any] = {}
    _state: dict[str, Any]

    def __setattr__(self, name: str, value: Any) -> None:
        inherits = "_public" not in type(self).__dict__
        if not inherits and name != "_state" and name not in self._members:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def read_api(package: str, version: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / f"{package}_api_{version}.json").read_text())


def new(kind: type, **state: Any) -> Any:
    """An object that only the SDK itself can make."""
    made = object.__new__(kind)
    made._state = dict(state)
    return made


def strict_module(name: str, api: Mapping[str, Any], behaviour: Behaviour) -> ModuleType:
    module = ModuleType(name)
    known: dict[str, Any] = {}
    for title, values in api["enums"].items():
        known[title] = StrictEnum(title, list(values.items()))
    for title, described in api["classes"].items():
        known[title] = type(title, (Strict,), {"_public": True, "_members": described})
    for title, described in api["classes"].items():
        for base in described["bases"]:
            known[title].__bases__ = (known[base],)
    for title, described in api["classes"].items():
        _fill(known[title], described, behaviour, known)
    for title, overloads in api["functions"].items():
        known[title] = _checked(title, overloads, behaviour.get(title), known)
    vars(module).update(known)
    return module


def _fill(kind: Any, described: Mapping[str, Any], behaviour: Behaviour, known: dict) -> None:
    members = {**described["methods"], **described["properties"]}
    members.update(dict.fromkeys(described["attributes"]))
    kind._members = members
    for title, overloads in described["methods"].items():
        where = f"{kind.__name__}.{title}"
        if title == "__init__":
            continue
        method = _checked(where, overloads, behaviour.get(where), known)
        static = not any(params and params[0][0] == "self" for params in overloads)
        setattr(kind, title, staticmethod(method) if static else method)
    for title, writable in described["properties"].items():
        setattr(kind, title, _property(f"{kind.__name__}.{title}", title, writable, behaviour))
    overloads = described["methods"].get("__init__") or ()
    start = behaviour.get(f"{kind.__name__}.__init__")

    def construct(self: Any, *args: Any, **named: Any) -> None:
        if not overloads:
            raise TypeError(f"{kind.__name__}: No constructor defined!")
        self._state = {}
        values = _bound(kind.__name__, overloads, (self, *args), named, known)
        if start is not None:
            start(*values)

    kind.__init__ = construct


def _property(where: str, title: str, writable: bool, behaviour: Behaviour) -> property:
    def read(self: Any) -> Any:
        if where in behaviour:
            return behaviour[where](self)
        if title not in self._state:
            raise NotImplementedError(f"no script for {where}")
        return self._state[title]

    def write(self: Any, value: Any) -> None:
        self._state[title] = value

    return property(read, write if writable else None)


def _checked(where: str, overloads: list, script: Callable | None, known: dict) -> Callable:
    def call(*args: Any, **named: Any) -> Any:
        values = _bound(where, overloads, args, named, known)
        if script is None:
            raise NotImplementedError(f"no script for {where}")
        return script(*values)

    return call


def _bound(where: str, overloads: list, args: tuple, named: dict, known: dict) -> list[Any]:
    for params in overloads:
        values = _match(params, args, named, known)
        if values is not None:
            return values
    raise TypeError(f"{where}(): incompatible function arguments {args!r} {named!r}; "
                    f"there is {overloads}")  # fmt: skip


def _match(params: list, args: tuple, named: dict, known: dict) -> list[Any] | None:
    if len(args) > len(params) or set(named) - {name for name, _, _ in params[len(args) :]}:
        return None
    values = list(args)
    for name, _, optional in params[len(args) :]:
        if name in named:
            values.append(named[name])
        elif not optional:
            return None
    kinds = [kind for name, kind, _ in params[: len(args)] if name] + [
        kind for name, kind, _ in params[len(args) :] if name in named
    ]
    fit = all(_fits(value, kind, known) for value, kind in zip(values, kinds, strict=True))
    return values if fit else None


def _fits(value: Any, kind: str, known: dict) -> bool:
    if kind in INTEGERS:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if kind in NUMBERS:
        return isinstance(value, (int, float))
    if kind in ("str", "bool"):
        return type(value).__name__ == kind
    if kind in BUFFERS:
        return isinstance(value, (bytes, bytearray, memoryview, known["IHostMemory"]))
    if kind == "Dims" and isinstance(value, (tuple, list)):
        return all(isinstance(size, int) for size in value)
    if kind in ("tuple", "list"):
        return type(value).__name__ == kind
    if kind in known:
        started = isinstance(value, StrictEnum) or "_state" in getattr(value, "__dict__", {})
        return isinstance(value, known[kind]) and started
    return True
