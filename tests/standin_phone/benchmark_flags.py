"""The flags of the programs called benchmark_model, by which official version knows them.

All are taken, although many change nothing here: what counts is which ones a program does not know.

Source: LiteRT 2.2.0, tflite/tools/benchmark and litert/tools/benchmark_litert_model.h; TensorFlow 2.4 for the old one.
"""

from collections.abc import Sequence
from typing import Any


class BadValue(Exception):
    """A flag was given a value of another type; the text is what the program says."""


# name: (value where it is not given, how the program calls it when it lists what was set; "" is never listed)
_BASE = {
    "verbose": (False, ""),
    "num_runs": (50, "Min num runs"),
    "min_secs": (1.0, "Min runs duration (seconds)"),
    "max_secs": (150.0, "Max runs duration (seconds)"),
    "run_delay": (-1.0, "Inter-run delay (seconds)"),
    "run_frequency": (-1.0, "Number of prorated runs per second"),
    "num_threads": (-1, "Num threads"),
    "use_caching": (False, "Use caching"),
    "benchmark_name": ("", "Benchmark name"),
    "output_prefix": ("", "Output prefix"),
    "warmup_runs": (1, "Min warmup runs"),
    "warmup_min_secs": (0.5, "Min warmup runs duration (seconds)"),
    "dry_run": (False, "Run w/o invoking kernels"),
    "report_peak_memory_footprint": (False, "Report the peak memory footprint"),
    "memory_footprint_check_interval_ms": (50, "Memory footprint check interval (ms)"),
    "gpu_invoke_loop_times": (1, ""),
    "graph": ("", "Graph"),
    "require_full_delegation": (False, "Require full delegation"),
    "use_gpu": (False, "Use gpu"),
    "help": (False, ""),
}
_TFLITE_OLD = _BASE | {
    "input_layer": ("", "Input layers"),
    "input_layer_shape": ("", "Input shapes"),
    "input_layer_value_range": ("", "Input value ranges"),
    "input_layer_value_files": ("", "Input value files"),
    "allow_fp16": (False, "Allow fp16"),
    "enable_op_profiling": (False, "Enable op profiling"),
    "profiling_output_csv_file": ("", "CSV File to export profiling data to"),
    "max_profiling_buffer_entries": (1024, "Max profiling buffer entries"),
    "print_preinvoke_state": (False, "Print pre-invoke interpreter state"),
    "print_postinvoke_state": (False, "Print post-invoke interpreter state"),
    "use_xnnpack": (True, "Use xnnpack"),
    "gpu_precision_loss_allowed": (True, "Allow lower precision in gpu"),
    "gpu_experimental_enable_quant": (True, "Enable running quant models in gpu"),
    "gpu_backend": ("", "GPU backend"),
    "use_nnapi": (False, "Use NNAPI"),
    "nnapi_execution_preference": ("", "NNAPI execution preference"),
    "nnapi_execution_priority": ("", "NNAPI execution priority"),
    "nnapi_accelerator_name": ("", "NNAPI accelerator name"),
    "disable_nnapi_cpu": (True, "Disable NNAPI cpu"),
    "nnapi_allow_fp16": (False, "Allow fp16 in NNAPI"),
    "external_delegate_path": ("", "External delegate path"),
    "external_delegate_options": ("", "External delegate options"),
    "max_delegated_partitions": (0, "Max number of delegated partitions"),
    "min_nodes_per_partition": (0, "Min nodes per partition"),
}
_TFLITE = _TFLITE_OLD | {
    "signature_to_run_for": ("", "Signature to run"),
    "op_profiling_output_mode": ("stdout", "Op profiling output mode"),
    "op_profiling_output_file": ("", "Op profiling output file"),
    "allow_dynamic_profiling_buffer_increase": (False, "Allow dynamic increase on profiling buffer entries"),
    "release_dynamic_tensors": (False, "Release dynamic tensor memory"),
    "optimize_memory_for_large_tensors": (0, "Optimize memory usage for large tensors"),
    "disable_delegate_clustering": (False, "Disable delegate clustering"),
    "output_filepath": ("", "File path to export outputs layer to"),
    "xnnpack_force_fp16": (False, "xnnpack_force_fp16"),
    "xnnpack_weight_cache_file_path": ("", "xnnpack_weight_cache_file_path"),
    "nnapi_use_burst_mode": (False, "Use burst mode in NNAPI"),
    "nnapi_support_library_path": ("", "NNAPI support library path"),
    "gpu_inference_for_sustained_speed": (False, "Prefer maximizing the throughput in gpu"),
    "delegate_serialize_dir": ("", "Directory for delegate serialization"),
    "delegate_serialize_token": ("", "Model-specific token/key for delegate serialization"),
}
_LITERT = _BASE | {
    "signature_to_run_for": ("", "Signature to run"),
    "use_cpu": (True, "Use CPU"),
    "use_npu": (False, "Use NPU"),
    "use_profiler": (False, "Use profiler"),
    "enable_perfetto": (False, "Enable perfetto"),
    "gpu_backend": ("", "GPU backend"),
    "gpu-precision": ("auto", "GPU precision"),
    "gpu_low_priority": (False, "GPU low priority"),
    "dispatch_library_path": ("", "Dispatch library path"),
    "compiler_plugin_library_path": ("", "Compiler plugin library path"),
    "compiler_cache_path": ("", "Compiler cache path"),
    "enable_weight_sharing": (False, "Enable weight sharing"),
    "input_layer_value_range": ("", "Input value ranges"),
    "xnnpack_weight_cache_file_path": ("", "xnnpack_weight_cache_file_path"),
    "convert_weights_on_gpu": (False, "Convert weights on GPU"),
}
FLAGS = {"tflite": _TFLITE, "tflite_old": _TFLITE_OLD, "litert": _LITERT}


def read(program: str, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """(every flag's value, what was set as "Min num runs: [50]", arguments that no flag took).

    Raises:
        BadValue: A value is of the wrong type.
    """
    known = FLAGS[program]
    values = {name: default for name, (default, _) in known.items()}
    given, unknown = set(), []
    for argument in arguments:
        name, is_flag, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in known or not (is_flag or name == "help"):
            unknown.append(argument)
            continue
        try:
            values[name] = _value(text if is_flag else "true", known[name][0])
        except ValueError:
            raise BadValue(f"Failed to parse flag '{name}' against argv '{argument}'") from None
        given.add(name)
    # Listed in the program's order, not in that of the command line.
    shown = [f"{title}: [{_shown(values[name])}]" for name, (_, title) in known.items() if name in given and title]
    return values, shown, unknown


def usage(program: str) -> str:
    lines = [f"\t--{name}={_shown(default)}" for name, (default, _) in FLAGS[program].items()]
    return "usage: ./benchmark_model\nFlags:\n" + "\n".join(lines)


def _value(text: str, default: Any) -> Any:
    if not isinstance(default, bool):
        return type(default)(text)
    if text not in ("true", "1", "false", "0"):
        raise ValueError
    return text in ("true", "1")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
