"""Run directories without a search: made-up numbers in the files that amc_tf writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.pruning.plan import Plan

VERSIONS = {"python": "3.11.7", "amc_tf": "0.1.0", "keras": "3.15.1"}
PROCESSES = (20e3, 20.4e3, 19.7e3, 20.1e3, 21e3)


def figures(accuracy: float, share: float, **more: Any) -> dict[str, Any]:
    return {
        "accuracy": accuracy, "macs": int(125_485_696 * share), "params": int(857_082 * share),
        "size_bytes": int(3_440_640 * share), "latency_ms": None, "gzip_bytes": int(3_194_066 * share), **more,
    }  # fmt: skip


def timing(share: float) -> dict[str, Any]:
    processes = [us * share for us in PROCESSES]
    return {
        "processes": processes, "median_us": 20.1e3 * share, "p90_us": 20.8e3 * share, "mad_us": 100.0,
        "min_us": 19e3 * share, "runs": 500, "p95_us": 22e3 * share, "init_us": 5e3, "memory_mb": 12.5,
        "delegated": [31, 31], "environment": {"before": {"celsius": 40.0}, "after": {"celsius": 41.5}},
    }  # fmt: skip


def latency() -> dict[str, Any]:
    """Measured on a phone: half the time of the base network."""
    return {
        "device": {"device": "adb:S1", "model": "Pixel 8", "threads": "1"}, "ratio": 0.5, "ratio_low": 0.48,
        "ratio_high": 0.52, "base": timing(1.0), "compressed": timing(0.5), "table_seconds": 80.0, "format": "float",
    }  # fmt: skip


def trial(number: int, kind: str, keep: dict[str, float], sizes: dict[str, int], **more: Any) -> dict[str, Any]:
    """A line of the journal. Cost and accuracy grow with the keep ratios."""
    share = float(np.mean(list(keep.values())))
    accuracy = round(0.9 * share**0.2 - 0.003 * (number % 7), 4) if share < 1 else 0.9
    return {
        "number": number, "state": "complete", "kind": kind,
        "widths": [round(sizes[name] * ratio) for name, ratio in keep.items()], "keep_ratios": keep,
        "plan": f"{number:064x}", "reward": accuracy - 1, "seconds": 1.5, "reason": None,
        "outcome": {
            "accuracy": accuracy, "cost": 125_485_696.0 * share, "base_accuracy": 0.9, "base_cost": 125_485_696.0,
            "predicted": None, "examples": 250 if number % 5 == 4 else None,
        },
    } | more  # fmt: skip


def failed(number: int, keep: dict[str, float], sizes: dict[str, int], reason: str) -> dict[str, Any]:
    return trial(number, "agent", keep, sizes, state="failed", outcome=None, reward=None, reason=reason)


def run(folder: Path, free: int = 6, tried: int = 20, names: str = "block_{}_conv", **result: Any) -> Path:
    """A run directory in the present form.

    Args:
        folder: to make.
        free: number of prunable units; one frozen unit follows them.
        tried: number of trials besides base and uniform plan; trial 5 is a failed one.
        names: of the units.
        **result: keys of result.json to replace; the value `...` removes a key.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = {names.format(index): 64 for index in range(free)}
    whole, half = dict.fromkeys(sizes, 1.0), dict.fromkeys(sizes, 0.5)
    lines = [trial(0, "base", whole, sizes), trial(1, "uniform", half, sizes)]
    for number in range(2, tried + 2):
        keep = {name: float(rng.integers(1, 5)) / 8 for name in sizes}
        kind = ("agent", "refined")[number % 2]
        lines.append(
            failed(number, keep, sizes, "BadPredictions: all NaN.") if number == 5 else trial(number, kind, keep, sizes)
        )
    best = max((line for line in lines[2:] if line["outcome"] and not line["outcome"]["examples"]),
               key=lambda line: line["reward"], default=lines[1])  # fmt: skip
    plan = Plan({name: np.arange(64) < round(ratio * 64) for name, ratio in best["keep_ratios"].items()})
    best["plan"] = plan.digest
    plan.save(folder / "plan.json")
    arguments = {"target": "macs", "budget": 0.5, "episodes": tried, "method": "channel", "frozen": []}
    header = {"format": 1, "versions": VERSIONS, "seed": 0, "model": "ab" * 32, "arguments": arguments}
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    compressed = figures(0.83, 0.5)
    found = {
        "base": figures(0.9, 1.0), "compressed": compressed, "uniform": figures(0.76, 0.5), "untrained": None,
        "method": "channel", "target": "macs", "max_drop": None, "budget": 0.5, "limit": 62_742_848.0,
        "episodes": tried, "seconds": 239.8, "tflite_difference": 7.2e-07, "interrupted": False, "stopped": None,
        "scored_on": "validation_data", "scored_by": "accuracy", "latency": None, "obstacles": None, "reach": None,
        "tflite": "model.tflite",
        "formats": [
            {"format": "float", "file": "model.tflite", "accuracy": 0.83, "latency_ms": None,
             "size_bytes": compressed["size_bytes"], "gzip_bytes": compressed["gzip_bytes"]},
        ],
        "units": [
            *({"name": name, "layers": [name, f"{name}_bn"], "size": 64, "kept": int(plan[name].sum()), "frozen": None}
              for name in sizes),
            {"name": "head", "layers": ["head"], "size": 10, "kept": 10, "frozen": "it is an output of the model"},
        ],
        "training": None, "stages": [],
        "inputs": [{"name": "image", "shape": [1, 32, 32, 3], "dtype": "float32"}],
        "outputs": [{"name": "head", "shape": [1, 10], "dtype": "float32"}],
    }  # fmt: skip
    found = {key: value for key, value in (found | result).items() if value is not ...}
    (folder / "result.json").write_text(json.dumps(found))
    return folder


def old(folder: Path, **result: Any) -> Path:
    """A run directory of amc_tf 0.1, which recorded less."""
    later = (
        "uniform", "untrained", "method", "max_drop", "obstacles", "reach", "tflite", "formats", "units", "training",
        "stages", "inputs", "outputs", "stopped",
    )  # fmt: skip
    first = {name: {key: figures(*shares)[key] for key in ("accuracy", "macs", "params", "size_bytes")}
             for name, shares in (("base", (0.9, 1.0)), ("compressed", (0.83, 0.5)))}  # fmt: skip
    return run(folder, **{**dict.fromkeys(later, ...), **first, **result})
