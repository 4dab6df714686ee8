"""What both benchmark programs print, in every form that is known, becomes the right numbers or the right complaint."""

import pytest

from amc_tf.devices import benchmark_model
from amc_tf.devices.benchmark_model import LITERT, PROBE, TFLITE
from amc_tf.devices.timing import RunLength
from amc_tf.errors import DeviceError

WARMUP = "count=526 first=2125 curr=969 min=910 max=2125 avg=949.861 std=68 p5=915 median=939 p95=990"
MEASURED = "count=1055 first=1001 curr=969 min=905 max=1500 avg=951.5 std=60 p5=914 median=940 p95=991"
XNNPACK = (
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    "VERBOSE: Replacing 31 out of 33 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions for "
    "subgraph 0 (main).\n"
)


def tflite(measured: str = MEASURED, prefix: str = "INFO: ", stderr: str = XNNPACK) -> str:
    """All that the older program prints for a run that went well; stdout before stderr."""
    lines = [
        "STARTING!",
        "Log parameter values verbosely: [0]",
        "Graph: [m.tflite]",
        "Loaded model m.tflite",
        "The input model file size (MB): 16.9008",
        "Initialized session in 17.187ms.",
        "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.",
        WARMUP,
        "",
        "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.",
        measured,
        "",
        "Inference timings in us: Init: 17187, First inference: 2125, Warmup (avg): 949.861, Inference (avg): 951.5",
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual "
        "memory footprint of the model at runtime. Take the information at your discretion.",
        "Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859",
    ]
    return "\n".join(prefix + line if line else "" for line in lines) + "\n" + stderr


LITERT_OUTPUT = f"""INFO: STARTING!
INFO: Num threads: [1]
INFO: The input model file size (MB): 3.5
INFO: Initialized session in 4.48ms.
INFO: {WARMUP}

INFO: {MEASURED}

INFO: [./litert/tools/benchmark_litert_model.h:81] Loading model from: m.tflite
I0000 00:00:1700000000.0 file.cc:51] something of abseil
VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for subgraph 0
INFO: [benchmark_litert_model.h:190]\x20
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:191] Model initialization: 4.48 ms
INFO: [benchmark_litert_model.h:192] Warmup (first):       1.03 ms
INFO: [benchmark_litert_model.h:194] Inference (avg):      0.95 ms (1055 runs)
INFO: [benchmark_litert_model.h:197] Inference (std):      0.06
INFO: [benchmark_litert_model.h:199]\x20
Memory Usage:
INFO: [benchmark_litert_model.h:200] Init footprint:       8.94 MB
INFO: [benchmark_litert_model.h:201] Overall footprint:    11.51 MB
INFO: [benchmark_litert_model.h:203] ======================================
"""


def test_the_older_program() -> None:
    measured = benchmark_model.parse(tflite(), 0, "xnnpack")
    assert (measured.runs, measured.median_us, measured.mean_us, measured.min_us) == (1055, 940, 951.5, 905)
    assert (measured.p95_us, measured.init_us, measured.memory_mb) == (991, 17187, 46.0859)
    assert measured.delegated == (31, 33)


def test_the_newer_program() -> None:
    measured = benchmark_model.parse(LITERT_OUTPUT, 0, "xnnpack")
    assert (measured.runs, measured.median_us, measured.p95_us) == (1055, 940, 991)  # not the 0.95 ms of its own block
    assert (measured.init_us, measured.memory_mb, measured.delegated) == (4480, 11.51, (64, 64))


def test_output_without_prefixes_and_percentiles_with_the_old_words_for_memory() -> None:
    output = tflite("count=50 first=2989660 curr=2912978 min=2727203 max=3189476 avg=2.9499e+06 std=109770", "", "")
    output = output.replace("Memory footprint delta from the start of the tool", "Peak memory footprint")
    measured = benchmark_model.parse(output, 0, "xnnpack")
    assert (measured.median_us, measured.mean_us, measured.p95_us) == (2.9499e6, 2.9499e6, None)
    assert (measured.memory_mb, measured.delegated) == (46.0859, None)


