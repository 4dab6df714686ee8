"""Fingerprints: two values with one fingerprint do the same, in every process. What cannot be told so is refused.

A function is known by its code, its defaults, what it closes over and the globals that it reads; an object by its class
and its state; what is installed (in the standard library or among site packages) by its import path. A fingerprint that
differs for equal behaviour costs a search that is not resumed; one that is equal for other behaviour would give
results of another network. So only the first may happen.
"""

import copyreg
import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import struct
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_DEEPEST = 100  # some frames each, and Python allows 1000
_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented))
_BOOKKEEPING = {  # of a class: says nothing of what its objects do
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__orig_bases__", "__parameters__", "__match_args__", "__classcell__",
}  # fmt: skip


class Unknown(ValueError):
    """A value holds something that has no fingerprint; the sentence says what and where."""


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits that stand for a value.

    Args:
        value: plain data, arrays, functions, methods, partials, classes, and objects of any of these. Dicts and sets
            count as equal in any order.

    Raises:
        Unknown: it holds what lives in this process alone, such as an open file, a lock or a generator.
    """
    return _Walk().digest(value).hex()[:16]


def named(argument: Any, name: str) -> Any:
    """An argument of a caller as it stands in a journal: plain data as it is, all else as name and fingerprint.

    Args:
        argument: plain data, or a function or object that the caller wrote.
        name: of the argument, for the message.

    Raises:
        ValueError: it has no fingerprint, and no attribute `name` that could stand for it.
    """
    if isinstance(argument, (*_PLAIN, float)):
        return argument
    if isinstance(argument, np.generic):
        return argument.item()
    called = getattr(argument, "__qualname__", None) or type(argument).__qualname__
    try:
        return f"{called} {fingerprint(argument)[:8]}"
    except Unknown as error:
        own = getattr(argument, "name", None)
        if isinstance(own, str) and own:
            return f"{called} named {own}"
        raise ValueError(
            f"{name} is {called}, which cannot be told from another one in a later call ({error}); give it an "
            f"attribute `name`, a text that you change whenever it is to count as another one."
        ) from error


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module belongs to the standard library or to a package that was installed, not to the caller."""
    root = module.split(".")[0]
    if root == "amc_tf":  # wherever it lies: another of its releases must know what this one did
        return True
    if root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return root != "__main__"
    found = sys.modules.get(module) or sys.modules.get(root)
    file = getattr(found, "__file__", None)
    if file is None:
        return False
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    places |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    folders = Path(file).resolve().parents
    return any(Path(place).resolve() in folders for place in places) or "site-packages" in Path(file).parts


