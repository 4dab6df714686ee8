"""Fingerprints of values: equal fingerprints mean equal behaviour, in every process. Other values are refused.

A function counts by its code, its defaults, its closure and the globals that it reads. An object counts by its class
and its state. Installed code (standard library, site packages) counts by its import path. If equal behaviour gets
different fingerprints, a search is not resumed. If different behaviour gets equal fingerprints, a search uses results
of another network. Only the first may happen.
"""

import copyreg
import dataclasses
import enum
import functools
import hashlib
import importlib
import inspect
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from amc_tf import keras_state
from amc_tf.system.installed_code import instructions, is_importable, is_installed

_MAX_DEPTH = 100  # a level takes several frames, and Python allows 1000
_PLAIN = (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented))
_BOOKKEEPING = {  # attributes of a class without effect on the behaviour of its objects
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__orig_bases__", "__parameters__", "__match_args__", "__classcell__",
}  # fmt: skip


class Unknown(ValueError):
    """A value contains something without a fingerprint. The message says what and where."""


def fingerprint(value: Any) -> str:
    """The fingerprint of a value: 16 hexadecimal digits.

    Args:
        value: plain data, arrays, functions, methods, partials, classes, and objects of these. The order of dicts and
            sets does not count.

    Raises:
        Unknown: it contains something that exists in this process only, such as an open file, a lock or a generator.
    """
    return _Walk().digest(value).hex()[:16]


def named(argument: Any, name: str) -> Any:
    """The form in which a journal stores a caller's argument: plain data as it is, all else as name and fingerprint.

    Args:
        argument: plain data, or the caller's own function or object.
        name: of the argument, for the message.

    Raises:
        ValueError: the argument has neither a fingerprint nor an attribute `name` to replace it.
    """
    if isinstance(argument, (*_PLAIN, float)):
        return argument
    if isinstance(argument, np.generic):
        return argument.item()
    qualified = getattr(argument, "__qualname__", None) or type(argument).__qualname__
    try:
        return f"{qualified} {fingerprint(argument)[:8]}"
    except Unknown as error:
        own = getattr(argument, "name", None)
        if isinstance(own, str) and own:
            return f"{qualified} named {own}"
        raise ValueError(
            f"{name} is {qualified}, which cannot be told from another one in a later call ({error}); give it an "
            f"attribute `name`, a text that you change whenever it is to count as another one."
        ) from error


