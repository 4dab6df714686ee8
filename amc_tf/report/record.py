"""Record: what a run directory says of a search, as plain types."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from amc_tf.devices.timing import Timing
from amc_tf.errors import RunDirError
from amc_tf.pruning.plan import Plan
from amc_tf.report.signature import End, ends
from amc_tf.result import FLOAT, RESULT_FORMAT, SEARCH, Figures, Format
from amc_tf.search.best_trial import best_trial
from amc_tf.search.guarantee import Guarantee
from amc_tf.search.journal import JOURNAL
from amc_tf.search.journal import read as read_journal
from amc_tf.search.trial import Trial

ANY = "search or fine-tuning"
_ONLY = "model.tflite"  # the file that shipped when there were no other formats


@dataclass(frozen=True)
class Unit:
    """What was kept of one unit.

    Attributes:
        name: of the unit.
        layers: that have its channels in a weight.
        size, kept: channels or weights, before and after.
        frozen: why it may not shrink, or None.
    """

    name: str
    layers: tuple[str, ...]
    size: int
    kept: int
    frozen: str | None

    @property
    def keep(self) -> float:
        """The keep ratio."""
        return self.kept / self.size if self.size else 1.0  # a kernel that was zero before


@dataclass(frozen=True)
class Measurement:
    """How latency was measured.

    Attributes:
        device: identity of the device.
        ratio: time of the compressed network over the base network's; `low` and `high` its 95 % interval, or None.
        base, compressed: in turns on that device.
        table_seconds: what timing the operators took, or None where no table was made.
        format: of the files that were timed, both of them.
    """

    device: Mapping[str, Any]
    ratio: float
    low: float | None
    high: float | None
    base: Timing
    compressed: Timing
    table_seconds: float | None
    format: str


@dataclass(frozen=True)
class Training:
    """How the compressed network was trained on; `history` is quantity -> a number an epoch, None where it was NaN."""

    epochs: int
    distilled: bool
    temperature: float | None
    weight: float | None
    history: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Record:
    """A run directory.

    What an earlier amc_tf did not write is empty or None; the attributes of `Result` that are here mean what they do
    there.

    Attributes:
        name: of the folder.
        tflite: name of the file that ships.
        inputs, outputs: of that file; empty where they are not known.
        stopped: as of `Result`, or ANY where it is not known which of them it was.
        digest: of the plan that ships, or None.
        model: digest of the base network.
        seed, versions, arguments: of the journal's header.
        units: in the order of the network.
        frozen_known: whether `units` has those that may not shrink.
    """

    name: str
    base: Figures
    compressed: Figures
    uniform: Figures | None
    untrained: Figures | None
    method: str
    target: str
    budget: float | str | None
    limit: float | None
    max_drop: float | None
    episodes: int
    seconds: float
    difference: float
    stopped: str | None
    scored_on: str
    scored_by: str
    obstacles: tuple[str, ...] | None
    formats: tuple[Format, ...]
    tflite: str
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    latency: Measurement | None
    training: Training | None
    stages: tuple[float, ...]
    units: tuple[Unit, ...]
    frozen_known: bool
    digest: str | None
    model: str
    seed: int
    versions: Mapping[str, str]
    arguments: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> tuple[Trial, ...]:
        """The trials that came to nothing."""
        return tuple(trial for trial in self.trials if trial.state == "failed")

    def of_kind(self, kind: str) -> Trial | None:
        """The first trial of a kind, if it came to something."""
        return next((trial for trial in self.trials if trial.kind == kind and trial.outcome is not None), None)

    def best_so_far(self) -> list[tuple[int, Trial]]:
        """(number of a trial, the best of the search when it had ended), from the first that has a best.

        Best is what the search takes for it, see `best_trial`.
        """
        guarantee = None if self.max_drop is None else Guarantee(self.max_drop / 100)
        points = self.limit is None and self.target != "latency"
        known, found = [], []
        for trial in self.trials:
            known = [*filter(None, [best_trial([*known, trial], self.limit, guarantee, points)])]
            found += [(trial.number, first) for first in known]
        return found

    def front(self) -> list[Trial]:
        """The trials that no other is both cheaper and more accurate than, cheapest first; scored on all examples."""
        whole = [t for t in self.trials if t.outcome is not None and t.outcome.examples is None]
        front: list[Trial] = []
        for trial in sorted(whole, key=lambda t: (t.outcome.cost, -t.outcome.accuracy)):
            if not front or trial.outcome.accuracy > front[-1].outcome.accuracy:
                front.append(trial)
        return front


def read(run_dir: str | Path) -> Record:
    """What a run directory says.

    Args:
        run_dir: of a search that has ended; of any version of amc_tf.

    Raises:
        RunDirError: it is none, its search has not ended, or a file in it is damaged.
    """
    folder = Path(run_dir)
    if not (folder / "result.json").is_file() or not (folder / JOURNAL).is_file():
        raise RunDirError(_no_run(folder))
    result = _json(folder / "result.json")
    written = result.get("format", 1)  # which that of amc_tf 0.1 does not say
    if not isinstance(written, int) or written > RESULT_FORMAT:
        raise RunDirError(
            f"{folder / 'result.json'} has format {written!r}, and this amc_tf reads formats 1 to {RESULT_FORMAT}: "
            f"renew amc_tf (pip install --upgrade amc_tf)."
        )
    header, trials = read_journal(folder)
    arguments = header.get("arguments") or {}
    try:
        plan = Plan.load(folder / "plan.json") if (folder / "plan.json").is_file() else None
    except ValueError as error:
        raise RunDirError(f"{folder / 'plan.json'} is damaged ({error}); run the same search again.") from error
    try:
        units = _units(result.get("units"), trials, plan)
        tflite = str(result.get("tflite") or _ONLY)
        inputs, outputs = ends(folder / tflite) or (_ends(result.get("inputs")), _ends(result.get("outputs")))
        return Record(
            name=folder.resolve().name,
            base=_figures(result["base"]),
            compressed=_figures(result["compressed"]),
            uniform=_figures(result.get("uniform")),
            untrained=_figures(result.get("untrained")),
            method=result.get("method") or arguments.get("method") or "channel",
            target=result["target"],
            budget=result["budget"],
            limit=None if result["limit"] is None else float(result["limit"]),
            max_drop=result.get("max_drop"),
            episodes=int(result["episodes"]),
            seconds=float(result["seconds"]),
            difference=float(result["tflite_difference"]),
            stopped=_stopped(result, arguments),
            scored_on=result["scored_on"],
            scored_by=result["scored_by"],
            obstacles=None if result.get("obstacles") is None else tuple(result["obstacles"]),
            formats=tuple(_made(Format, each) for each in result.get("formats") or ()),
            tflite=tflite,
            inputs=inputs,
            outputs=outputs,
            latency=_measurement(result.get("latency")),
            training=_training(result.get("training")),
            stages=tuple(map(float, result.get("stages") or ())),
            units=units,
            frozen_known=result.get("units") is not None,
            digest=None if plan is None else plan.digest,
            model=str(header.get("model", "")),
            seed=header.get("seed", 0),
            versions=dict(header.get("versions") or {}),
            arguments=dict(arguments),
            trials=tuple(trials),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunDirError(
            f"{folder / 'result.json'} is damaged or not amc_tf's ({error!r}); run the same search again, which goes "
            f"straight to the result."
        ) from error


def _stopped(result: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """What Ctrl-C ended; before it was written down, a search that had not got to its end is all that can be told."""
    if not result["interrupted"] or "stopped" in result:
        return result.get("stopped")
    asked = arguments.get("episodes")
    return SEARCH if asked is not None and result["episodes"] < asked else ANY


def _no_run(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder; give the run directory of a search."
    if (folder / JOURNAL).is_file():
        return (
            f"{folder} holds a search that has not come to a result: there is a {JOURNAL}, but no result.json; run "
            f"the same search again, which goes on where it stopped."
        )
    return f"{folder} is no run directory: it lacks journal.jsonl and result.json, which a search leaves; give one."


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirError(f"{path} cannot be read as JSON ({error}); run the same search again.") from error
    if not isinstance(found, dict):
        raise RunDirError(f"{path} holds no JSON object; run the same search again.")
    return found


def _made(kind: type, found: Mapping[str, Any]) -> Any:
    """A dataclass of what a newer or older amc_tf wrote: what it does not know is left, what may be missing is None."""
    given = {field.name: found.get(field.name) for field in fields(kind)}
    for field in fields(kind):
        kinds = get_args(field.type) or (field.type,)
        if not isinstance(given[field.name], (*kinds, int) if float in kinds else kinds):
            raise TypeError(f"{field.name} is {given[field.name]!r}")
    return kind(**given)


def _figures(found: Mapping[str, Any] | None) -> Figures | None:
    return None if found is None else _made(Figures, found)


def _ends(found: Iterable[Mapping[str, Any]] | None) -> tuple[End, ...]:
    return tuple(End(str(e["name"]), tuple(map(int, e["shape"])), str(e["dtype"])) for e in found or ())


def _measurement(found: Mapping[str, Any] | None) -> Measurement | None:
    if found is None:
        return None
    return Measurement(
        device=dict(found["device"]),
        ratio=float(found["ratio"]),
        low=found.get("ratio_low"),
        high=found.get("ratio_high"),
        base=_timing(found["base"]),
        compressed=_timing(found["compressed"]),
        table_seconds=found.get("table_seconds"),
        format=found.get("format") or FLOAT,
    )


def _timing(found: Mapping[str, Any]) -> Timing:
    known = {field.name: found[field.name] for field in fields(Timing) if field.name in found}
    return Timing(**{**known, "processes": tuple(found["processes"])})


def _training(found: Mapping[str, Any] | None) -> Training | None:
    if found is None:
        return None
    history = {
        str(name): tuple(float(value) if value is not None and value == value else None for value in values)
        for name, values in (found.get("history") or {}).items()
    }
    return Training(
        int(found["epochs"]), bool(found.get("distilled")), found.get("temperature"), found.get("weight"), history
    )


def _units(found: list[Mapping[str, Any]] | None, trials: list[Trial], plan: Plan | None) -> tuple[Unit, ...]:
    """As the result has them; else those that could shrink, from the plan and the trial of the whole network."""
    if found is not None:
        return tuple(
            Unit(str(u["name"]), tuple(map(str, u["layers"])), int(u["size"]), int(u["kept"]), u["frozen"])
            for u in found
        )
    whole = next((trial for trial in trials if trial.kind == "base"), None)
    if whole is None or plan is None:
        return ()
    sizes = zip(whole.keep_ratios, whole.widths, strict=True)
    return tuple(
        Unit(name, (), size, int(plan[name].sum()) if name in plan else size, None) for name, size in sizes
    )
