"""A stand-in for both official programs called benchmark_model: `benchmark_model PROGRAM NAME --graph=... ...`.

It really loads the model and runs it on this computer with ai-edge-litert, with or without XNNPACK and with the threads
that the flags say, so the latencies are real. What it prints has the official format of PROGRAM: "tflite",
"tflite_old" (TensorFlow 2.4: no prefixes, no percentiles) or "litert". Only the form is imitated in these: times of
single operators are the whole model's, shared out by the sizes of their tensors; "gpu" and "nnapi" are XNNPACK.

NAME is the name it was called by, which its process then bears. The environment's STANDIN_PROGRAM holds faults: JSON.
Usually a fork of the Zygote does what is done here, which saves the imports.
"""

import contextlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tests.standin_phone import benchmark_flags
from tests.standin_phone.benchmark_output import Printer, Results, end_litert, end_tflite, mean, statistics
from tests.standin_phone.operator_tables import Row, tables

XNNPACK = "TfLiteXNNPackDelegate"
DELEGATES = {"": XNNPACK, "GPU": "TfLiteGpuDelegateV2", "NNAPI": "TfLiteNnapiDelegate"}
KERNELS = {
    "CONV_2D": "Convolution (NHWC, F32) IGEMM",
    "DEPTHWISE_CONV_2D": "Convolution (NHWC, F32) DWConv",
    "FULLY_CONNECTED": "Fully Connected (NC, F32) GEMM",
    "AVERAGE_POOL_2D": "Average Pooling (NHWC, F32)",
    "MAX_POOL_2D": "Max Pooling (NHWC, F32)",
    "MEAN": "Mean (ND, F32)",
    "SOFTMAX": "Softmax (NC, F32)",
    "PAD": "Constant Pad (ND, X32)",
    "RESHAPE": "Copy (NC, X32)",
}


class Failed(Exception):
    """The program ends with exit code 1; the text, if any, is printed as an error."""


class Helped(Exception):
    """The flags were printed and nothing else is to be done; this program ends with exit code 0 then."""


