"""Flags and output of the two programs called benchmark_model: pure functions of text.

"tflite" is the older program (tflite/tools/benchmark, on the Interpreter), "litert" the newer one
(benchmark_litert_model, on the CompiledModel). Both print the line `count=… first=… …` in whole microseconds, once for
the warm-up and once for the measurement. They share hardly anything else. Both go on after an unknown flag and after a
delegate that they could not use, and both print results of failed runs. So `parse` looks for signs of trouble first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from amc_tf.devices.timing import Operator, RunLength
from amc_tf.errors import DeviceError

TFLITE, LITERT = "tflite", "litert"
DELEGATES = {TFLITE: ("xnnpack", "gpu", "nnapi", "none"), LITERT: ("xnnpack", "gpu")}

# Each program warns about the flag that only the other one knows, whatever other flags it gets.
PROBE = ("--use_npu=false", "--use_xnnpack=true")

_LINE = r"(?m)^(?:INFO: )?"
_COUNT = re.compile(_LINE + r"count=(\d+)([^\n]*)$")
_NUMBER = r"[-+\d.e]+"
_STATISTICS = re.compile(
    rf" first=(?P<first>{_NUMBER}) curr={_NUMBER} min=(?P<min>{_NUMBER}) max={_NUMBER} avg=(?P<avg>{_NUMBER}) "
    rf"std={_NUMBER}"
)
_SAME = re.compile(rf" curr=(?P<curr>{_NUMBER})(?:\(all same\))?")
_COARSE_US = 100  # below it half a microsecond of rounding is more than half a percent
_PERCENTILES = re.compile(rf" p5={_NUMBER} median=(?P<median>{_NUMBER}) p95=(?P<p95>{_NUMBER})")
_END = re.compile(r"Inference timings in us: |inference timings in us: |=+ BENCHMARK RESULTS =+")
_INIT = re.compile(_LINE + r"Initialized session in ([\d.e+]+)ms\.")
_MEMORY = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): init=\S+ overall=([\d.]+)"
    r"|Overall footprint:\s+([\d.]+) MB"
)
_REPLACED = re.compile(
    r"Replacing (?P<taken>\d+)(?: out of (?P<all>\d+))? node\(s\) with delegate \((?P<delegate>[^)]*)\)"
    r"(?:[^\n]*? for (?P<graph>subgraph \d+|the whole graph))?"
)
_FALLBACK = re.compile(
    r"[^\n]*acceleration is unsupported on this platform[^\n]*"
    r"|[^\n]*the model graph will not be executed by the delegate[^\n]*"
)
_REFUSED = re.compile(
    r"[^\n]*(?:Restored original execution plan after delegate application failure|Failed to apply \S+ delegate"
    r"|Disallowed CPU fallback detected)[^\n]*"
)
_APPLIED = re.compile(r"Explicitly applied \S+ delegate, and the model graph will be")
_COMPLAINT = re.compile(r"(?m)^(?:ERROR|FATAL): (?!Benchmarking failed)(?:\[[^\]]*\] ?)?(\S[^\n]*)$")


@dataclass(frozen=True)
class Measured:
    """What one process measured; times in microseconds. None stands for a figure that the program did not print.

    Attributes:
        runs: number of inferences.
        median_us: median over the inferences. It is their mean if the program prints no percentiles, or a median below
            100, which is too coarse in whole microseconds.
        mean_us, min_us, p95_us: mean, minimum and 95th percentile over the inferences.
        init_us: time to load the model.
        memory_mb: growth of the process.
        delegated: (operators that the delegate took, all operators).
    """

    runs: int
    median_us: float
    mean_us: float
    min_us: float
    p95_us: float | None
    init_us: float | None
    memory_mb: float | None
    delegated: tuple[int, int] | None


def program(output: str, status: int) -> str:
    """TFLITE or LITERT, from the output of a run with the flags PROBE.

    Raises:
        DeviceError: the phone cannot run the program, or it is neither of the two.
    """
    cannot = _cannot_run(output, status)
    if cannot:
        raise DeviceError(cannot)
    warned = " ".join(line for line in output.splitlines() if "Unconsumed cmdline flags" in line)
    if ("--use_npu" in warned) != ("--use_xnnpack" in warned):
        return TFLITE if "--use_npu" in warned else LITERT
    raise DeviceError(
        f"The binary is no benchmark_model that is known here (exit status {status}, it said {_tail(output)!r}): give "
        f"the official benchmark_model of TensorFlow Lite or LiteRT."
    )


def check_delegate(program: str, delegate: str) -> None:
    """Raises ValueError if a program has no such delegate."""
    if delegate not in DELEGATES[program]:
        raise ValueError(
            f"delegate is {delegate!r}, but this benchmark_model is the {program} program, which offers "
            f"{', '.join(DELEGATES[program])}: choose one of these, or give the other program as binary."
        )


def flags(
    program: str,
    graph: str,
    *,
    num_threads: int,
    delegate: str,
    length: RunLength,
    max_seconds: float,
    profile: bool = False,
) -> list[str]:
    """The command line. It names every setting that affects the time, since the defaults differ by version.

    Args:
        program: TFLITE or LITERT.
        graph: the model on the phone.
        num_threads: threads on the CPU.
        delegate: one of DELEGATES[program]. The tflite program runs what "gpu" and "nnapi" leave over on its own
            kernels, so that a number has one meaning.
        length: of the warm-up and of the measurement.
        max_seconds: ends the measurement in any case.
        profile: print the time of each operator as well, which makes everything slower.

    Raises:
        ValueError: the program has no such delegate.
    """
    check_delegate(program, delegate)
    # GPU and NNAPI are off by default, and a program that was built without them does not know their flags.
    chosen = {"use_xnnpack": delegate == "xnnpack"} if program == TFLITE else {"use_cpu": True}
    if delegate in ("gpu", "nnapi"):
        chosen[f"use_{delegate}"] = True
    profiling = {"enable_op_profiling" if program == TFLITE else "use_profiler": True} if profile else {}
    values = {
        "graph": graph,
        "num_threads": num_threads,
        "num_runs": length.min_runs,
        "min_secs": length.min_seconds,
        "max_secs": max_seconds,
        "warmup_runs": length.warmup_runs,
        "warmup_min_secs": length.warmup_seconds,
        **chosen,
        **profiling,
    }
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()]


def parse(output: str, status: int, delegate: str) -> Measured:
    """Reads the measurement from the output of a run.

    Args:
        output: all that the program printed, stdout before stderr.
        status: its exit status.
        delegate: the one that its flags named.

    Raises:
        DeviceError: the program failed, did not follow its flags, or its output is not whole.
    """
    trouble = _trouble(output, status, delegate)
    if trouble:
        raise DeviceError(trouble)
    counts = list(_COUNT.finditer(output))
    if len(counts) != 2 or not _END.search(output):
        raise DeviceError(
            f"benchmark_model printed {len(counts)} lines of counts and {'an' if _END.search(output) else 'no'} end of "
            f"results, where a line for the warm-up, one for the measurement and an end are expected: its output was "
            f"cut short or it is of an unknown version; measure again, and see that the phone has space left."
        )
    runs, statistics = int(counts[1].group(1)), counts[1].group(2)
    init, memory = _INIT.search(output), _MEMORY.search(output)
    return Measured(
        runs=runs,
        **_statistics(runs, statistics),
        init_us=float(init.group(1)) * 1e3 if init else None,
        memory_mb=float(memory.group(1) or memory.group(2)) if memory else None,
        delegated=_delegated(output, delegate),
    )


def operators(output: str) -> tuple[Operator, ...]:
    """The operators in execution order with their mean times, from the tables of a profiled run.

    In the main table a delegate is one operator. If the delegate prints a table of its own, its operators replace that
    one.

    Raises:
        DeviceError: the output has no such table.
    """
    _, _, regular = output.rpartition("Profiling Info for Regular Benchmark Runs:")
    main, _, inner = (regular or output).partition("Delegate internal:")
    rows, internal = list(_rows(main)), list(_rows(inner))
    if internal:
        rows = [row for row in rows if "Delegate" not in row.kind] + internal
    if not rows:
        raise DeviceError(
            "benchmark_model printed no profile of operators: it was built without one, or failed; try the official "
            "program of another version."
        )
    return tuple(rows)


def _statistics(runs: int, text: str) -> dict[str, float | None]:
    """The fields of Measured in a line of counts, in any of the forms of that line."""
    several, same = _STATISTICS.match(text), _SAME.match(text)
    match = several or same
    percentiles = _PERCENTILES.fullmatch(text, match.end()) if match else None
    if not match or not (percentiles or match.end() == len(text.rstrip())):
        raise DeviceError(
            f"benchmark_model printed count={runs}{text!r} for its measurement, which is cut short or of an unknown "
            f"form: measure again, with an official program."
        )
    mean = float(several["avg"] if several else same["curr"])
    median = float(percentiles["median"]) if percentiles else 0.0
    if mean <= 0:
        raise DeviceError(
            f"benchmark_model printed count={runs}{text!r}: the model takes less than the microsecond that the program "
            f"counts in; finer than that nothing can be measured."
        )
    return {
        "mean_us": mean,
        "min_us": float(several["min"] if several else same["curr"]),
        "median_us": median if median >= _COARSE_US else mean,
        "p95_us": float(percentiles["p95"]) if percentiles else None,
    }


def _trouble(output: str, status: int, delegate: str) -> str | None:
    """The sentence for what went wrong, None if nothing did. The most specific sign is looked for first."""
    cannot = _cannot_run(output, status)
    if cannot:
        return cannot
    unknown = re.search(r"Unconsumed cmdline flags: ([^\n]*)", output)
    if unknown:
        return (
            f"This benchmark_model does not know {unknown.group(1).strip()} and measured without it: give an official "
            f"program of a newer version."
        )
    refused = _REFUSED.search(output)
    if refused:
        return f"The delegate {delegate!r} cannot run this model ({refused.group().strip()}): choose another delegate."
    fallback = _FALLBACK.search(output)
    if fallback and (delegate in ("gpu", "nnapi") or "unsupported on this platform" in fallback.group()):
        return (
            f"The delegate {delegate!r} was not used, the CPU ran the model instead ({fallback.group().strip()}): "
            f"choose another delegate."
        )
    complaint = next(iter(_COMPLAINT.findall(output)), None)
    if status == 134 or "\nFATAL: " in "\n" + output:
        return f"benchmark_model aborted ({complaint or _tail(output)}): try an official program of another version."
    if status or "Benchmarking failed." in output:
        return (
            f"benchmark_model failed with exit status {status} ({complaint or _tail(output)}): check that the runtime "
            f"of this program supports the model, or give a newer program."
        )
    if delegate in ("gpu", "nnapi") and not _APPLIED.search(output) and not list(_replaced(output, delegate)):
        return (
            f"benchmark_model gave no sign that it used the delegate {delegate!r}, so the CPU may have run the model: "
            f"choose another delegate or program."
        )
    return None


def _cannot_run(output: str, status: int) -> str | None:
    """Why the phone could not start the program at all, None if it did."""
    if status == 126 or any(words in output for words in ("not executable:", "Exec format error")):
        return f"The phone cannot execute this binary ({_tail(output)}): give one that is built for its ABI."
    if "CANNOT LINK EXECUTABLE" in output:
        return f"The binary lacks a library on the phone ({_tail(output)}): give one that is linked statically."
    if status == 127:
        return f"The phone lacks the binary or its loader ({_tail(output)}): give one that is built for Android."
    return None


def _replaced(output: str, delegate: str) -> Iterator[re.Match]:
    """For each subgraph, the first line on what the delegate took. Older programs apply a delegate twice."""
    seen = set()
    for line in _REPLACED.finditer(output):
        if ("xnnpack" in line["delegate"].lower()) == (delegate == "xnnpack") and line["graph"] not in seen:
            seen.add(line["graph"])
            yield line


def _delegated(output: str, delegate: str) -> tuple[int, int] | None:
    if delegate == "none":
        return None
    lines = list(_replaced(output, delegate))
    if not lines:
        return None
    if any(line["all"] is None for line in lines):
        return None
    return sum(int(line["taken"]) for line in lines), sum(int(line["all"]) for line in lines)


def _rows(text: str) -> Iterator[Operator]:
    """The rows of the tables in execution order. Tables in other orders repeat the same operators."""
    columns: list[str] | None = None
    in_order = False
    for line in text.splitlines():
        lower = line.lower().removeprefix("info: ").lstrip()
        if line.startswith("=="):
            columns, in_order = None, "Run Order" in line
        elif lower.startswith("[node type]"):
            columns = [cell.strip(" []") for cell in lower.split("\t")] if in_order else None
        elif columns:
            cells = line.lstrip().split("\t")
            if len(cells) != len(columns):
                columns = None
                continue
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
            calls = round(float(row["times called"]))
            yield Operator(row["node type"], row["name"], float(row["avg ms"]) * 1e3 * calls, calls)


def _tail(output: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it printed nothing")
