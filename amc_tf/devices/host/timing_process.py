"""Program that times .tflite files with one runtime. It imports neither TensorFlow nor amc_tf.

The measurement follows the official benchmark_model: random inputs, a warm-up, then inferences until both a number of
runs and a number of seconds are reached. Only the wall time of the inference counts.

    python timing_process.py REPLIES '{"runtime": "litert", "threads": 1, "xnnpack": true, "cpus": null}'

REPLIES is the file descriptor of the replies. A request on stdin is a line of JSON with the fields of RunLength
(devices/timing.py) and `path`; a reply is a line of JSON (system/json_lines.py).
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}
_MAX_SECONDS = 150.0  # limit of the warm-up and of the measurement each, as benchmark_model's max_secs


def main() -> None:
    """Replies to requests until stdin ends."""
    settings = json.loads(sys.argv[2])
    replies = os.fdopen(int(sys.argv[1]), "w")
    if settings["cpus"] is not None:
        psutil.Process().cpu_affinity(settings["cpus"])
    runtime = importlib.import_module(MODULES[settings["runtime"]])
    for line in sys.stdin:
        try:
            reply = measure(runtime, json.loads(line), settings)
        except (RuntimeError, ValueError, OSError, MemoryError) as error:  # what the runtimes raise on a bad file
            reply = {"error": next(iter(str(error).splitlines()), type(error).__name__)}
        print(json.dumps(reply), file=replies, flush=True)


def measure(runtime: Any, request: dict, settings: dict) -> dict:
    """Loads and times one model.

    Returns:
        runs, their median, min and p95 in microseconds, init in microseconds, memory_mb in megabytes.
    """
    before = _resident_mb()
    started = time.perf_counter()
    interpreter = _interpreter(runtime, request["path"], settings)
    interpreter.allocate_tensors()
    init = time.perf_counter() - started
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _example(rng, detail["shape"], detail["dtype"]))
    _repeat(interpreter.invoke, request["warmup_runs"], request["warmup_seconds"])
    times = _repeat(interpreter.invoke, request["min_runs"], request["min_seconds"])
    return {
        "runs": len(times),
        "median": float(np.median(times)),
        "min": float(np.min(times)),
        "p95": float(np.percentile(times, 95)),
        "init": init * 1e6,
        "memory_mb": _resident_mb() - before,
    }


def _interpreter(runtime: Any, path: str, settings: dict) -> Any:
    """The runtime's Interpreter for a model."""
    arguments = {**source(path), "num_threads": settings["threads"]}
    if not settings["xnnpack"]:
        resolvers = runtime.OpResolverType
        arguments["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return runtime.Interpreter(**arguments)


def source(path: str) -> dict[str, Any]:
    """The runtime's argument for a model. On Windows the runtime opens only paths of ASCII letters.

    worker_process.py has this function too, since neither program may import amc_tf.
    """
    return {"model_path": path} if path.isascii() else {"model_content": Path(path).read_bytes()}


def _repeat(invoke: Callable[[], None], min_runs: int, min_seconds: float) -> np.ndarray:
    """Runs a model until both are reached; returns the time of each inference in microseconds."""
    times: list[int] = []
    begun = time.perf_counter_ns()
    while True:
        start = time.perf_counter_ns()
        spent = (start - begun) / 1e9
        if (len(times) >= min_runs and spent >= min_seconds) or spent > _MAX_SECONDS:
            return np.array(times) / 1e3
        invoke()
        times.append(time.perf_counter_ns() - start)


def _example(rng: np.random.Generator, shape: np.ndarray, dtype: type) -> np.ndarray:
    """A random input."""
    if np.issubdtype(dtype, np.floating):
        return rng.uniform(-1, 1, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)  # an index into any table


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    main()
