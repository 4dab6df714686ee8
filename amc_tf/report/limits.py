"""What the figures of a run do not tell, in sentences."""

from amc_tf.report.amounts import amount, score
from amc_tf.report.reach_notes import reach_notes
from amc_tf.report.run_record import Measurement, Record
from amc_tf.report.sparse_notes import sparsity_notes
from amc_tf.result import FINETUNING, SEARCH

_SCORED_ON = {
    "validation_data": "the validation data, which the search never saw.",
    "reward_data": "the reward data, which the search chose the network by: expect somewhat less on other data.",
    "train_data": (
        "a part of the training data, which the search chose the network by and on which the original network was "
        "probably trained: expect less on other data."
    ),
    "generated noise": "generated noise, because no data were given: this says little about real data.",
}
_SCORED_BY = {
    "accuracy": "Accuracy is the share of examples that get the right class.",
    "agreement": (
        "There were no labels. What is called accuracy here is agreement: the share of examples that get the same "
        "class from a network as from the original. So the original has 100%, however good it is."
    ),
    "metric": "What is called accuracy here is the caller's own metric: larger is better.",
}
_COUNTS = {"macs": "multiplications", "params": "params", "size": "bytes"}


def accuracy_note(record: Record) -> str:
    """The data behind the accuracies: one sentence for the foot of a table."""
    name = {"accuracy": "Accuracy", "agreement": "Agreement with the original"}.get(record.scored_by, "Metric")
    return f"{name} on {_SCORED_ON.get(record.scored_on, record.scored_on)}"


def sentences(record: Record) -> list[str]:
    """What to know before quoting the figures, the most important first."""
    return [
        *_stopped(record),
        f"{_SCORED_BY.get(record.scored_by, '')} The table has it on {_scored_on(record)}",
        _reward_data(record),
        *_partial(record),
        *_stages(record),
        _training(record),
        *_uniform(record),
        *_latency(record),
        *_zeros(record),
        *[" ".join(line.strip() for line in reach_notes(record.reach))] * (record.reach is not None),
        f"The outputs of model.tflite differ from those of model.keras by at most {record.difference:.1e}.",
    ]


def _stopped(record: Record) -> list[str]:
    if record.stopped is None:
        return []
    return [stopped(record.stopped, record.episodes, record.arguments.get("episodes"))]


def stopped(phase: str, episodes: int, requested: int | None = None) -> str:
    """What Ctrl-C ended, and what the same call would do.

    Args:
        phase: see Record.stopped.
        episodes: that the search had.
        requested: that the search began with. A search that was prolonged may have had more.
    """
    if phase == FINETUNING:
        return "The fine-tuning was stopped, so the network is the untrained one: the same call trains it anew."
    if phase == SEARCH:
        total = f" of {requested}" if requested is not None and requested > episodes else ""
        return f"The search was stopped after {episodes}{total} episodes: the same call goes on from there."
    return f"The search or the fine-tuning after it was stopped, after {episodes} episodes: the same call goes on."


def _scored_on(record: Record) -> str:
    return _SCORED_ON.get(record.scored_on, f"{record.scored_on}.")


def _reward_data(record: Record) -> str:
    if record.scored_on == "reward_data":
        return "The charts of the search show accuracies on the same data."
    return (
        "The charts of the search show accuracies on the reward split, by which the search chose. The networks in them "
        "are not fine-tuned. So their accuracies need not be those of the table."
    )


def _partial(record: Record) -> list[str]:
    part = sum(t.outcome is not None and t.outcome.examples is not None for t in record.trials)
    if not part:
        return []
    return [
        f"{part} of {len(record.trials)} trials were scored on a part of the examples only, because they clearly could "
        f"not win: their accuracies are estimates."
    ]


def _stages(record: Record) -> list[str]:
    if not record.stages:
        return []
    return [
        f"The network was first pruned to {', '.join(f'{share:.3g}' for share in record.stages)} of the original and "
        f"trained each time. The trials, the shares of their costs, the uniform network and the network before "
        f"fine-tuning belong to the last stage. That stage began with the network of stage-{len(record.stages)}."
    ]


def _training(record: Record) -> str:
    if record.untrained is None:
        return "Nothing was fine-tuned: all networks have the weights that pruning and reconstruction gave them."
    before = score(record.untrained.accuracy, record.scored_by)
    seen = " It was trained on the examples that score it here." if record.scored_on == "train_data" else ""
    return (
        f"The compressed network was fine-tuned; before that it had {before}. The uniform network and all trials were "
        f"not fine-tuned: compare them with the figures before fine-tuning only.{seen}"
    )


def _uniform(record: Record) -> list[str]:
    if record.uniform is None:
        return []
    if record.limit is not None and record.target == "latency":
        return ["The latency table predicted that the uniform network meets the budget. Its measured time is shown."]
    return ["The uniform network keeps the same ratio everywhere, costs as much, and was made and scored the same way."]


def _latency(record: Record) -> list[str]:
    if record.latency is None:
        counted = _COUNTS.get(record.target, "its target")
        return [f"Latency was not measured. Fewer {counted} need not mean less time: measure on your phone."]
    notes = [
        f"Latency is that of {_where(record.latency)} alone, one inference at a time, in turns with the original "
        f"network. Another phone, runtime or number of threads gives other figures."
    ]
    if record.latency.device.get("device") == "host":
        notes.append("It was measured on a computer, not on a phone: what is faster here need not be faster there.")
    unmeasured = [entry.format for entry in record.formats if entry.latency_ms is None]
    if unmeasured:
        notes.append(f"These formats have no measured latency: {', '.join(unmeasured)}.")
    if record.target == "latency":
        notes.append(
            "In the charts, the cost of a trial is its measured time if the whole network was measured. Otherwise it "
            "is predicted from the latency table, which holds measured times of single operators."
        )
    return notes


def _where(latency: Measurement) -> str:
    device = latency.device
    if device.get("device") == "host":
        return f"one computer ({device.get('cpu', 'of an unknown processor')})"
    return str(device.get("model") or device.get("device") or "the device")


def _zeros(record: Record) -> list[str]:
    if record.method != "magnitude":
        return []
    full = amount("macs", record.base.macs)
    notes = sparsity_notes(record.obstacles)
    return [
        f"Params counts the weights that are not zero; the {full} are those of the full shapes.",
        *([] if record.obstacles is None else [" ".join(line.strip() for line in notes)]),
    ]
