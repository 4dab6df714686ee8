"""Times .tflite files in a process that has loaded nothing but one runtime: requests in, replies out, JSON lines.

It follows the protocol of the official benchmark_model: random inputs, a warm-up, then at least so many inferences and
at least so many seconds, wall time of the inference alone.

    python timing_process.py REPLIES '{"runtime": "litert", "threads": 1, "xnnpack": true, "cpus": null}'

REPLIES is the file descriptor that replies are written to.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}
_MAX_SECONDS = 150.0  # of the warm-up and of the measurement, as benchmark_model's max_secs


def main() -> None:
    """Answers requests until there are no more."""
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
    """Loads and times one model; times in microseconds."""
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
    arguments = {**source(path), "num_threads": settings["threads"]}
    if not settings["xnnpack"]:
        resolvers = runtime.OpResolverType
        arguments["experimental_op_resolver_type"] = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return runtime.Interpreter(**arguments)


def source(path: str) -> dict[str, Any]:
    """Where a runtime finds a model: on Windows it knows the path's letters only if they are of ASCII."""
    return {"model_path": path} if path.isascii() else {"model_content": Path(path).read_bytes()}


def _repeat(invoke, min_runs: int, min_seconds: float) -> np.ndarray:
    """Time of each inference in microseconds."""
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
    if np.issubdtype(dtype, np.floating):
        return rng.uniform(-1, 1, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)  # an index into any table


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    main()
