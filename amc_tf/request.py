"""What was asked for, as it stands in a journal: the same call must be known again, another one told apart."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.fingerprint import fingerprint, named
from amc_tf.pipeline import pruning_methods
from amc_tf.result import FLOAT
from amc_tf.search.guarantee import Guarantee
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.tflite.conversion.quantize import FORMATS
from amc_tf.training.distillation import TEMPERATURE, WEIGHT, Distillation

UNITS = {"latency": "us", "macs": "MACs", "params": "params", "size": "bytes"}  # what each target counts

ORIGINAL = "original"  # the teacher that is the model which was given


def contents(split: Split) -> str:
    """A digest of a split's examples and labels."""
    return fingerprint([list(split.inputs), split.labels])


def known(**arguments: Any) -> dict[str, Any]:
    """Functions among the arguments as they stand in a journal; ValueError for one that has no fingerprint."""
    return {name: named(argument, name) for name, argument in arguments.items()}


def run_name(model_name: str, searched: Mapping[str, Any], shipped: Sequence[Any]) -> str:
    """The name of a run directory: another one for whatever would come out otherwise.

    It is the same when a search is prolonged, or goes on with other versions, which a journal allows.

    Args:
        model_name: that it begins with.
        searched: the header of the journal, or what stands for it.
        shipped: what else decides which files lie there.
    """
    lasting = {name: value for name, value in searched["arguments"].items() if name != "episodes"}
    key = fingerprint([searched["model"], searched["seed"], lasting, list(shipped)])
    return f"{model_name}-{key[:8]}"


def check(target: Any, method: Any, metric: Any, run_dir: Any) -> str:
    """The target by the name that it has here; TypeError or ValueError where one of the arguments is none."""
    target = "macs" if target == "flops" else target
    if target not in UNITS:
        raise ValueError(f"target is {target!r}; expected one of {', '.join(UNITS)} or 'flops'.")
    pruning_methods.chosen(method, target)
    if metric is not None and not callable(metric):
        raise TypeError(f"metric is {metric!r}; a function or None is expected.")
    if run_dir is not None and not isinstance(run_dir, (str, os.PathLike)):
        raise TypeError(f"run_dir is {run_dir!r}; the path of a folder is expected.")
    return target


def formats(quantize: Any, integer_io: Any) -> tuple[str, ...]:
    """The formats to make beside float; ValueError where one is none."""
    given = () if quantize is None else (quantize,) if isinstance(quantize, str) else quantize
    known = [name for name in FORMATS if name != FLOAT]
    if not isinstance(given, (list, tuple)) or any(name not in known for name in given) or len(set(given)) < len(given):
        raise ValueError(
            f"quantize is {quantize!r}; expected None, one of {', '.join(map(repr, known))}, or a list of some of "
            f"them, each once."
        )
    if switch("integer_io", integer_io) and "int8" not in given:
        raise ValueError(f"integer_io is True, but quantize is {quantize!r}; only int8 files can take and give int8.")
    return tuple(given)


def check_timed(method: str, target: str, formats: Sequence[str]) -> None:
    """Raises ValueError for a latency of zeros in a quantised file, for which runtimes have no sparse kernels."""
    if method == "magnitude" and target == "latency" and formats:
        raise ValueError(
            f"target is 'latency' and quantize {formats[0]!r}, but zeros are worth time in float files alone; leave "
            f"out quantize, or give method 'channel'."
        )


def check_untrained(teacher: Any, temperature: Any, weight: Any, callbacks: Any) -> None:
    """Raises ValueError for arguments of the fine-tuning where there is to be none."""
    wrong = {
        "teacher": teacher is not None and not (isinstance(teacher, str) and teacher == ORIGINAL),
        "temperature": temperature != TEMPERATURE,
        "distill_weight": weight != WEIGHT,
        "finetune_callbacks": not isinstance(callbacks, (list, tuple)) or bool(callbacks),
    }
    if any(wrong.values()):
        raise ValueError(
            f"{next(name for name in wrong if wrong[name])} is given, but finetune_epochs is 0; give the number of "
            f"epochs too."
        )


def distillation(teacher: Any, model: Any, temperature: Any, weight: Any) -> Distillation | None:
    """What the fine-tuning learns from beside labels; TypeError or ValueError where an argument is none."""
    if isinstance(teacher, str) and teacher != ORIGINAL:
        raise ValueError(f"teacher is {teacher!r}; expected {ORIGINAL!r}, a model or None.")
    if teacher is None:
        return None
    found = Distillation(model if isinstance(teacher, str) else teacher, temperature, weight)
    found.check(model)
    return found


def whole(name: str, value: Any, least: int) -> int:
    """A whole number as an int; ValueError where it is none or less than `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} is {value!r}; a whole number of {least} or more is expected.")
    return int(value)


def switch(name: str, value: Any) -> bool:
    """A bool; TypeError where it is none."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; True or False is expected.")
    return bool(value)  # for the journal


def guarantee(max_drop: Any, budget: Any) -> Guarantee | None:
    """How far the accuracy may fall; ValueError where that is no number of points, or there is a budget."""
    if max_drop is None:
        return None
    if isinstance(max_drop, bool) or not isinstance(max_drop, (int, float, np.number)) or not 0 <= max_drop < 100:
        raise ValueError(f"max_drop is {max_drop!r}; points of accuracy are expected, such as 0.5.")
    if budget is not None:
        raise ValueError(
            f"max_drop is {max_drop!r} and budget {budget!r}; give one of the two: budget=None (--budget none) to have "
            f"the cheapest network that holds the accuracy."
        )
    return Guarantee(float(max_drop) / 100)


def table(sensitivity: Any, paper: bool) -> Sensitivity | None:
    """The sensitivity table in a file, where one is given; TypeError, ValueError or RunDirError where it is none."""
    if sensitivity is None:
        return None
    if not isinstance(sensitivity, (str, os.PathLike)):
        raise TypeError(f"sensitivity is {sensitivity!r}; the path of an earlier sensitivity.json is expected.")
    if paper:
        raise ValueError("paper=True searches without a sensitivity table; leave out one of the two.")
    return Sensitivity.load(sensitivity)