class _Walk:
    """One walk through a value. Each part gives a digest of its own, so that no two structures run together."""

    def __init__(self):
        self._open: dict[int, int] = {}  # id of what is being walked -> how deep it lies: a value may hold itself
        self._done: dict[int, bytes] = {}
        self._alive: list[Any] = []  # an id belongs to an object only as long as it lives
        self._where: list[str] = []

    def digest(self, value: Any, where: str = "") -> bytes:
        if isinstance(value, (*_PLAIN, float, complex, np.generic)):
            return self._hash(type(value).__name__, _bytes_of(value))
        key = id(value)
        if key in self._done:
            return self._done[key]
        if key in self._open:
            return self._hash("itself", str(len(self._open) - self._open[key]).encode())
        self._open[key] = len(self._open)
        self._alive.append(value)
        if where:
            self._where.append(where)
        try:
            if len(self._open) > _DEEPEST:
                raise self._unknown(value, f"it is nested more than {_DEEPEST} deep")
            found = self._digest(value)
        finally:
            del self._open[key]
        if where:
            self._where.pop()  # not after an error, which says where it was
        self._done[key] = found
        return found

    def _digest(self, value: Any) -> bytes:
        if isinstance(value, ModuleType):
            return self._module(value)
        if is_importable(value):
            return self._hash("installed", f"{value.__module__}.{value.__qualname__}".encode())
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, np.ufunc)):
            return self._function(value)
        if isinstance(value, functools.partial):
            return self._parts("partial", value.func, list(value.args), value.keywords)
        if isinstance(value, (staticmethod, classmethod)):
            return self._parts(type(value).__name__, value.__func__)
        if isinstance(value, property):
            return self._parts("property", value.fget, value.fset, value.fdel)
        if isinstance(value, np.ndarray) and value.dtype != object:
            data = hashlib.sha256(np.ascontiguousarray(value).data if value.size else b"").digest()
            return self._hash("array", repr((value.dtype.str, value.shape)).encode(), data)
        if isinstance(value, (list, tuple)) and is_installed(type(value).__module__):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return self._hash(kind, *(self.digest(each, f"[{i}]") for i, each in enumerate(value)))
        if type(value) in (set, frozenset):
            return self._hash("set", *sorted(self.digest(each) for each in value))
        if isinstance(value, enum.Enum):
            return self._parts("enum", type(value), value.name)
        if type(value) is dict or (isinstance(value, Mapping) and is_installed(type(value).__module__)):
            pairs = [(self.digest(name), self.digest(each, f"[{name!r}]")) for name, each in value.items()]
            return self._hash("dict", *(part for pair in sorted(pairs) for part in pair))
        return self._object(value)

    def _module(self, module: ModuleType) -> bytes:
        if is_installed(module.__name__) or module.__name__ in sys.builtin_module_names:
            return self._hash("module", module.__name__.encode())
        file = getattr(module, "__file__", None)
        if file is None or not Path(file).is_file():
            raise self._unknown(module, "it has no file")
        return self._hash("module", hashlib.sha256(Path(file).read_bytes()).digest())

    def _class(self, cls: type) -> bytes:
        own = {name: part for name, part in vars(cls).items() if name not in _BOOKKEEPING}
        slots = [
            name for name, part in own.items() if inspect.isgetsetdescriptor(part) or inspect.ismemberdescriptor(part)
        ]
        own = {name: part for name, part in own.items() if name not in slots}
        return self._parts("class", cls.__qualname__, list(cls.__bases__), sorted(slots), own)

    def _function(self, function: Any) -> bytes:
        if isinstance(function, MethodType):
            return self._parts("method", function.__self__, function.__func__)
        if isinstance(function, np.ufunc):
            return self._hash("ufunc", function.__name__.encode())
        if isinstance(function, BuiltinFunctionType):
            of = function.__self__
            if of is None or isinstance(of, ModuleType):
                return self._hash("builtin", f"{function.__module__}.{function.__qualname__}".encode())
            return self._parts("builtin method", of, function.__name__)
        closed = {
            name: _content(cell)
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        }
        return self._parts(
            "function", function.__code__, function.__defaults__, function.__kwdefaults__, closed,
            self._globals(function), {name: part for name, part in vars(function).items() if name != "__wrapped__"},
        )  # fmt: skip

    def _globals(self, function: FunctionType) -> dict[str, Any]:
        """The globals that a function, or one written inside it, reads."""
        names, codes = set(), [function.__code__]
        while codes:
            code = codes.pop()
            reads = [step for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
            names.update(step.argval for step in reads)
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        return {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}

    def _code(self, code: CodeType) -> bytes:
        return self._parts(
            "code", code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags,
        )  # fmt: skip

    def _object(self, value: Any) -> bytes:
        if hasattr(value, "inputs") and hasattr(value, "get_weights") and hasattr(value, "get_config"):
            return self._parts("network", type(value), value.get_config(), [np.asarray(w) for w in value.get_weights()])
        if hasattr(value, "get_config") and callable(value.get_config):  # of Keras: losses, metrics, optimizers
            state = [np.asarray(each) for each in getattr(value, "variables", None) or () if hasattr(each, "numpy")]
            own = {name: each for name, each in vars(value).items() if inspect.isfunction(each)}  # by more than a name
            return self._parts("configured", type(value), value.get_config(), state, own)
        if hasattr(value, "numpy") and hasattr(value, "dtype"):  # a tensor or variable
            return self._parts("tensor", np.asarray(value.numpy()))
        if dataclasses.is_dataclass(value):
            held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self._parts("dataclass", type(value), held | getattr(value, "__dict__", {}))
        return self._reduced(value)

    def _reduced(self, value: Any) -> bytes:
        """An object of any other class, as pickle would take it apart."""
        if hasattr(value, "python_function"):  # a tf.function
            return self._parts("graph function", value.python_function)
        try:
            own = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if own is None else own(value)
        except Exception as error:  # whatever a class may raise that cannot be pickled
            raise self._unknown(value, "it lives in this process alone") from error
        if isinstance(reduced, str):  # a global of that name
            if hasattr(value, "__wrapped__"):  # what functools.lru_cache makes of a function
                return self._parts("wrapped", type(value), value.__wrapped__)
            if not is_installed(getattr(value, "__module__", "")):
                raise self._unknown(value, "its state cannot be seen")
            return self._parts("global", type(value), value.__module__, reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if make is copyreg.__newobj__ and arguments == (type(value),) and state is None and _is_opaque(value):
            raise self._unknown(value, "its state cannot be seen")
        return self._parts(
            "object", make, list(arguments), state, None if items is None else list(items),
            None if pairs is None else dict(pairs),
        )  # fmt: skip

    def _parts(self, kind: str, *parts: Any) -> bytes:
        return self._hash(kind, *(self._part(part) for part in parts))

    def _part(self, part: Any) -> bytes:
        if type(part) is dict:  # made here for one walk: its id must not be remembered
            pairs = [(self.digest(name), self.digest(each, str(name))) for name, each in part.items()]
            return self._hash("dict", *(each for pair in sorted(pairs) for each in pair))
        if type(part) in (list, tuple):
            return self._hash("list", *(self.digest(each) for each in part))
        return self.digest(part)

    @staticmethod
    def _hash(kind: str, *parts: bytes) -> bytes:
        state = hashlib.sha256(f"{kind} {len(parts)} ".encode())
        for part in parts:
            state.update(struct.pack("<q", len(part)) + part)
        return state.digest()

    def _unknown(self, value: Any, why: str) -> Unknown:
        place = ".".join(self._where).replace(".[", "[")
        at = f" at {place}" if place else ""
        return Unknown(f"it holds a {type(value).__module__}.{type(value).__qualname__}{at}, and {why}")


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.generic):
        return repr((value.dtype.str, value.tobytes())).encode()
    return repr(value).encode("utf-8", "surrogatepass")  # of a float its shortest exact form


def _content(cell: CellType) -> Any:
    """What a closure holds; an empty cell is of a name that is not set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return NotImplemented


def is_importable(thing: Any) -> bool:
    """Whether the import path of something installed leads to it; not to what a function made, nor to a namesake."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or not is_installed(module):
        return False
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is thing


def _is_opaque(value: Any) -> bool:
    """Whether an object holds neither attributes nor slots, so that its state lies in C or there is none."""
    has_slots = any("__slots__" in vars(cls) for cls in type(value).__mro__)
    written = all(_written_in_python(cls) for cls in type(value).__mro__ if cls is not object)
    return not written and not has_slots and not getattr(value, "__dict__", None)


def _written_in_python(cls: type) -> bool:
    return bool(cls.__flags__ & (1 << 9))  # Py_TPFLAGS_HEAPTYPE
