"""CIFAR-10, Python version: pickles, read without unpickling.

A pickle is a program for a stack machine, and two of its instructions, GLOBAL and REDUCE, import and call whatever they
name. Here the program is read (`pickletools.genops`, which runs nothing), and the few instructions that the published
files consist of put plain data together: a GLOBAL stays a name, and a REDUCE a note of what would have been called.
Nothing is imported and nothing called, whatever the file says; any other instruction is refused.
"""

from __future__ import annotations

import pickletools  # nosec B403  # its opcodes are read, nothing is executed
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x80\x02"  # a pickle of protocol 2; a binary batch begins with a label, 0 to 9
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Name:
    """What GLOBAL would have imported."""

    path: str


@dataclass
class _Call:
    """What REDUCE would have called, and the state that BUILD would have given to the result."""

    of: Any
    arguments: Any
    state: Any = None


@dataclass
class _Machine:
    """The stack machine of a pickle, without the instructions that do anything but gather."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:]) if count else ()
        if len(items) != count:
            raise IndexError
        del self.stack[len(self.stack) - count :]
        self.push(items)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, bytes):
                raise TypeError
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(items)

    def call(self) -> None:
        arguments = self.stack.pop()
        self.push(_Call(self.stack.pop(), arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Call):
            raise TypeError
        target.state = state


def _latin(argument: str) -> bytes:
    return argument.encode("latin-1")  # `genops` shows the bytes of Python 2's strings so


_Step = Callable[[_Machine, Any], Any]
_STEPS: Mapping[str, _Step] = MappingProxyType(
    {
        "PROTO": lambda machine, version: None,
        "STOP": lambda machine, _: None,
        "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
        "EMPTY_DICT": lambda machine, _: machine.push({}),
        "EMPTY_LIST": lambda machine, _: machine.push([]),
        "EMPTY_TUPLE": lambda machine, _: machine.tuple_of(0),
        "TUPLE1": lambda machine, _: machine.tuple_of(1),
        "TUPLE2": lambda machine, _: machine.tuple_of(2),
        "TUPLE3": lambda machine, _: machine.tuple_of(3),
        "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
        "NONE": lambda machine, _: machine.push(None),
        "NEWTRUE": lambda machine, _: machine.push(True),
        "NEWFALSE": lambda machine, _: machine.push(False),
        "BININT": lambda machine, value: machine.push(value),
        "BININT1": lambda machine, value: machine.push(value),
        "BININT2": lambda machine, value: machine.push(value),
        "BINSTRING": lambda machine, text: machine.push(_latin(text)),
        "SHORT_BINSTRING": lambda machine, text: machine.push(_latin(text)),
        "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
        "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
        "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
        "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
        "BINPUT": lambda machine, at: machine.memo.__setitem__(at, machine.stack[-1]),
        "LONG_BINPUT": lambda machine, at: machine.memo.__setitem__(at, machine.stack[-1]),
        "BINGET": lambda machine, at: machine.push(machine.memo[at]),
        "LONG_BINGET": lambda machine, at: machine.push(machine.memo[at]),
        "GLOBAL": lambda machine, name: machine.push(_Name(name)),
        "REDUCE": lambda machine, _: machine.call(),
        "BUILD": lambda machine, _: machine.build(),
    }
)


def read_cifar_python(content: bytes, records: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read `data_batch_N` or `test_batch` of the Python version -> images [records, 3, 32, 32], labels 0..9."""
    batch = _gathered(content)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError("a pickle, but not of a batch of CIFAR-10's Python version: it has no data and labels")
    images = _array(batch[b"data"], (records, _PIXELS))
    labels = batch[b"labels"]
    if not isinstance(labels, list) or len(labels) != records:
        raise ValueError(f"the batch has not {records:,} labels")
    wrong = [at for at, label in enumerate(labels) if type(label) is not int or not 0 <= label <= 9]
    if wrong:
        raise ValueError(f"record {wrong[0]} has label {labels[wrong[0]]!r}, expected 0 to 9")
    return images.reshape(records, 3, 32, 32), np.array(labels, dtype=np.int64)


def _gathered(content: bytes) -> Any:
    machine, at = _Machine(), 0
    try:
        for name, argument, at in _instructions(content):
            step = _STEPS.get(name)
            if step is None:
                raise ValueError(f"a pickle with the instruction {name} at byte {at}, which is not read here")
            step(machine, argument)
        (value,) = machine.stack
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"a pickle that makes no sense at byte {at}") from error
    return value


def _instructions(content: bytes) -> Iterator[tuple[str, Any, int]]:
    """Yield (name, argument, offset) of each instruction. Raise ValueError where the bytes end early or are none."""
    steps = pickletools.genops(content)
    while True:
        try:
            opcode, argument, position = next(steps)
        except StopIteration:
            return
        except ValueError as error:
            raise ValueError(f"a pickle that is cut off or altered: {error}") from error
        yield opcode.name, argument, position or 0


def _array(value: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the uint8 array of numpy's own pickle: `_reconstruct`, with (version, shape, dtype, fortran, bytes)."""
    state = value.state if isinstance(value, _Call) else None
    if not isinstance(state, tuple) or len(state) != 5 or not _is(value.of, "numpy.core.multiarray _reconstruct"):
        raise ValueError("the batch's data are not a numpy array")
    _, dimensions, dtype, fortran, raw = state
    kind = dtype.arguments[0] if isinstance(dtype, _Call) and _is(dtype.of, "numpy dtype") and dtype.arguments else None
    if dimensions != shape or kind != b"u1" or not isinstance(raw, bytes) or len(raw) != shape[0] * shape[1]:
        raise ValueError(
            f"the batch's data are {kind!r} of shape {dimensions}, expected {shape[0]:,} x {shape[1]:,} bytes"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C").copy(order="C")


def _is(name: Any, path: str) -> bool:
    return isinstance(name, _Name) and name.path == path
