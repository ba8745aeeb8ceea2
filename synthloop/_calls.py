"""Two processes that use each other's objects and share none: what crosses is plain data.

    peer = Peer(channel, allowed, ended, classes)             a socket; the other process has one at its other end
    double = peer.ask("getattr", solution, "double")          a `Remote`
    double(2)                                                 4, built here from what the other process wrote

A value of a built-in type, or of `VALUES`, is written down and built anew at the other end, one of a subclass as its
built-in base. Anything else stays where it is: the other end gets a `Remote`, which stands for it and sends back what
is done with it. It can be done with nothing but objects that were handed over: the other process names no function or
class to call here. So none of its code ever runs here, and it has no say in what its values equal. What a call changed
in the lists, sets and dicts that it was given is changed in the caller's as well.

It uses the standard library only, as a copy of it runs in the sandbox (`synthloop/_run_tests.py`).

A message is a line of JSON: {"do": OPERATION, "with": [...]}, answered by {"value": ..., "changed": [...]} or
{"error": NAMES OF CLASSES, "args": ..., "notes": [...]}. What JSON has no form for is an object of one key, its type.
"""

from __future__ import annotations

import builtins
import importlib
import json
import socket
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

SOLUTION = "solution.py"
"""The file whose last line that an exception passed through is noted on it."""

VALUES = {
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
}
"""Classes of the standard library whose objects are data: `__reduce__` gives the arguments that build an equal one."""

BASES = (int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range)

CLASSES = {*BASES, bool, object}
"""Built-in classes that make nothing but data."""

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, args, kwargs: function(*args, **kwargs),
    "iter": iter,
    "next": next,
    "bool": bool,
    "len": len,
    "str": str,
    "repr": repr,
    "getattr": getattr,
    "setattr": setattr,
    "getitem": lambda container, key: container[key],
    "isinstance": lambda cls, value: isinstance(value, cls),
}