class Benchmark:
    """One run of the program."""

    def __init__(self, program: str, arguments: list[str], faults: dict[str, Any], process: int):
        self.program, self.faults, self.process = program, faults, process
        self.litert = program == "litert"
        self.out = Printer(program, faults)
        self.out.say("STARTING!")
        try:
            self.flags, given, unknown = benchmark_flags.read(program, arguments)
        except benchmark_flags.BadValue as error:
            self.out.say(str(error), "ERROR")
            self.out.runtime(benchmark_flags.usage(program))
            raise Failed from None
        if self.flags["help"]:
            self.out.runtime(benchmark_flags.usage(program))
            raise Helped if self.litert else Failed
        if unknown:
            self.out.say(f"Unconsumed cmdline flags: {' '.join(unknown)}", "WARN")
        if not self.flags["graph"] and not self.litert:
            raise Failed("Please specify the name of your TF Lite input file with --graph")
        self.out.say(f"Log parameter values verbosely: [{int(self.flags['verbose'])}]")
        for line in given:
            self.out.say(line)
        if program == "tflite" and (threads := self.flags["num_threads"]) != -1:
            self.out.say(f"#threads used for CPU inference: [{threads}]")

    def run(self) -> None:
        # Not for reading flags alone, which every opening of a device does; and no part of the model's time and memory.
        from ai_edge_litert import interpreter

        self.runtime = interpreter
        before = _memory()
        began = time.perf_counter()
        self._load()
        init_us = round((time.perf_counter() - began) * 1e6)
        init_mb = _memory() - before
        size_mb = os.path.getsize(self.flags["graph"]) / 1e6
        self.out.say(f"The input model file size (MB): {size_mb:g}")
        self.out.say(f"Initialized session in {init_us / 1e3:g}ms.")
        self._fill()
        warmup = self._measure(self.flags["warmup_runs"], self.flags["warmup_min_secs"])
        if self.faults.get("stuck"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._announce(self.flags["num_runs"], self.flags["min_secs"])
            while True:
                signal.pause()
        regular = self._measure(self.flags["num_runs"], self.flags["min_secs"], fails=self.faults.get("fails"))
        signatures = list(self.model.get_signature_list())
        results = Results(
            init_us=init_us,
            warmup=warmup,
            regular=regular,
            init_mb=init_mb,
            overall_mb=_memory() - before,
            peak_mb=_memory() if self.flags["report_peak_memory_footprint"] else None,
            input_bytes=sum(self.model.get_tensor(each["index"]).nbytes for each in self.model.get_input_details()),
            signature=signatures[0] if signatures else "<placeholder signature>",
        )
        if self.litert:
            end_litert(self.out, results)
        else:
            end_tflite(self.out, results, old=self.program == "tflite_old")
        self._profile(regular)
        if self.faults.get("fails"):
            raise Failed

    def _load(self) -> None:
        flags, graph = self.flags, self.flags["graph"]
        if self.litert:
            if flags["use_cpu"] and flags["require_full_delegation"]:
                self.out.say("Requesting full delegation and CPU acceleration are incompatible.", "FATAL")
                _die_of(self.process, signal.SIGABRT)
            self.out.litert(251, f"Loading model from: {graph}")
        accelerator = self._accelerator()
        xnnpack = accelerator != "" or (flags["use_cpu"] if self.litert else flags["use_xnnpack"])
        resolvers = self.runtime.OpResolverType
        kind = resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        threads = flags["num_threads"] if flags["num_threads"] > 0 else None
        try:
            self.model = self.runtime.Interpreter(graph, num_threads=threads, experimental_op_resolver_type=kind)
        except (ValueError, RuntimeError) as error:
            if self.litert:  # says no more in optimised builds
                raise Failed from None
            if "Could not open" in str(error):
                self.out.runtime(f"ERROR: Could not open '{graph}'.")
            else:
                self.out.runtime("ERROR: The model is not a valid Flatbuffer buffer")
            raise Failed(f"Failed to load model {graph}") from None
        if not self.litert:
            self.out.say(f"Loaded model {graph}")
        try:
            self.model.allocate_tensors()
        except RuntimeError as error:
            self.out.runtime(f"ERROR: {error}")
            raise Failed("" if self.litert else "Failed to allocate tensors!") from None
        self._delegation(accelerator, xnnpack)

    def _accelerator(self) -> str:
        """ "GPU", "NNAPI" or "": what was asked for, unless this phone has none."""
        flags = self.flags
        wanted = "GPU" if flags["use_gpu"] else "NNAPI" if flags.get("use_nnapi") else ""
        if not wanted or not self.faults.get("fallback"):
            return wanted
        if self.litert:
            self.out.runtime(
                "WARNING: [auto_registration.cc:71] GPU accelerator could not be loaded and registered: "
                "kLiteRtStatusErrorInvalidArgument."
            )
        else:
            self.out.say(f"{wanted} acceleration is unsupported on this platform.", "WARN")
        if flags["require_full_delegation"]:
            raise Failed("Disallowed CPU fallback detected.")
        return ""

    def _delegation(self, accelerator: str, xnnpack: bool) -> None:
        """Say what the delegate took; keep what runs in which order for the profile."""
        operators = self.model._get_ops_details()
        self.nodes = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
        delegates = [operator for operator in operators if operator["op_name"] == "DELEGATE"]
        makers = {int(tensor): node["index"] for node in self.nodes for tensor in node["outputs"]}
        by_index = {node["index"]: node for node in self.nodes}
        self.delegated: set[int] = set()
        for delegate in delegates:
            inputs = {int(tensor) for tensor in delegate["inputs"]}
            left = [int(tensor) for tensor in delegate["outputs"]]
            while left:
                index = makers.get(left.pop())
                if index is not None and index not in self.delegated:
                    self.delegated.add(index)
                    left += [int(tensor) for tensor in by_index[index]["inputs"] if int(tensor) not in inputs]
        taken, count = len(self.delegated), len(self.nodes)
        self.delegate = "LITERT_CL" if self.litert and accelerator else DELEGATES[accelerator]
        if not xnnpack:
            return
        if self.program == "tflite_old":
            self.out.runtime(
                f"Replacing {taken} node(s) with delegate ({self.delegate}) node, yielding {len(delegates)} partitions."
            )
        elif delegates:
            self.out.runtime(
                f"VERBOSE: Replacing {taken} out of {count} node(s) with delegate ({self.delegate}) node, yielding "
                f"{len(delegates)} partitions for subgraph 0."
            )
        if self.litert:
            return
        name = accelerator or "XNNPACK"
        if taken == count:
            how = "will be completely executed by the delegate."
        elif taken:
            how = f"will be partially executed by the delegate w/ {len(delegates)} delegate kernels."
        else:
            how = "will not be executed by the delegate."
        begin = "Explicitly applied" if taken else "Though"
        verb = "delegate, and the model graph" if taken else "delegate is explicitly applied, the model graph"
        self.out.say(f"{begin} {name} {verb} {how}")
        if taken < count and self.flags["require_full_delegation"]:
            raise Failed("Disallowed CPU fallback detected.")

    def _fill(self) -> None:
        """Random inputs, other ones in every process, as the official programs have it."""
        import numpy as np

        random = np.random.default_rng()
        for tensor in self.model.get_input_details():
            dtype, shape = np.dtype(tensor["dtype"]), tensor["shape"]
            if dtype.kind == "f":
                values = random.uniform(-0.5, 0.5, shape)
            elif dtype.itemsize == 1:
                values = random.integers(0, 127, shape)
            else:
                values = random.integers(0, 99, shape)
            self.model.set_tensor(tensor["index"], values.astype(dtype))

    def _announce(self, runs: int, seconds: float) -> None:
        self.out.say(
            f"Running benchmark for at least {runs} iterations and at least {seconds:g} seconds but terminate if "
            f"exceeding {self.flags['max_secs']:g} seconds."
        )

    def _measure(self, runs: int, seconds: float, fails: bool = False) -> list[int]:
        """Microseconds of every inference of one phase, which is reported."""
        self._announce(runs, seconds)
        times = [] if self.flags["dry_run"] else list(self._inferences(runs, seconds))
        if fails:
            self.out.runtime(f"ERROR: Node number {len(self.nodes)} ({self.delegate}) failed to invoke.")
        self.out.say(statistics(times, percentiles=self.program != "tflite_old"))
        self.out.raw("")
        return times

    def _inferences(self, runs: int, seconds: float) -> Iterator[int]:
        began, done, longest = time.perf_counter(), 0, self.flags["max_secs"]
        while (done < runs or time.perf_counter() - began < seconds) and time.perf_counter() - began <= longest:
            start = time.perf_counter_ns()
            self.model.invoke()
            yield (time.perf_counter_ns() - start) // 1000
            done += 1
            if self.flags["run_delay"] > 0:
                time.sleep(self.flags["run_delay"])

    def _profile(self, regular: list[int]) -> None:
        flags, old = self.flags, self.program == "tflite_old"
        if not flags["use_profiler" if self.litert else "enable_op_profiling"] or not regular:
            return
        main, inside = self._rows(regular)
        csv_file = flags.get("op_profiling_output_file") or flags.get("profiling_output_csv_file")
        csv = bool(flags.get("profiling_output_csv_file")) or flags.get("op_profiling_output_mode") == "csv"
        text = tables(main, len(regular), old, csv)
        if inside:
            text += "\nDelegate internal: \n" + tables(inside, len(regular), old, csv)
        if self.litert:
            self.out.litert(340, "\n" + text)
            return
        if csv and csv_file:
            Path(csv_file).write_text(text, encoding="utf-8")
            return
        self.out.say("Profiling Info for Benchmark Initialization:")
        self.out.raw(tables([Row("AllocateTensors", "AllocateTensors/0", 40.0, 40.0)], 1, old, csv))
        self.out.say("Operator-wise Profiling Info for Regular Benchmark Runs:")
        self.out.raw(text)

    def _rows(self, regular: list[int]) -> tuple[list[Row], list[Row]]:
        """(what the interpreter runs, what the delegate runs inside of its nodes)."""
        tensors = {tensor["index"]: tensor for tensor in self.model.get_tensor_details()}

        def weight(node: dict[str, Any]) -> float:
            used = [int(tensor) for tensor in (*node["inputs"], *node["outputs"]) if int(tensor) in tensors]
            return 1.0 + sum(math.prod(map(int, tensors[tensor]["shape"])) for tensor in used)

        weights = {node["index"]: weight(node) for node in self.nodes}
        whole = sum(weights.values())
        first, usual = regular[0] / whole, mean(regular) / whole
        main, inside, in_delegate = [], [], 0.0
        for node in self.nodes:
            index, kind = node["index"], node["op_name"]
            share = weights[index]
            if index in self.delegated:
                kernel = KERNELS.get(kind, f"{kind.title()} (ND, F32)")
                inside.append(Row(kernel, f"Delegate/{kernel}:{len(inside)}", first * share, usual * share))
                in_delegate += share
            else:
                names = ", ".join(tensors[int(tensor)]["name"] for tensor in node["outputs"])
                main.append(Row(kind, f"[{names}]:{index}", first * share, usual * share))
        if inside:
            names = ", ".join(tensor["name"] for tensor in self.model.get_output_details())
            name = f"[{names}]:{len(self.nodes)}"
            main.append(Row(self.delegate, name, first * in_delegate, usual * in_delegate))
        return main, inside


def _memory() -> float:
    """Megabytes that this process has grown to."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _die_of(process: int, number: int) -> NoReturn:
    resource.prlimit(process, resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # SIGKILL has no handler to be taken away
        signal.signal(number, signal.SIG_DFL)
    os.kill(process, number)
    signal.pause()
    raise AssertionError


def main(program: str, name: str, arguments: list[str], process: int) -> int:
    """All of it; returns the exit code.

    Args:
        process: number of the process that the phone started, which signals shall end.
    """
    Path("/proc/self/comm").write_text(os.path.basename(name)[:15])
    faults = json.loads(os.environ.get("STANDIN_PROGRAM", "{}"))
    if crash := faults.get("crash"):
        sys.stdout.write(crash["stdout"])
        sys.stderr.write(crash["stderr"])
        sys.stdout.flush()
        sys.stderr.flush()
        if crash["code"] > 128:
            _die_of(process, crash["code"] - 128)
        return crash["code"]
    try:
        Benchmark(program, arguments, faults, process).run()
        return 0
    except Helped:
        return 0
    except Failed as failure:
        out = Printer(program, faults)
        if str(failure):
            out.say(str(failure), "ERROR")
        out.say("Benchmarking failed.", "ERROR")
        return 1
    finally:
        for path, text in faults.get("heats", {}).items():
            Path(path).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3], sys.argv[3:], os.getpid()))