def test_the_end_of_2018() -> None:
    output = tflite(stderr="").replace(
        "Inference timings in us: Init: 17187, First", "Average inference timings in us: Init: 17187, First"
    )
    assert benchmark_model.parse(output, 0, "none").median_us == 940


@pytest.mark.parametrize(
    ("line", "runs", "median", "least", "p95"),
    [
        ("count=1 curr=77", 1, 77, 77, None),
        ("count=1 curr=77 p5=77 median=77 p95=77", 1, 77, 77, 77),
        ("count=9 curr=12(all same)", 9, 12, 12, None),
        ("count=9 curr=12(all same) p5=12 median=12 p95=12", 9, 12, 12, 12),
        ("count=3 first=9 curr=4 min=4 max=9 avg=5.66667 std=2", 3, 5.66667, 4, None),
        (
            "count=2 first=1240274 curr=1240266 min=1240266 max=1240274 avg=1.24027e+06 std=4",
            2,
            1.24027e6,
            1240266,
            None,
        ),
        ("count=3 first=0 curr=0 min=0 max=2 avg=0.666667 std=1 p5=0 median=0 p95=2", 3, 0.666667, 0, 2),
    ],
)
def test_every_form_of_the_line_of_counts(line, runs, median, least, p95) -> None:
    measured = benchmark_model.parse(tflite(line), 0, "xnnpack")
    assert (measured.runs, measured.median_us, measured.min_us, measured.p95_us) == (runs, median, least, p95)


@pytest.mark.parametrize(
    "line",
    [
        "count=0",
        "count=0 p5=0 median=0 p95=0",
        "count=1055",
        "count=1055 first=1001 curr=9",
        "count=1055 first=1001 curr=969 min=905 max=1500 avg=951.5",
        "count=1055 first=1001 curr=969 min=905 max=1500 avg=951.5 std=60 p5=914 median=940",
        "count=9 curr=0(all same)",
    ],
)
def test_a_line_of_counts_that_says_nothing_or_not_all_is_refused(line) -> None:
    with pytest.raises(DeviceError, match="measure again|finer than"):
        benchmark_model.parse(tflite(line), 0, "xnnpack")


def test_output_that_is_cut_anywhere_is_refused_or_loses_no_number() -> None:
    whole = benchmark_model.parse(tflite(), 0, "xnnpack")
    refused = 0
    for length in range(len(tflite())):
        try:
            cut = benchmark_model.parse(tflite()[:length], 0, "xnnpack")
        except DeviceError as error:
            assert "cut short" in str(error)
            refused += 1
        else:
            assert (cut.median_us, cut.min_us, cut.runs) == (whole.median_us, whole.min_us, whole.runs)
    assert refused > tflite().index("Inference timings")


