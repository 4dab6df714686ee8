"""Runs .tflite files on examples in a process with nothing but the runtime: requests in, outputs back.

A request is a line of JSON on the standard input, a reply a line of JSON on a pipe of its own and after it the bytes of
the arrays that the line describes. Examples and .tflite lie in files of the owner's scratch folder.

    python worker_process.py REPLIES LOCK    # a file descriptor; the file that the owner keeps locked, in that folder
"""

import json
import mmap
import os
import shutil
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_PREFIX = "amc_tf-scratch-"  # as in scratch.py
_END_SECONDS = 10.0  # in which the system takes its lock from a process that was killed


def main() -> None:
    """Answers requests until the input ends; then the owner has ended, and what it left is removed."""
    answer_all(os.fdopen(int(sys.argv[1]), "wb"))
    clear(Path(sys.argv[2]))


def answer_all(replies: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    kept: dict[int, Any] = {}  # interpreters by the number of their .tflite
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            return  # who asked was killed meanwhile
        answered = answer(kept, json.loads(line))
        try:
            reply(replies, *answered)
        except OSError:
            return  # who asked is gone


def answer(kept: dict[int, Any], request: dict) -> tuple[dict, list[np.ndarray]]:
    """What a request asks for."""
    examples, tflite = request["files"]
    try:
        for number in kept.keys() - request["open"]:
            del kept[number]
        if request["number"] not in kept:
            interpreter = Interpreter(**source(tflite), num_threads=1)
            interpreter.allocate_tensors()
            kept[request["number"]] = interpreter
        arrays = steps(kept[request["number"]], request, read(examples, request["examples"]))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:  # what the runtime raises on a bad file
        return {"error": next(iter(str(error).splitlines()), type(error).__name__)}, []
    return {"arrays": [[array.dtype.str, array.shape] for array in arrays]}, arrays


def source(path: str) -> dict[str, Any]:
    """Where the runtime finds a .tflite: on Windows it knows the path's letters only if they are of ASCII."""
    return {"model_path": path} if path.isascii() else {"model_content": Path(path).read_bytes()}


def read(path: str, places: list) -> list[np.ndarray]:
    """Views of the arrays (examples, ...) that lie in a file, each at its offset in bytes."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return [np.ndarray(shape, np.dtype(dtype), mapped, offset) for dtype, shape, offset in places]


def steps(interpreter: Any, request: dict, examples: list[np.ndarray]) -> list[np.ndarray]:
    """Runs the examples [start, stop) in steps of `batch`; each output as (steps, *its shape)."""
    outputs: list[list[np.ndarray]] = [[] for _ in request["outputs"]]
    for start in range(request["start"], request["stop"], request["batch"]):
        interpreter.reset_all_variables()  # what a step computes must not hang on the steps before it
        for (tensor, dtype, scale, zero), array in zip(request["inputs"], examples, strict=True):
            given = array[start : start + request["batch"]]
            if scale is not None:
                given = quantised(given, dtype, scale, zero)
            interpreter.set_tensor(tensor, np.ascontiguousarray(given, dtype))
        interpreter.invoke()
        for values, (tensor, _, _) in zip(outputs, request["outputs"], strict=True):
            values.append(interpreter.get_tensor(tensor))
    ends = zip(outputs, request["outputs"], strict=True)
    return [meant(np.stack(values), scale, zero) for values, (_, scale, zero) in ends]


def quantised(values: np.ndarray, dtype: str, scale: float, zero: int) -> np.ndarray:
    """The nearest numbers that an input of whole numbers can hold, as the operator QUANTIZE makes them."""
    limits = np.iinfo(dtype)
    return np.clip(np.round(np.divide(values, scale, dtype=np.float32)) + zero, limits.min, limits.max)


def meant(values: np.ndarray, scale: float | None, zero: int) -> np.ndarray:
    """What an output stands for, as the operator DEQUANTIZE makes it."""
    return values if scale is None else (values.astype(np.float32) - zero) * np.float32(scale)


def reply(replies: IO[bytes], head: dict, arrays: list[np.ndarray]) -> None:
    """Sends a line and the arrays that it describes."""
    replies.write(json.dumps(head).encode() + b"\n")
    for array in arrays:
        replies.write(array.tobytes())
    replies.flush()


def clear(lock: Path) -> None:
    """Removes the owner's scratch folder if its lock says that the owner is gone."""
    from filelock import FileLock  # once in a process's life at most

    folder = lock.parent
    if not folder.name.startswith(_PREFIX) or not lock.is_file():
        return  # no scratch folder, or another worker was faster
    try:
        with FileLock(str(lock), timeout=_END_SECONDS):
            pass
    except (OSError, NotImplementedError):
        return  # the owner lives
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