class Remote:
    """An object of the other process. It equals itself alone.

    Operations that hand over what to compare with (`==`, `<`, `in`, `-`) are not forwarded, as the other process would
    decide then.
    """

    def __init__(self, peer: Peer, number: int) -> None:
        vars(self).update(_peer=peer, _number=number)

    def __getattr__(self, name: str) -> Any:
        return self._peer.ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._peer.ask("setattr", self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._peer.hand_over(one for one in (*args, *kwargs.values()) if type(one) is type)
        return self._peer.ask("call", self, args, kwargs)

    def __iter__(self) -> Any:
        return self._peer.ask("iter", self)

    def __next__(self) -> Any:
        return self._peer.ask("next", self)

    def __bool__(self) -> bool:
        return bool(self._peer.ask("bool", self))

    def __len__(self) -> int:
        return int(self._peer.ask("len", self))

    def __getitem__(self, key: object) -> Any:
        return self._peer.ask("getitem", self, key)

    def __instancecheck__(self, value: object) -> bool:
        return bool(self._peer.ask("isinstance", self, value))

    def __str__(self) -> str:
        return str(self._peer.ask("str", self))

    def __repr__(self) -> str:
        return str(self._peer.ask("repr", self))


class Peer:
    """One end of `channel`; once the other is gone, `ended` is called.

    The other may ask for the `OPERATIONS` in `allowed` on what it was handed. It may name exceptions, `classes`, and
    those that were arguments of a call.
    """

    def __init__(
        self, channel: socket.socket, allowed: Iterable[str], ended: Callable[[], NoReturn], classes: Iterable[type]
    ) -> None:
        self._lines = channel.makefile("rwb")
        self._allowed = frozenset(allowed)
        self._ended = ended
        self._classes = set(classes)
        self._mine: dict[int, object] = {}
        self._remotes: dict[int, Remote] = {}
        self._errors: dict[str, type[BaseException]] = {}

    def ask(self, operation: str, *arguments: Any) -> Any:
        """What the other process gets for `operation`, one of `OPERATIONS`. Raises what it raises."""
        written = self._write(list(arguments))
        self._send(json.dumps({"do": operation, "with": written}))
        while "do" in (message := self._receive()):
            self._answer(message)
        if "error" in message:
            raise self._read_error(message)
        if message["changed"] != written:
            update(list(arguments), self._read(message["changed"]))
        return self._read(message["value"])

    def hand_over(self, classes: Iterable[type]) -> None:
        """Let the other process name these classes."""
        self._classes.update(classes)

    def serve(self, first: object) -> NoReturn:
        """Do what the other process asks. It knows `first`, as `remote(0)`."""
        self._mine[0] = first
        while True:
            self._answer(self._receive())

    def remote(self, number: int) -> Remote:
        """The other process's object of that number: the same one each time."""
        return self._remotes.setdefault(number, Remote(self, number))

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            if message["do"] not in self._allowed:
                raise PermissionError(f"{message['do']} is not for the other process to ask")
            if message["with"][0].keys() != {"yours"}:
                raise PermissionError("only objects that were handed over can be used")
            arguments = self._read(message["with"])
            value = OPERATIONS[message["do"]](*arguments)
            answer = json.dumps({"value": self._write(value), "changed": self._write(arguments)})
        except BaseException as error:  # noqa: BLE001 - it is the other process's to see, an exit too
            answer = self._written_error(error)
        self._send(answer)

    def _send(self, line: str) -> None:
        try:
            self._lines.write(line.encode() + b"\n")
            self._lines.flush()
        except OSError:
            self._ended()

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            self._ended()
        message = json.loads(line)
        if not isinstance(message, dict):
            raise TypeError("what the other process wrote is no message")
        return message

    def _write(self, value: Any) -> Any:
        """What JSON takes for `value`. Raises `RecursionError` where it holds itself."""
        kind = type(value)
        if value is None or kind in (bool, float, str) or (kind is int and abs(value) < 2**63):
            return value
        if kind is list:
            return [self._write(one) for one in value]
        if kind is Remote and value._peer is self:
            return {"yours": value._number}
        if kind is types.ModuleType and is_standard(value.__name__):
            return {"module": value.__name__}
        if kind is type and (issubclass(value, BaseException) or getattr(builtins, value.__name__, None) is value):
            return {"class": [cls.__name__ for cls in value.__mro__]}
        if (kind.__module__, kind.__name__) in VALUES:
            return {"made": [kind.__module__, kind.__name__, self._write(value.__reduce__()[1])]}
        for base in BASES:
            if isinstance(value, base):
                return {base.__name__: self._content(base, value)}
        self._mine[id(value)] = value
        return {"mine": id(value)}

    def _content(self, base: type, value: Any) -> Any:
        if base is int:
            return hex(value)  # decimal digits are limited to 4300
        if base in (bytes, bytearray):
            return value.hex()
        if base is range:
            return [value.start, value.stop, value.step]
        if base is complex:
            return [value.real, value.imag]
        if base is dict:
            return [[self._write(key), self._write(one)] for key, one in value.items()]
        return base.__call__(value) if base in (float, str) else [self._write(one) for one in value]

    def _read(self, form: Any) -> Any:
        if isinstance(form, list):
            return [self._read(one) for one in form]
        if not isinstance(form, dict):
            return form
        ((name, content),) = form.items()
        if name == "mine":
            return self.remote(int(content))
        if name == "yours":
            return self._mine[content]
        if name == "module" and is_standard(content):
            return importlib.import_module(content)
        if name == "class":
            return self._class(content)
        if name == "made" and tuple(content[:2]) in VALUES:
            return getattr(importlib.import_module(content[0]), content[1])(*self._read(content[2]))
        base = next(one for one in BASES if one.__name__ == name)
        if base is int:
            return int(content, 16)
        if base in (bytes, bytearray):
            return base.fromhex(content)
        if base in (range, complex):
            return base(*content)
        make: Callable[[Any], Any] = base
        return make(content if isinstance(content, str) else self._read(content))

    def _class(self, names: list[str]) -> type:
        """A built-in class; for a class of exceptions of the other process one made here, below the same built-in.

        Raises `TypeError` for one that the other process may not name.
        """
        known = [one if isinstance(one := getattr(builtins, name, None), type) else None for name in names]
        first = next(index for index, one in enumerate(known) if one is not None)
        cls = known[first]
        assert cls is not None
        if not issubclass(cls, BaseException) and (first or cls not in self._classes):
            raise TypeError(f"the class {names[0]} can't be used outside the code that names it")
        for name in reversed(names[:first]):
            cls = self._errors.setdefault(name, type(name, (cls,), {}))
        return cls

    def _written_error(self, error: BaseException) -> str:
        names = [cls.__name__ for cls in type(error).__mro__]
        places = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == SOLUTION]
        notes = [f"in line {places[-1].lineno} of the code: {places[-1].line}"] if places and places[-1].line else []
        try:
            return json.dumps({"error": names, "args": self._write(list(error.args)), "notes": notes})
        except Exception:  # noqa: BLE001 - arguments that can't be written
            return json.dumps({"error": names, "args": [], "notes": notes})

    def _read_error(self, message: dict[str, Any]) -> BaseException:
        cls = self._class(message["error"])
        if not issubclass(cls, BaseException):
            raise TypeError("what the other process raised is no exception")
        error = cls(*self._read(message["args"]))
        for note in message["notes"]:
            error.add_note(note)
        return error


def is_standard(name: str) -> bool:
    """Whether a module is of the standard library."""
    return name.partition(".")[0] in sys.stdlib_module_names


def update(old: Any, new: Any) -> None:
    """Make the lists, sets, dicts and bytearrays of `old` hold what those of `new` do."""
    if type(old) is not type(new):
        return
    if isinstance(old, (list, tuple)):
        for one, other in zip(old, new, strict=False):
            update(one, other)
    elif isinstance(old, dict):
        for key in old.keys() & new.keys():
            update(old[key], new[key])
    if isinstance(old, (list, bytearray)):
        old[:] = new
    elif isinstance(old, (dict, set)):
        old.clear()
        old.update(new)
