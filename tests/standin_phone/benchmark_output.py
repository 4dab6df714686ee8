"""What the programs called benchmark_model print: each line to where it goes, the line of counts, the end.

Source: LiteRT 2.2.0, tflite/tools/benchmark and litert/tools/benchmark_litert_model.h; stats_calculator.h.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HERE = "benchmark_litert_model.h"


@dataclass(frozen=True)
class Results:
    """What the end of the output is made of; times of single inferences in microseconds, memory in megabytes."""

    init_us: int
    warmup: Sequence[int]
    regular: Sequence[int]
    init_mb: float
    overall_mb: float
    peak_mb: float | None
    input_bytes: int
    signature: str


class Printer:
    """Where lines go: the tool's own to stdout, errors and the runtime's to stderr."""

    def __init__(self, program: str, faults: dict[str, Any]):
        self._old = program == "tflite_old"
        self._lines, self._size = faults.get("lines", math.inf), faults.get("size", math.inf)

    def say(self, text: str = "", level: str = "INFO") -> None:
        """A line of the tool's own."""
        prefix = "" if self._old else f"{level}: "
        self._put(sys.stderr if level in ("ERROR", "FATAL") else sys.stdout, prefix + text)

    def raw(self, text: str) -> None:
        """Lines as they are, to stdout."""
        self._put(sys.stdout, text)

    def runtime(self, text: str) -> None:
        """A line of the runtime."""
        self._put(sys.stderr, text)

    def litert(self, line: int, text: str) -> None:
        """A line of the newer program's own log."""
        self._put(sys.stderr, f"INFO: [{HERE}:{line}] {text}")

    def _put(self, stream: Any, text: str) -> None:
        kept = (text + "\n").splitlines(keepends=True)
        if math.isfinite(self._lines):
            kept = kept[: int(self._lines)]
            self._lines -= len(kept)
        data = "".join(kept)
        if math.isfinite(self._size):
            data = data[: int(self._size)]
            self._size -= len(data)
        stream.write(data)
        stream.flush()


def statistics(times: Sequence[int], percentiles: bool) -> str:
    if not times:
        text = "count=0"
    elif min(times) == max(times):
        text = f"count={len(times)} curr={times[-1]}" + ("(all same)" if len(times) > 1 else "")
    else:
        text = (
            f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)} "
            f"avg={mean(times):g} std={int(deviation(times))}"
        )
    if percentiles:
        ordered = sorted(times) or [0]
        low, middle, high = (ordered[len(ordered) * percent // 100] for percent in (5, 50, 95))
        text += f" p5={low} median={middle} p95={high}"
    return text


def mean(times: Sequence[float]) -> float:
    return sum(times) / len(times) if times else 0.0


def deviation(times: Sequence[int]) -> float:
    middle = mean(times)
    return math.sqrt(mean([(each - middle) ** 2 for each in times]))


def end_tflite(out: Printer, results: Results, old: bool) -> None:
    warmup, regular = results.warmup, results.regular
    first = (*warmup, *regular, 0)[0]
    out.say(
        f"Inference timings in us: Init: {results.init_us}, First inference: {first}, Warmup (avg): {mean(warmup):g}, "
        f"Inference (avg): {mean(regular):g}"
    )
    out.say(
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the "
        "actual memory footprint of the model at runtime. Take the information at your discretion."
    )
    title = "Peak memory footprint (MB)" if old else "Memory footprint delta from the start of the tool (MB)"
    out.say(f"{title}: init={results.init_mb:g} overall={results.overall_mb:g}")
    if results.peak_mb is not None:
        out.say(f"Overall peak memory footprint (MB) via periodic monitoring: {results.peak_mb:g}")


def end_litert(out: Printer, results: Results) -> None:
    warmup, regular, say = results.warmup, results.regular, out.litert
    say(300, "\n========== BENCHMARK RESULTS ==========")
    say(301, f"Signature name:       {results.signature}")
    say(302, f"Model initialization: {results.init_us / 1e3:.2f} ms")
    if warmup:
        say(305, f"Warmup (first):       {warmup[0] / 1e3:.2f} ms")
        say(307, f"Warmup (avg):         {mean(warmup) / 1e3:.2f} ms ({len(warmup)} runs)")
    say(310, f"Inference (avg):      {mean(regular) / 1e3:.2f} ms ({len(regular)} runs)")
    say(312, f"Inference (min):      {min(regular, default=0) / 1e3:.2f} ms")
    say(313, f"Inference (max):      {max(regular, default=0) / 1e3:.2f} ms")
    say(314, f"Inference (std):      {deviation(regular or [0]) / 1e3:.2f}")
    if regular:
        say(317, f"Throughput:           {results.input_bytes / mean(regular):.2f} MB/s")
    say(320, "\nMemory Usage:")
    say(321, f"Init footprint:       {results.init_mb:.2f} MB")
    say(323, f"Overall footprint:    {results.overall_mb:.2f} MB")
    if results.peak_mb is None:
        say(328, "Peak memory usage not available. (peak_mem_mb <= 0)")
    else:
        say(326, f"Peak memory:          {results.peak_mb:.2f} MB")
    say(332, "======================================")
