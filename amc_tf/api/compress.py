"""compress(): the whole way from a trained Keras model to the .tflite that ships."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amc_tf.callbacks import Callback
from amc_tf.options import ORIGINAL, Options, documented
from amc_tf.pipeline.prepare import prepare
from amc_tf.pipeline.preview import Preview, preview
from amc_tf.pipeline.stages import search_in_stages
from amc_tf.pipeline.steps import search_once
from amc_tf.pruning.importance import Importance
from amc_tf.report import page
from amc_tf.result import Result
from amc_tf.search.rewards import Reward
from amc_tf.search.scoring.metrics import Metric
from amc_tf.training.distillation import TEMPERATURE, WEIGHT


@documented
def compress(
    model: Any,
    *,
    target: str = "latency",
    budget: float | str | None = 0.5,
    train_data: Any = None,
    reward_data: Any = None,
    validation_data: Any = None,
    episodes: int = 400,
    seed: int = 0,
    device: Any = None,
    method: str = "channel",
    metric: Metric | None = None,
    reward: str | Reward | None = None,
    max_drop: float | None = None,
    round_to: int = 8,
    min_keep: float | None = None,
    importance: str | Importance = "magnitude_in",
    frozen: Sequence[str] = (),
    reconstruct: bool = True,
    sensitivity: str | Path | None = None,
    paper: bool = False,
    stages: Sequence[float] | None = None,
    finetune_epochs: int = 0,
    teacher: Any = ORIGINAL,
    temperature: float = TEMPERATURE,
    distill_weight: float = WEIGHT,
    finetune_callbacks: Sequence[Any] = (),
    quantize: str | Sequence[str] | None = None,
    integer_io: bool = False,
    calibration_size: int = 256,
    reward_size: int = 2000,
    run_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    report: bool = True,
    dry_run: bool = False,
    verbose: bool = True,
) -> Result | Preview:
    """Searches the smaller network that loses least, and makes it into a .tflite.

    The same call on the same run directory goes on where it stopped. Ctrl-C ends the search with the best so far.

    Args:
        model: trained keras.Model (Keras 3) or tf_keras.Model, functional or Sequential; it is not changed.
        {options}

    Returns:
        The Result; with dry_run a Preview.

    Raises:
        TypeError, ValueError: an argument or the data are of the wrong kind, out of range, or do not fit the model.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
        BudgetError: the budget cannot be reached; the sentence gives the range.
        ConversionError: the .tflite cannot be made or is not fit to ship.
        DeviceError: the device cannot be used, or fails where the search cannot go on without it.
        RunDirError: the run directory cannot be written, or holds a search of another model or other arguments.
        SetupError: TF-Agents is neither in this environment nor to be had for it.
        AgentError: the agent's process failed.
    """
    options = Options(
        target=target, budget=budget, train_data=train_data, reward_data=reward_data, validation_data=validation_data,
        episodes=episodes, seed=seed, device=device, method=method, metric=metric, reward=reward, max_drop=max_drop,
        round_to=round_to, min_keep=min_keep, importance=importance, frozen=frozen, reconstruct=reconstruct,
        sensitivity=sensitivity, paper=paper, stages=stages, finetune_epochs=finetune_epochs, teacher=teacher,
        temperature=temperature, distill_weight=distill_weight, finetune_callbacks=finetune_callbacks,
        quantize=quantize, integer_io=integer_io, calibration_size=calibration_size, reward_size=reward_size,
        run_dir=run_dir, callbacks=callbacks, tensorboard=tensorboard, report=report, dry_run=dry_run, verbose=verbose,
    )  # fmt: skip
    if options.dry_run:
        return preview(prepare(model, options))
    search = search_in_stages if options.stages else search_once
    result = search(model, options)
    if options.report:
        page.write_or_warn(result.run_dir)
    return result
