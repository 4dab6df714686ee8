"""Options: every argument of compress() but the model, with its default and its help text; checked once, here.

compress() repeats the names, types and defaults in its signature, for completion; a test compares the two. Its
docstring and the help of the command line are made of the texts here.
"""

import dataclasses
import itertools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amc_tf.callbacks import Callback, check_tensorboard, checked
from amc_tf.checks import is_number, path_or_none, plain, switch, whole
from amc_tf.fingerprint import named
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.pruner import is_ratio
from amc_tf.result import FLOAT
from amc_tf.search.budget import fraction, parse_budget, plain_budget
from amc_tf.search.guarantee import Guarantee
from amc_tf.search.rewards import Reward, choose
from amc_tf.search.scoring.metrics import Metric
from amc_tf.targets import TARGETS, checked_target
from amc_tf.tflite.conversion.quantize import FORMATS
from amc_tf.training.distillation import TEMPERATURE, WEIGHT

ORIGINAL = "original"  # as `teacher`: the model that was given


def _option(default: Any, text: str, short: str | None = None) -> Any:
    """A field with its help text; `short` is that of the command line, by default the first sentence of the text."""
    return field(default=default, metadata={"help": text, "short": short or text.partition(". ")[0].rstrip(".") + "."})


@dataclass(frozen=True, eq=False)
class Options:
    """What compress() is asked for. Each argument is checked and brought into one form.

    Checks that need the model or the data are those of `prepare`.

    Attributes:
        formats: of `quantize`, the first one ships; empty for the float file alone.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range, or does not go with another one.
    """

    target: str = _option(
        "latency", 'What the budget is about: "latency", "macs" (also "flops"), "params" or "size".'
    )  # fmt: skip
    budget: float | str | None = _option(
        0.5,
        'What may be kept: a fraction (0.5, "50%") or absolute ("30 ms", "280 MMAC", "1.5 M", "2 MB"). None sets no '
        "bound: the reward then weighs accuracy against cost.",
        "What may be kept: 0.5, 50%, '30 ms', '280 MMAC', '2 MB'; 'none' weighs accuracy against cost.",
    )
    train_data: Any = _option(
        None,
        "(x, y) arrays, tf.data.Dataset or keras PyDataset. Weights are reconstructed and BatchNorm is recalibrated on "
        "a part of it.",
    )
    reward_data: Any = _option(
        None,
        "Examples that candidates are scored on. Default: another part of train_data. Without labels the score is the "
        "agreement with the original model.",
    )
    validation_data: Any = _option(None, "Examples that the search never sees; the reported accuracies are of these.")
    episodes: int = _option(400, "How many networks are tried, besides the original and the uniform one.")
    seed: int = _option(
        0, "Seed of the agent and of the choice of examples. The same seed and data give the same plan."
    )  # fmt: skip
    device: Any = _option(
        None,
        'Where latency is measured: "adb" (the one connected phone), "adb:SERIAL", "host" (this computer) or a device '
        "object. Default: for target latency the connected phone, or this computer with a warning; for other targets "
        "nothing is measured.",
        "Where latency is measured: adb, adb:SERIAL or host; by default the connected phone, or else the host.",
    )
    method: str = _option(
        "channel",
        'What is removed: "channel" removes whole channels, and the network becomes smaller and faster; "magnitude" '
        "makes single weights zero, and the file becomes smaller. Zeros lower params, size and, for networks that "
        "XNNPACK has sparse kernels for (`analyze` says), latency.",
        "Remove whole channels, or make single weights zero.",
    )
    metric: Metric | None = _option(
        None, "Function (labels, predictions) -> number; larger is better. Default: accuracy."
    )  # fmt: skip
    reward: str | Reward | None = _option(
        None,
        'What the search maximises: "negative_error", "negative_error_log_cost" or a function Outcome -> number. '
        "Default: the first with a budget, the second without.",
    )
    max_drop: float | None = _option(
        None,
        "With budget=None: how many points the accuracy may fall on the reward data (of a metric: hundredths). The "
        "cheapest network that stays within it is taken (the paper's accuracy-guaranteed protocol).",
        "Instead of a budget: how many points the accuracy may fall. The cheapest network within it is taken.",
    )
    round_to: int = _option(8, "Keep channels in multiples of this, which suits phones; 1 for any number.")
    min_keep: float | None = _option(
        None, "Least keep ratio of a layer. Default: 0.2, of the weights of a Dense layer 0.02 (the paper's)."
    )  # fmt: skip
    importance: str | Importance = _option(
        "magnitude_in",
        'Which channels go first: "magnitude_in" (the paper\'s), "magnitude_out", "magnitude" or a function (group, '
        "weights) -> scores.",
        "Which channels go first: magnitude_in (the paper's), magnitude_out or magnitude.",
    )
    frozen: Sequence[str] = _option(
        (), "Names of layers to leave alone.", "Leave this layer alone (may be repeated)."
    )  # fmt: skip
    reconstruct: bool = _option(
        True, "Let kept weights make up for dropped ones, by least squares on a part of train_data."
    )  # fmt: skip
    sensitivity: str | Path | None = _option(
        None,
        "Path of the sensitivity.json of an earlier search. The model, the data and the arguments must be the same, "
        "but for budget, target and episodes. It spares the networks that sensitivity is measured on.",
        "The sensitivity.json of an earlier search on the same model and data.",
    )
    paper: bool = _option(
        False,
        "Search with the paper's agent alone, for comparison; ddpg_process.py lists what is left out.",
        "Search with the paper's agent alone, for comparison.",
    )
    stages: Sequence[float] | None = _option(
        None,
        "Keep ratios of the whole network before the budget, falling, such as the paper's 0.5, 0.35, 0.25 before 0.2. "
        "Each stage is a search and a fine-tuning of its own. In each, min_keep is relative to the network of the "
        "stage before. Default: with finetune_epochs and a budget below 0.5, halves (0.5, 0.25, ...) down to the "
        "budget; () for none.",
        "Prune to this and fine-tune before the budget (may be repeated, falling).",
    )
    finetune_epochs: int = _option(
        0,
        "Times through train_data that the pruned network is trained, see `finetune`. Zeros stay zero. Without "
        "validation_data the accuracy is then of examples that it was trained on. If the loss becomes NaN in the first "
        "epoch, or Ctrl-C stops the training, the result is the untrained network, with a warning.",
    )
    teacher: Any = _option(
        ORIGINAL,
        'Model whose outputs the fine-tuning learns from, as well as from labels: "original" (the given model), '
        "another model with the same inputs and outputs, or None for labels alone.",
    )
    temperature: float = _option(TEMPERATURE, "Temperature of the distillation, see `finetune`.")
    distill_weight: float = _option(WEIGHT, "Weight of the distillation beside the labels, see `finetune`.")
    finetune_callbacks: Sequence[Any] = _option((), "Keras callbacks for the fine-tuning.")
    quantize: str | Sequence[str] | None = _option(
        None,
        'Formats to make beside the float file: "int8" (weights and activations, calibrated on the examples that '
        'BatchNorm is recalibrated on), "fp16" (weights) or "dynamic" (weights in 8 bits), or several. The first one '
        "ships. With target latency the search times files of that format, and a fraction as budget is relative to the "
        "original's time in it. The search scores the accuracy of float candidates.",
        "Make this format too (may be repeated). The first one ships.",
    )
    integer_io: bool = _option(False, "Let the int8 file take and give int8 instead of float32.")
    calibration_size: int = _option(256, "Examples of train_data for reconstruction, BatchNorm and int8 ranges.")
    reward_size: int = _option(2000, "Examples of train_data that candidates are scored on; reward_data is used whole.")
    run_dir: str | Path | None = _option(
        None,
        "Folder of journal, plan, model and .tflite. Default: runs/ and a name made of the model and the arguments.",
        "Folder of journal, plan, model and .tflite; by default one in runs/.",
    )
    callbacks: Sequence[Callback] = _option(
        (), "Objects of amc_tf.callbacks. They are called after every episode, and may end the search."
    )  # fmt: skip
    tensorboard: bool = _option(
        False, "Write the search and the fine-tuning as scalars to tensorboard/ in the run directory."
    )  # fmt: skip
    report: bool = _option(True, "Write report.html, MODEL_CARD.md and their pictures to the run directory.")
    dry_run: bool = _option(
        False, "Only look ahead: check arguments, data and model; search nothing and write nothing."
    )  # fmt: skip
    verbose: bool = _option(True, "Show progress on stderr.")

    formats: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self):
        for check in (
            self._numbers, self._switches, self._target, self._formats, self._functions, self._budget, self._stages,
            self._training, self._places,
        ):  # fmt: skip
            for name, value in check().items():
                object.__setattr__(self, name, value)

    @property
    def folder(self) -> Path | None:
        """The run directory that was given."""
        return None if self.run_dir is None else Path(self.run_dir)

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the network before the budget, one a stage; empty for a single search."""
        return tuple(self.stages or ())

    @property
    def share(self) -> float:
        """The budget as a share of the network, which it is in stages."""
        return fraction(self.budget) or 1.0

    @property
    def guarantee(self) -> Guarantee | None:
        """How far the accuracy may fall, where that was given instead of a budget."""
        return None if self.max_drop is None else Guarantee(self.max_drop / 100)

    @property
    def reward_function(self) -> Reward:
        """What the search maximises."""
        return choose(self.reward, self.budget)

    @property
    def is_latency(self) -> bool:
        """Whether the budget is about latency."""
        return self.target == "latency"

    @property
    def timed_format(self) -> str:
        """The format whose latency stands for the network."""
        return self.formats[0] if self.is_latency and self.formats else FLOAT

    @property
    def shipped_format(self) -> str:
        """The format that ships."""
        return self.formats[0] if self.formats else FLOAT

    def _numbers(self) -> dict[str, Any]:
        least = {
            "finetune_epochs": 0, "episodes": 1, "seed": 0, "calibration_size": 1, "reward_size": 1, "round_to": 1,
        }  # fmt: skip
        checked = {name: whole(name, getattr(self, name), low) for name, low in least.items()}
        if self.min_keep is not None and not is_ratio(self.min_keep):
            raise ValueError(
                f"min_keep is {self.min_keep!r}; the least keep ratio of a unit is expected, in (0, 1], or None."
            )
        return checked | {"min_keep": plain(self.min_keep)}

    def _switches(self) -> dict[str, Any]:
        names = ("reconstruct", "paper", "tensorboard", "report", "dry_run", "integer_io")
        switches = {name: switch(name, getattr(self, name)) for name in names}
        if switches["tensorboard"]:
            check_tensorboard()
        return switches

    def _target(self) -> dict[str, Any]:
        return {"target": checked_target(self.target, self.method)}

    def _formats(self) -> dict[str, Any]:
        chosen = () if self.quantize is None else (self.quantize,) if isinstance(self.quantize, str) else self.quantize
        known = [name for name in FORMATS if name != FLOAT]
        is_list = isinstance(chosen, (list, tuple))
        if not is_list or any(name not in known for name in chosen) or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"quantize is {self.quantize!r}; expected None, one of {', '.join(map(repr, known))}, or a list of "
                f"some of them, each once."
            )
        if self.integer_io and "int8" not in chosen:
            raise ValueError(
                f"integer_io is True, but quantize is {self.quantize!r}; only int8 files can take and give int8."
            )
        if self.method == "magnitude" and self.is_latency and chosen:
            raise ValueError(
                f"target is 'latency' and quantize {chosen[0]!r}, but only float files have sparse kernels, which make "
                f"zeros fast; leave out quantize, or give method 'channel'."
            )
        if "int8" in chosen and self.train_data is None:
            raise ValueError("quantize asks for int8, whose ranges come from examples; give train_data too.")
        return {"formats": tuple(chosen)}

    def _functions(self) -> dict[str, Any]:
        if self.metric is not None and not callable(self.metric):
            raise TypeError(f"metric is {self.metric!r}; a function or None is expected.")
        choose(self.reward, None)
        self.function_identities()
        return {"callbacks": checked(self.callbacks)}

    def function_identities(self) -> dict[str, Any]:
        """The functions among the arguments as they stand in a journal; ValueError for one without an identity."""
        return {name: named(getattr(self, name), name) for name in ("metric", "reward", "importance")}

    def _budget(self) -> dict[str, Any]:
        budget, max_drop = plain_budget(self.budget), plain(self.max_drop)
        if max_drop is not None:
            if not is_number(max_drop) or not 0 <= max_drop < 100:
                raise ValueError(f"max_drop is {max_drop!r}; points of accuracy are expected, such as 0.5.")
            if budget is not None:
                raise ValueError(
                    f"max_drop is {max_drop!r} and budget {budget!r}; give one of the two: budget=None (--budget none) "
                    f"to have the cheapest network that holds the accuracy."
                )
        if budget is not None:
            parse_budget(budget, 1.0, TARGETS[self.target].unit, self.target)
        return {"budget": budget, "max_drop": max_drop}

    def _stages(self) -> dict[str, Any]:
        stages = self.stages
        if stages is None:
            stages = halves(self.budget) if self.finetune_epochs else ()
        if isinstance(stages, (list, tuple)) and not stages:
            return {"stages": ()}
        return _checked_stages(stages, self.budget, self.finetune_epochs)

    def _training(self) -> dict[str, Any]:
        if isinstance(self.teacher, str) and self.teacher != ORIGINAL:
            raise ValueError(f"teacher is {self.teacher!r}; expected {ORIGINAL!r}, a model or None.")
        if self.finetune_epochs:
            return {}
        is_list = isinstance(self.finetune_callbacks, (list, tuple))
        given = {
            "teacher": self.teacher is not None and not isinstance(self.teacher, str),
            "temperature": self.temperature != TEMPERATURE,
            "distill_weight": self.distill_weight != WEIGHT,
            "finetune_callbacks": not is_list or bool(self.finetune_callbacks),
        }
        if any(given.values()):
            raise ValueError(
                f"{next(name for name in given if given[name])} is given, but finetune_epochs is 0; give the number of "
                f"epochs too."
            )
        return {}

    def _places(self) -> dict[str, Any]:
        table = path_or_none("sensitivity", self.sensitivity, "an earlier sensitivity.json")
        if table is not None and self.paper:
            raise ValueError("paper=True searches without a sensitivity table; leave out one of the two.")
        return {"sensitivity": table, "run_dir": path_or_none("run_dir", self.run_dir, "a folder")}


def halves(budget: Any) -> tuple[float, ...]:
    """The stages of a budget below half of the network: 0.5, 0.25 and so on, as long as they are above the budget."""
    share = fraction(budget)
    if share is None or not is_ratio(share):
        return ()
    return tuple(itertools.takewhile(lambda stage: stage > share, (0.5**k for k in itertools.count(1))))


def _checked_stages(stages: Any, budget: Any, finetune_epochs: int) -> dict[str, Any]:
    """Stages and budget as fractions that fall."""
    stages = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    shares = (*stages, fraction(budget))
    if not is_ratio(shares[-1]) or not shares[-1] < 1:
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; with stages the budget is a share of the network below 1, "
            f"such as 0.2 or '20%'."
        )
    falling = all(a > b for a, b in itertools.pairwise(shares) if is_ratio(a) and is_ratio(b))
    if not all(is_ratio(share) and share < 1 for share in shares) or not falling:
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; fractions below 1 that fall are expected, the budget being "
            f"the last and smallest, such as stages=(0.5, 0.35, 0.25) with budget=0.2."
        )
    if not finetune_epochs:
        raise ValueError(f"stages is {stages}, but nothing is done between stages; give finetune_epochs of 1 or more.")
    *stages, budget = map(float, shares)
    return {"stages": tuple(stages), "budget": budget}


def help_of(name: str) -> str:
    """What an option means on the command line, in a sentence or two."""
    return next(each.metadata["short"] for each in dataclasses.fields(Options) if each.name == name)


def default_of(name: str) -> Any:
    """The default of an option."""
    return next(each.default for each in dataclasses.fields(Options) if each.name == name)


def documented(function: Callable) -> Callable:
    """Puts what the options mean in the place of the line `{options}` of a function's docstring."""
    wrap = textwrap.TextWrapper(116, initial_indent=" " * 8, subsequent_indent=" " * 12, break_long_words=False)
    lines = [wrap.fill(f"{each.name}: {each.metadata['help']}") for each in dataclasses.fields(Options) if each.init]
    if function.__doc__ is not None:  # python -OO leaves docstrings out
        function.__doc__ = function.__doc__.replace("        {options}", "\n".join(lines))
    return function