class _Walk:
    """One walk through a value. Every part has a digest of its own, so that different structures never look equal."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # id of an unfinished value -> its depth; a value may contain itself
        self._done: dict[int, bytes] = {}  # id of a value -> its digest
        self._alive: list[Any] = []  # keeps objects alive, so that their ids stay unique
        self._path: list[str] = []  # to the current value

    def digest(self, value: Any, where: str = "") -> bytes:
        """The digest of a value; `where` is its name or index in the value that contains it."""
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
            self._path.append(where)
        try:
            if len(self._open) > _MAX_DEPTH:
                raise self._unknown(value, f"it is nested more than {_MAX_DEPTH} deep")
            digest = self._digest(value)
        finally:
            del self._open[key]
        if where:
            self._path.pop()  # kept after an error, for its message
        self._done[key] = digest
        return digest

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
        if type(value) in (np.ndarray, np.memmap) and not value.dtype.hasobject:
            data = hashlib.sha256(np.ascontiguousarray(value).view(np.uint8).data if value.size else b"").digest()
            return self._hash("array", repr((value.dtype.str, value.shape)).encode(), data)
        if isinstance(value, (list, tuple)) and is_installed(type(value).__module__):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return self._hash(kind, *(self.digest(item, f"[{i}]") for i, item in enumerate(value)))
        if type(value) in (set, frozenset):
            return self._hash("set", *sorted(self.digest(item) for item in value))
        if isinstance(value, enum.Enum):
            return self._parts("enum", type(value), value.name)
        if type(value) is dict or (isinstance(value, Mapping) and is_installed(type(value).__module__)):
            pairs = [(self.digest(name), self.digest(item, f"[{name!r}]")) for name, item in value.items()]
            return self._hash("dict", *(part for pair in sorted(pairs) for part in pair))
        return self._object(value)

    def _module(self, module: ModuleType) -> bytes:
        if is_installed(module.__name__) or module.__name__ in sys.builtin_module_names:
            return self._hash("module", module.__name__.encode())
        file = getattr(module, "__file__", None)
        if file is None or not Path(file).is_file():
            raise self._unknown(module, "it has no file")
        state = {name: part for name, part in vars(module).items() if not name.startswith("__")}
        return self._hash("module", hashlib.sha256(Path(file).read_bytes()).digest(), self._part(state))

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
            if getattr(np, function.__name__, None) is not function and not _is_of_scipy(function):
                raise self._unknown(function, "what it calls cannot be seen")
            return self._hash("ufunc", function.__name__.encode())
        if isinstance(function, BuiltinFunctionType):
            owner = function.__self__
            if owner is None or isinstance(owner, ModuleType):
                return self._hash("builtin", f"{function.__module__}.{function.__qualname__}".encode())
            return self._parts("builtin method", owner, function.__name__)
        closed = {
            name: _content(cell)
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        }
        return self._parts(
            "function", function.__code__, function.__defaults__, function.__kwdefaults__, closed,
            self._globals(function), self._imports(function),
            {name: part for name, part in vars(function).items() if name != "__wrapped__"},
        )  # fmt: skip

    def _globals(self, function: FunctionType) -> dict[str, Any]:
        """The globals that a function or an inner function reads."""
        steps = instructions(function.__code__)
        names = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        return {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}

    def _imports(self, function: FunctionType) -> dict[str, Any]:
        """The modules that a function or an inner function imports when it is called, but for installed ones."""
        modules: dict[str, Any] = {}
        package = function.__globals__.get("__package__") or ""
        level = 0
        for step in instructions(function.__code__):
            if step.opname in ("LOAD_CONST", "LOAD_SMALL_INT") and isinstance(step.argval, int):
                level = step.argval  # the last number before an import says how many dots it has
            elif step.opname == "IMPORT_NAME":
                name = "." * level + step.argval
                try:
                    module = importlib.import_module(name, package or None)
                except Exception as error:  # a module may raise anything
                    raise self._unknown(function, f"what it imports as {name!r} cannot be imported") from error
                if not is_installed(module.__name__):
                    modules[name] = module
        return modules

    def _code(self, code: CodeType) -> bytes:
        return self._parts(
            "code", code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
            code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags,
        )  # fmt: skip

    def _object(self, value: Any) -> bytes:
        if hasattr(value, "inputs") and hasattr(value, "get_weights") and hasattr(value, "get_config"):
            return self._parts("network", type(value), value.get_config(), [np.asarray(w) for w in value.get_weights()])
        if hasattr(value, "get_config") and callable(value.get_config):  # Keras losses, metrics, optimizers
            variables = getattr(value, "variables", None) or ()
            state = [np.asarray(variable) for variable in variables if hasattr(variable, "numpy")]
            beside = keras_state.beside_configuration(value)
            return self._parts("configured", type(value), keras_state.configuration(value), state, beside)
        if hasattr(value, "numpy") and hasattr(value, "dtype"):  # a tensor or variable
            return self._parts("tensor", np.asarray(value.numpy()))
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self._parts("dataclass", type(value), fields | getattr(value, "__dict__", {}))
        return self._reduced(value)

    def _reduced(self, value: Any) -> bytes:
        """The digest of an object of any other class, from the parts that pickle would store."""
        if hasattr(value, "python_function"):  # a tf.function
            return self._parts("graph function", value.python_function)
        try:
            own = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if own is None else own(value)
        except Exception as error:  # a class that cannot be pickled may raise anything
            raise self._unknown(value, "it lives in this process alone") from error
        if isinstance(reduced, str):  # the name of a global
            if hasattr(value, "__wrapped__"):  # a function under functools.lru_cache
                return self._parts("wrapped", type(value), value.__wrapped__)
            if not is_installed(getattr(value, "__module__", "")):
                raise self._unknown(value, "its state cannot be seen")
            return self._parts("global", type(value), value.__module__, reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        is_plain = getattr(make, "__name__", "") == "__newobj__"  # copyreg's
        if is_plain and arguments == (type(value),) and state is None and _is_opaque(value):
            raise self._unknown(value, "its state cannot be seen")
        return self._parts(
            "object", make, list(arguments), state, None if items is None else list(items),
            None if pairs is None else dict(pairs),
        )  # fmt: skip

    def _parts(self, kind: str, *parts: Any) -> bytes:
        return self._hash(kind, *(self._part(part) for part in parts))

    def _part(self, part: Any) -> bytes:
        if type(part) is dict:  # a temporary dict: its id must not be stored
            pairs = [(self.digest(name), self.digest(item, str(name))) for name, item in part.items()]
            return self._hash("dict", *(item for pair in sorted(pairs) for item in pair))
        if type(part) in (list, tuple):
            return self._hash("list", *(self.digest(item) for item in part))
        return self.digest(part)

    @staticmethod
    def _hash(kind: str, *parts: bytes) -> bytes:
        state = hashlib.sha256(f"{kind} {len(parts)} ".encode())
        for part in parts:
            state.update(struct.pack("<q", len(part)) + part)
        return state.digest()

    def _unknown(self, value: Any, why: str) -> Unknown:
        place = ".".join(self._path).replace(".[", "[")
        at = f" at {place}" if place else ""
        return Unknown(f"it holds a {type(value).__module__}.{type(value).__qualname__}{at}, and {why}")


def _is_of_scipy(function: np.ufunc) -> bool:
    special = sys.modules.get("scipy.special")
    return special is not None and getattr(special, function.__name__, None) is function


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.generic):
        return repr((value.dtype.str, value.tobytes())).encode()
    return repr(value).encode("utf-8", "surrogatepass")  # a float in its shortest exact form


def _content(cell: CellType) -> Any:
    """The value of a closure's cell; NotImplemented for an empty one, whose variable is not set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return NotImplemented


def _is_opaque(value: Any) -> bool:
    """Whether an object has neither attributes nor slots: its state is in C, or it has none."""
    has_slots = any("__slots__" in vars(cls) for cls in type(value).__mro__)
    in_python = all(_is_written_in_python(cls) for cls in type(value).__mro__ if cls is not object)
    return not in_python and not has_slots and not getattr(value, "__dict__", None)


def _is_written_in_python(cls: type) -> bool:
    return bool(cls.__flags__ & (1 << 9))  # Py_TPFLAGS_HEAPTYPE
