"""Runs .tflite files on examples in a process with nothing but the runtime: requests in, outputs back, on one socket.

A request is a line of JSON that brings two descriptors: the examples' file and the .tflite's. A reply is a line of JSON
and after it the bytes of the arrays that the line describes. Both files are anonymous, so neither has a path to send.
"""

import json
import mmap
import os
import socket
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main() -> None:
    """Answers requests until the other end of the socket, which is file descriptor 0, is closed."""
    channel = socket.socket(fileno=os.dup(0))
    kept: dict[int, Any] = {}  # interpreters by the number of their .tflite
    try:
        while (received := receive(channel)) is not None:
            reply(channel, *answer(kept, *received))
    except (BrokenPipeError, ConnectionResetError):
        pass  # who asked is gone


def receive(channel: socket.socket) -> tuple[dict, list[int]] | None:
    """The next request and its descriptors; None after the last."""
    line, descriptors = b"", []
    while not line.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(channel, 1 << 16, 2)
        if not part:
            return None
        line += part
        descriptors += more
    return json.loads(line), descriptors


def answer(kept: dict[int, Any], request: dict, descriptors: list[int]) -> tuple[dict, list[np.ndarray]]:
    """What a request asks for; its descriptors are closed."""
    examples, tflite = descriptors
    try:
        for number in kept.keys() - request["open"]:
            del kept[number]
        if request["number"] not in kept:
            interpreter = Interpreter(model_path=f"/dev/fd/{tflite}", num_threads=1)
            interpreter.allocate_tensors()
            kept[request["number"]] = interpreter
        arrays = steps(kept[request["number"]], request, read(examples, request["examples"]))
    except (RuntimeError, ValueError, OSError, MemoryError) as error:  # what the runtime raises on a bad file
        return {"error": next(iter(str(error).splitlines()), type(error).__name__)}, []
    finally:
        os.close(examples)
        os.close(tflite)
    return {"arrays": [[array.dtype.str, array.shape] for array in arrays]}, arrays


def read(descriptor: int, places: list) -> list[np.ndarray]:
    """Views of the arrays (examples, ...) that lie in a file, each at its offset in bytes."""
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
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


def reply(channel: socket.socket, head: dict, arrays: list[np.ndarray]) -> None:
    """Sends a line and the arrays that it describes."""
    channel.sendall(json.dumps(head).encode() + b"\n")
    for array in arrays:
        channel.sendall(array.tobytes())


if __name__ == "__main__":
    main()