FAILURES = {
    "missing model": (
        "ERROR: Could not open 'm.tflite'.\nERROR: Failed to load model m.tflite\nERROR: Benchmarking failed.\n",
        1, "xnnpack", "Could not open 'm.tflite'",
    ),
    "kernel refuses": (
        "ERROR: x/batch_matmul.cc:353 a != b was not true.\nERROR: Node number 57 (BATCH_MATMUL) failed to prepare.\n"
        "ERROR: Failed to allocate tensors!\nERROR: Benchmarking failed.\n",
        1, "xnnpack", "batch_matmul",
    ),
    "fails without a reason": (
        "INFO: [benchmark_litert_model.h:81] Loading model from: m.tflite\nERROR: Benchmarking failed.\n",
        1, "xnnpack", "exit status 1",
    ),
    "results of a failed run": (
        tflite() + "ERROR: Node number 3 (CONV_2D) failed to invoke.\nERROR: Benchmarking failed.\n",
        1, "xnnpack", "Node number 3",
    ),
    "results of a failed run from before exit codes": (
        tflite(prefix="") + "Benchmarking failed.\n", 0, "xnnpack", "failed with exit status 0",
    ),
    "results and an exit code only": (tflite(), 1, "xnnpack", "exit status 1"),
    "unknown flag": (
        "WARN: Unconsumed cmdline flags: --use_xnnpack=false\n" + tflite(), 0, "none", "--use_xnnpack=false",
    ),
    "bad value": (
        "ERROR: Failed to parse flag 'num_runs' against argv '--num_runs=x'\n", 1, "xnnpack", "num_runs=x",
    ),
    "no GPU": (
        tflite(stderr="WARN: GPU acceleration is unsupported on this platform.\n" + XNNPACK), 0, "gpu", "was not used",
    ),
    "no NNAPI": (
        tflite(stderr="NNAPI acceleration is unsupported on this platform.\n"), 0, "nnapi", "was not used",
    ),
    "GPU takes nothing": (
        tflite(
            stderr="INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the "
            "delegate.\n"
        ),
        0, "gpu", "was not used",
    ),
    "no word of the GPU": (tflite(), 0, "gpu", "no sign"),
    "delegate fails": (
        "ERROR: Restored original execution plan after delegate application failure.\n"
        "Failed to apply NNAPI delegate.\n",
        1, "nnapi", "cannot run this model",
    ),
    "full delegation": (
        "ERROR: Disallowed CPU fallback detected.\nERROR: Benchmarking failed.\n", 1, "gpu", "cannot run this model",
    ),
    "abort": ("FATAL: Something is wrong\n", 134, "xnnpack", "aborted .Something is wrong"),
    "abort without a word": ("", 134, "xnnpack", "aborted"),
    "wrong ABI": ("/system/bin/sh: ./x: not executable: 64-bit ELF file\n", 126, "xnnpack", "built for its ABI"),
    "missing program": ("/system/bin/sh: ./x: inaccessible or not found\n", 127, "xnnpack", "lacks the binary"),
    "missing library": (
        'CANNOT LINK EXECUTABLE "./x": library "libOpenCL.so" not found\n', 1, "xnnpack", "libOpenCL.so",
    ),
    "nothing at all": ("", 0, "xnnpack", "0 lines of counts"),
    "no warm-up": (tflite().replace(WARMUP, ""), 0, "xnnpack", "1 lines of counts and an end"),
    "a line too many": (tflite() + WARMUP + "\n", 0, "xnnpack", "3 lines of counts"),
    "no end": (tflite().partition("INFO: Inference timings")[0], 0, "xnnpack", "cut short"),
    "dry run": (tflite().replace(WARMUP, "count=0").replace(MEASURED, "count=0"), 0, "xnnpack", "count=0"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_a_run_that_went_wrong_is_no_measurement(case) -> None:
    output, status, delegate, words = FAILURES[case]
    with pytest.raises(DeviceError, match=words):
        benchmark_model.parse(output, status, delegate)


def test_a_model_that_xnnpack_takes_nothing_of_is_measured_on_the_cpu_all_the_same() -> None:
    said = (
        "INFO: Though XNNPACK delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
    )
    assert benchmark_model.parse(tflite(stderr=said), 0, "xnnpack").delegated is None


def test_operators_that_the_gpu_took() -> None:
    said = (
        "VERBOSE: Replacing 50 out of 58 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions for "
        "subgraph 0.\nVERBOSE: Replacing 4 out of 11 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 "
        "partitions for subgraph 0.\nINFO: Explicitly applied GPU delegate, and the model graph will be partially "
        "executed by the delegate w/ 3 delegate kernels.\n"
    )
    assert benchmark_model.parse(tflite(stderr=said), 0, "gpu").delegated == (50, 58)
    assert benchmark_model.parse(tflite(stderr=said.rpartition("INFO:")[0]), 0, "gpu").delegated == (50, 58)
    assert benchmark_model.parse(tflite(stderr="INFO:" + said.rpartition("INFO:")[2]), 0, "gpu").delegated is None


def test_operators_of_all_subgraphs_are_counted_once() -> None:
    line = (
        "VERBOSE: Replacing {} out of {} node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for "
    )
    said = line.format(8, 9) + "subgraph 0 (main).\n" + line.format(1, 1) + "subgraph 0 (main).\n"
    said += line.format(3, 4) + "subgraph 1.\n"
    assert benchmark_model.parse(tflite(stderr=said), 0, "xnnpack").delegated == (11, 13)
    old = "VERBOSE: Replacing 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions.\n"
    assert benchmark_model.parse(tflite(stderr=old), 0, "xnnpack").delegated is None


@pytest.mark.parametrize("delegate", ["xnnpack", "gpu", "nnapi", "none"])
def test_the_older_program_is_told_each_delegate(delegate) -> None:
    flags = _flags(TFLITE, delegate)
    assert f"--use_xnnpack={str(delegate == 'xnnpack').lower()}" in flags
    assert [flag for flag in flags if "gpu" in flag or "nnapi" in flag] == (
        [f"--use_{delegate}=true"] if delegate in ("gpu", "nnapi") else []
    )
    assert {"--graph=m.tflite", "--num_threads=2", "--num_runs=50", "--min_secs=1.5", "--max_secs=60.0"} <= set(flags)
    assert {"--warmup_runs=1", "--warmup_min_secs=0.5"} <= set(flags)


def test_the_newer_program_is_told_nothing_that_it_does_not_know() -> None:
    known = {
        "graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs", "use_cpu",
        "use_gpu", "use_profiler",
    }  # fmt: skip
    flags = _flags(LITERT, "gpu", profile=True)
    assert {flag.removeprefix("--").partition("=")[0] for flag in flags} <= known
    assert {"--use_gpu=true", "--use_profiler=true"} <= set(flags)
    assert not [flag for flag in _flags(LITERT, "xnnpack") if "gpu" in flag]


@pytest.mark.parametrize("delegate", ["nnapi", "none"])
def test_a_delegate_that_the_newer_program_lacks_is_refused(delegate) -> None:
    with pytest.raises(ValueError, match=f"'{delegate}'.*xnnpack, gpu"):
        _flags(LITERT, delegate)


def test_each_program_is_known_by_the_flag_that_it_does_not_know() -> None:
    unknown_npu = (
        f"WARN: Unconsumed cmdline flags: {PROBE[0]}\nERROR: Please specify the name of your TF Lite input file"
    )
    assert benchmark_model.program(unknown_npu, 1) == TFLITE
    assert (
        benchmark_model.program(f"WARN: Unconsumed cmdline flags: {PROBE[1]}\nERROR: Benchmarking failed.", 1) == LITERT
    )


@pytest.mark.parametrize(
    ("output", "status", "words"),
    [
        ("hello", 0, "no benchmark_model"),
        (f"WARN: Unconsumed cmdline flags: {' '.join(PROBE)}", 0, "no benchmark_model"),
        ("", 0, "no benchmark_model"),
        ("sh: ./x: not executable: 64-bit ELF file", 126, "ABI"),
        ("sh: ./x: No such file or directory", 127, "lacks the binary"),
    ],
)
def test_what_is_no_benchmark_program_is_refused(output, status, words) -> None:
    with pytest.raises(DeviceError, match=words):
        benchmark_model.program(output, status)


RUN_ORDER = "============================== Run Order ==============================\n"
HEADER = (
    "\t                 [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
)
PROFILE = (
    "INFO: Profiling Info for Benchmark Initialization:\n"
    + RUN_ORDER + HEADER
    + "\t  ModifyGraphWithDelegate\t    9.100\t    9.100\t 100.0%\t 100.0%\t   0.000\t        1\tModifyGraph/0\n"
    + "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
    + RUN_ORDER + HEADER
    + "\t Convolution (NHWC, QC8) GEMM\t 0.400\t 0.301\t 60.000%\t 60.000%\t   0.000\t        1\tDelegate/Conv, 2:0\n"
    + "\t                     SOFTMAX\t    0.200\t    0.050\t 20.000%\t100.000%\t   0.000\t        2\t[probs]:4\n"
    + "\n============================== Top by Computation Time ==============================\n" + HEADER
    + "\t                     SOFTMAX\t    0.200\t    0.050\t 20.000%\t100.000%\t   0.000\t        2\t[probs]:4\n"
    + "\nNumber of nodes executed: 2\n"
    + "============================== Summary by node type ==============================\n"
    + "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]\n"
    + "\t                     SOFTMAX\t        1\t     0.050\t    40.000%\t   100.000%\t     0.000\t        2\n"
    + "\nTimings (microseconds): count=50 first=600 curr=401 min=400 max=600 avg=401.2 std=9\nMemory (bytes): count=0\n"
    + "2 nodes observed\n"
)  # fmt: skip


def test_the_profile_of_the_measured_runs_in_execution_order() -> None:
    first, second = benchmark_model.operators(tflite(stderr="") + PROFILE)
    assert (first.kind, first.name, first.calls) == ("Convolution (NHWC, QC8) GEMM", "Delegate/Conv, 2:0", 1)
    assert (first.us, second.us, second.calls) == (pytest.approx(301), pytest.approx(100), 2)
    assert (second.kind, second.name) == ("SOFTMAX", "[probs]:4")


def test_the_counts_of_a_profile_are_not_taken_for_the_measurement() -> None:
    assert benchmark_model.parse(tflite(stderr=PROFILE), 0, "none").median_us == 940


def test_a_profile_with_the_column_of_old_versions() -> None:
    old = PROFILE.replace("\t  [first]", "\t[start]\t  [first]").replace("GEMM\t", "GEMM\t 0.000\t")
    old = old.replace("SOFTMAX\t    0.2", "SOFTMAX\t 0.301\t    0.2")
    assert [round(row.us) for row in benchmark_model.operators(old)] == [301, 100]


def test_the_operators_inside_the_delegate_stand_in_for_it() -> None:
    row = "\t {}\t    0.400\t    {}\t 60.000%\t 60.000%\t   0.000\t        1\t{}\n"
    text = (
        "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\nPrimary graph (name: main) profile:\n"
        + RUN_ORDER + HEADER + row.format("TfLiteXNNPackDelegate", "0.9", "y") + row.format("SOFTMAX", "0.1", "p")
        + "\nDelegate internal:\n" + RUN_ORDER + HEADER + row.format("Convolution (NHWC, F32)", "0.8", "c")
    )  # fmt: skip
    assert [row.kind for row in benchmark_model.operators(text)] == ["SOFTMAX", "Convolution (NHWC, F32)"]


def test_output_without_a_profile_is_refused() -> None:
    with pytest.raises(DeviceError, match="no profile"):
        benchmark_model.operators(tflite())


def _flags(program: str, delegate: str, **more) -> list[str]:
    length = RunLength.usual(50, 1.5)
    return benchmark_model.flags(
        program, "m.tflite", num_threads=2, delegate=delegate, length=length, max_seconds=60.0, **more
    )


def test_a_tiny_model_is_not_rounded_to_whole_microseconds() -> None:
    tiny = "count=260000 first=9 curr=3 min=3 max=80 avg=3.86014 std=1 p5=3 median=3 p95=5"
    assert benchmark_model.parse(tflite(measured=tiny), 0, "xnnpack").median_us == 3.86014
    larger = "count=9000 first=200 curr=101 min=99 max=800 avg=115.3 std=1 p5=99 median=101 p95=150"
    assert benchmark_model.parse(tflite(measured=larger), 0, "xnnpack").median_us == 101
