"""Program that runs .tflite files on examples. It imports neither TensorFlow nor amc_tf.

A request is a line of JSON on stdin. A reply is a line of JSON, and after it the bytes of the arrays that the line
describes (system/json_lines.py). Examples and .tflite lie in files of the owner's scratch folder.

    python worker_process.py REPLIES LOCK

REPLIES is the file descriptor of the replies, LOCK the file in the scratch folder that the owner keeps locked.
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
_END_SECONDS = 10.0  # limit of the wait until the system releases the lock of a killed process


def main() -> None:
    """Replies to requests until stdin ends. Then the owner has ended, and its scratch folder is removed."""
    answer_all(os.fdopen(int(sys.argv[1]), "wb"))
    clear(Path(sys.argv[2]))


def answer_all(replies: IO[bytes]) -> None:
    """Replies to requests until there are no more."""
    interpreters: dict[int, Any] = {}  # by the number of their .tflite
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            return  # the client was killed meanwhile
        head, arrays = answer(interpreters, json.loads(line))
        try:
            reply(replies, head, arrays)
        except OSError:
            return  # the client is gone


def answer(interpreters: dict[int, Any], request: dict) -> tuple[dict, list[np.ndarray]]:
    """Does what a request asks for.

    Args:
        interpreters: kept between requests, by the number of their .tflite; those not in `open` are dropped.
        request: `files`: paths of examples and .tflite; `number` of the .tflite; `open`: numbers still in use;
            `examples`, `inputs`, `outputs`, `batch`, `start`, `stop`: see `read` and `steps`.

    Returns:
        The line of the reply and its arrays: {"arrays": [[dtype, shape], ...]}, or {"error": a sentence} without any.
    """
    examples, tflite = request["files"]
    try:
        for number in interpreters.keys() - request["open"]:
            del interpreters[number]
        if request["number"] not in interpreters:
            interpreter = Interpreter(**source(tflite), num_threads=1)
            interpreter.allocate_tensors()
            interpreters[request["number"]] = interpreter
        arrays = steps(interpreters[request["number"]], request, read(examples, request["examples"]))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:  # what the runtime raises on a bad file
        return {"error": next(iter(str(error).splitlines()), type(error).__name__)}, []
    return {"arrays": [[array.dtype.str, array.shape] for array in arrays]}, arrays


def source(path: str) -> dict[str, Any]:
    """The runtime's argument for a .tflite. On Windows the runtime opens only paths of ASCII letters.

    timing_process.py has this function too, since neither program may import amc_tf.
    """
    return {"model_path": path} if path.isascii() else {"model_content": Path(path).read_bytes()}


def read(path: str, layouts: list[list]) -> list[np.ndarray]:
    """Views of the arrays (examples, ...) in a file; a layout is [dtype, shape, offset in bytes]."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return [np.ndarray(shape, np.dtype(dtype), mapped, offset) for dtype, shape, offset in layouts]


def steps(interpreter: Any, request: dict, examples: list[np.ndarray]) -> list[np.ndarray]:
    """Runs the examples [start, stop) in steps of `batch`.

    Returns:
        One array (steps, *the output's shape) for each output.
    """
    outputs: list[list[np.ndarray]] = [[] for _ in request["outputs"]]
    for start in range(request["start"], request["stop"], request["batch"]):
        interpreter.reset_all_variables()  # the outputs of a step must not depend on the steps before it
        for (tensor, dtype, scale, zero), array in zip(request["inputs"], examples, strict=True):
            batch = array[start : start + request["batch"]]
            if scale is not None:
                batch = quantised(batch, dtype, scale, zero)
            interpreter.set_tensor(tensor, np.ascontiguousarray(batch, dtype))
        interpreter.invoke()
        for values, (tensor, _, _) in zip(outputs, request["outputs"], strict=True):
            values.append(interpreter.get_tensor(tensor))
    pairs = zip(outputs, request["outputs"], strict=True)
    return [dequantised(np.stack(values), scale, zero) for values, (_, scale, zero) in pairs]


def quantised(values: np.ndarray, dtype: str, scale: float, zero: int) -> np.ndarray:
    """The nearest numbers that an integer input can hold, as the operator QUANTIZE computes them."""
    limits = np.iinfo(dtype)
    return np.clip(np.round(np.divide(values, scale, dtype=np.float32)) + zero, limits.min, limits.max)


def dequantised(values: np.ndarray, scale: float | None, zero: int) -> np.ndarray:
    """The real values of an output, as the operator DEQUANTIZE computes them; scale None: it is not quantised."""
    return values if scale is None else (values.astype(np.float32) - zero) * np.float32(scale)


def reply(replies: IO[bytes], head: dict, arrays: list[np.ndarray]) -> None:
    """Writes a line and the arrays that it describes."""
    replies.write(json.dumps(head).encode() + b"\n")
    for array in arrays:
        replies.write(array.tobytes())
    replies.flush()


def clear(lock: Path) -> None:
    """Removes the owner's scratch folder if the owner is gone, so that its lock is free."""
    from filelock import FileLock  # once in a process's life at most

    folder = lock.parent
    if not folder.name.startswith(_PREFIX) or not lock.is_file():
        return  # it is no scratch folder, or another worker removed it
    try:
        with FileLock(str(lock), timeout=_END_SECONDS):
            pass
    except (OSError, NotImplementedError):
        return  # the owner lives
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
