"""Which code is installed, and so the same in every process, and which is the caller's own."""

import dis
import functools
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module is part of the standard library or of an installed package, and not the caller's own."""
    root = module.split(".")[0]
    if root == "amc_tf":  # wherever it lies: journals of other releases must stay readable
        return True
    if root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return root != "__main__"
    loaded = sys.modules.get(module) or sys.modules.get(root)
    file = getattr(loaded, "__file__", None)
    if file is None:
        return False
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    folders |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    parents = Path(file).resolve().parents
    return any(Path(folder).resolve() in parents for folder in folders) or "site-packages" in Path(file).parts


def is_importable(thing: Any) -> bool:
    """Whether a thing is installed code that its import path leads to. An object created by a function is not."""
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or not is_installed(module):
        return False
    target: Any = sys.modules.get(module)
    for name in path.split("."):
        target = getattr(target, name, None)
    return target is thing


def instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions of a function's code and of the functions in it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from instructions(constant)
