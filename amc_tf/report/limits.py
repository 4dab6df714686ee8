"""What the figures of a run do not say, in sentences."""

from amc_tf.report.amounts import amount, score
from amc_tf.report.record import Record
from amc_tf.report.sparse_notes import told
from amc_tf.result import FINETUNING, SEARCH

_SCORED_ON = {
    "validation_data": "the validation data, which the search never saw.",
    "reward_data": "the reward data, which the search chose the network by: expect somewhat less on other data.",
    "train_data": (
        "a part of the training data, which the search chose the network by and on which the original network was "
        "probably trained: expect less on other data."
    ),
    "generated noise": "generated noise, since no data were given: they say little about real data.",
}
_SCORED_BY = {
    "accuracy": "Accuracies are shares of examples for which the class is right.",
    "agreement": (
        "There were no labels: what stands here as accuracy is agreement, the share of examples for which a network "
        "answers as the original does; the original's is 100% whatever it is worth."
    ),
    "metric": "What stands here as accuracy is the caller's own metric, the larger the better.",
}
_COUNTS = {"macs": "multiplications", "params": "params", "size": "bytes"}


def scored(record: Record) -> str:
    """What the accuracies are of: one sentence for the foot of a table."""
    what = {"accuracy": "Accuracy", "agreement": "Agreement with the original"}.get(record.scored_by, "Metric")
    return f"{what} on {_SCORED_ON.get(record.scored_on, record.scored_on)}"


def sentences(record: Record) -> list[str]:
    """What to know before these figures are quoted, the most important first."""
    return [
        *_stopped(record),
        f"{_SCORED_BY.get(record.scored_by, '')} Those of the table are of {_scored_on(record)}",
        _reward_data(record),
        *_partial(record),
        *_stages(record),
        _training(record),
        *_uniform(record),
        *_latency(record),
        *_zeros(record),
        f"The outputs of model.tflite differ from those of model.keras by at most {record.difference:.1e}.",
    ]


def _stopped(record: Record) -> list[str]:
    if record.stopped is None:
        return []
    return [stopped(record.stopped, record.episodes, record.arguments.get("episodes"))]


def stopped(what: str, episodes: int, asked: int | None = None) -> str:
    """What Ctrl-C ended and what the same call would do.

    Args:
        what: as of Record.
        episodes: that there were.
        asked: for how many the search began; one that was prolonged may have had more.
    """
    if what == FINETUNING:
        return "The fine-tuning was stopped, so the network is the untrained one: the same call trains it anew."
    if what == SEARCH:
        of = f" of {asked}" if asked is not None and asked > episodes else ""
        return f"The search was stopped after {episodes}{of} episodes: the same call goes on from there."
    return f"The search or the fine-tuning after it was stopped, after {episodes} episodes: the same call goes on."


def _scored_on(record: Record) -> str:
    return _SCORED_ON.get(record.scored_on, f"{record.scored_on}.")


def _reward_data(record: Record) -> str:
    if record.scored_on == "reward_data":
        return "The charts of the search show the accuracies on the same data."
    return (
        "The charts of the search show accuracies on the reward split, by which it chose, and the networks in them are "
        "not fine-tuned: they need not be those of the table."
    )


def _partial(record: Record) -> list[str]:
    part = sum(t.outcome is not None and t.outcome.examples is not None for t in record.trials)
    if not part:
        return []
    return [
        f"{part} of {len(record.trials)} trials were scored on a part of the examples only, since they clearly could "
        f"not win any more: their accuracies are estimates."
    ]


def _stages(record: Record) -> list[str]:
    if not record.stages:
        return []
    return [
        f"The network was pruned to {', '.join(f'{share:.3g}' for share in record.stages)} of the original first and "
        f"trained each time: the trials, the shares of their costs, the uniform network and the one before fine-tuning "
        f"are those of the last stage, which began with what stage-{len(record.stages)} left."
    ]


def _training(record: Record) -> str:
    if record.untrained is None:
        return "Nothing was fine-tuned: all figures are of weights as pruning and reconstruction left them."
    before = score(record.untrained.accuracy, record.scored_by)
    seen = " It was trained on the examples that it is scored on here." if record.scored_on == "train_data" else ""
    return (
        f"The compressed network was fine-tuned, and stood at {before} before; the uniform one and all trials were "
        f"not, so only the figures before fine-tuning compare with theirs.{seen}"
    )


def _uniform(record: Record) -> list[str]:
    if record.uniform is None:
        return []
    if record.limit is not None and record.target == "latency":
        return ["The uniform network is the one that the table foretold to hold the budget; its own time is shown."]
    return ["The uniform network keeps the same ratio everywhere, costs as much, and was made and scored the same way."]


def _latency(record: Record) -> list[str]:
    if record.latency is None:
        counted = _COUNTS.get(record.target, "its target")
        return [f"Latency was not measured: fewer {counted} need not mean less time; measure on the phone that counts."]
    said = [
        f"Latency is of {_where(record)} alone, one inference at a time, in turns with the original network; another "
        f"phone, runtime or number of threads gives other figures."
    ]
    if record.latency.device.get("device") == "host":
        said.append("It was measured on a computer, and no phone: what is faster here need not be faster there.")
    unmeasured = [line.format for line in record.formats if line.latency_ms is None]
    if unmeasured:
        said.append(f"No latency was measured of: {', '.join(unmeasured)}.")
    if record.target == "latency":
        said.append(
            "In the charts the cost of a trial is what its operators take by a table of measured times, but for those "
            "that were measured as whole networks."
        )
    return said


def _where(record: Record) -> str:
    device = record.latency.device
    if device.get("device") == "host":
        return f"one computer ({device.get('cpu', 'of an unknown processor')})"
    return str(device.get("model") or device.get("device") or "the device")


def _zeros(record: Record) -> list[str]:
    if record.method != "magnitude":
        return []
    full = amount("macs", record.base.macs)
    return [
        f"Params are weights that are not zero; the {full} are those of the full shapes.",
        *([] if record.obstacles is None else [" ".join(line.strip() for line in told(record.obstacles))]),
    ]
