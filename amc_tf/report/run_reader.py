"""Reads a run directory of any version of amc_tf into a Record."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from amc_tf.cost.reach import OutOfReach, Reach
from amc_tf.devices.timing import Timing
from amc_tf.errors import RunDirError
from amc_tf.pruning.plan import Plan
from amc_tf.report.run_record import UNKNOWN_PHASE, Measurement, Record, Training, Unit
from amc_tf.report.signature import TensorSpec, read_signature
from amc_tf.result import FLOAT, RESULT, RESULT_FORMAT, SEARCH, Figures, Format
from amc_tf.search.journal import JOURNAL
from amc_tf.search.journal import read as read_journal
from amc_tf.search.trial import Trial

_PLAN = "plan.json"
_ONLY_TFLITE = "model.tflite"  # what shipped before there were other formats

_Stored = TypeVar("_Stored", Figures, Format)


def read_run(run_dir: str | Path) -> Record:
    """Reads a run directory.

    Args:
        run_dir: of a search that has ended; any version of amc_tf may have written it.

    Raises:
        RunDirError: it is no run directory, its search has not ended, or a file in it is damaged.
    """
    folder = Path(run_dir)
    if not (folder / RESULT).is_file() or not (folder / JOURNAL).is_file():
        raise RunDirError(_no_run(folder))
    result = _read_result(folder / RESULT)
    header, trials = read_journal(folder)
    plan = _read_plan(folder / _PLAN)
    try:
        return Record(
            name=folder.resolve().name,
            **_header_fields(header),
            **_result_fields(result, header.get("arguments") or {}),
            **_signature_fields(result, folder),
            units=_units(result.get("units"), trials, plan),
            frozen_known=result.get("units") is not None,
            digest=None if plan is None else plan.digest,
            trials=tuple(trials),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunDirError(
            f"{folder / RESULT} is damaged or not amc_tf's ({error!r}); run the same search again, which goes "
            f"straight to the result."
        ) from error


def _no_run(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder; give the run directory of a search."
    if (folder / JOURNAL).is_file():
        return (
            f"{folder} holds a search that has not come to a result: there is a {JOURNAL}, but no {RESULT}; run "
            f"the same search again, which goes on where it stopped."
        )
    return f"{folder} is no run directory: it lacks {JOURNAL} and {RESULT}, which a search leaves; give one."


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirError(f"{path} cannot be read as JSON ({error}); run the same search again.") from error
    if not isinstance(result, dict):
        raise RunDirError(f"{path} holds no JSON object; run the same search again.")
    version = result.get("format", 1)  # amc_tf 0.1 wrote none
    if not isinstance(version, int) or version > RESULT_FORMAT:
        raise RunDirError(
            f"{path} has format {version!r}, and this amc_tf reads formats 1 to {RESULT_FORMAT}: "
            f"renew amc_tf (pip install --upgrade amc_tf)."
        )
    return result


def _read_plan(path: Path) -> Plan | None:
    try:
        return Plan.load(path) if path.is_file() else None
    except ValueError as error:
        raise RunDirError(f"{path} is damaged ({error}); run the same search again.") from error


def _header_fields(header: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Record that the header of the journal holds."""
    return {
        "model": str(header.get("model", "")),
        "seed": header.get("seed", 0),
        "versions": dict(header.get("versions") or {}),
        "arguments": dict(header.get("arguments") or {}),
    }


def _result_fields(result: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Record that result.json holds; `method` comes from the arguments where it holds none."""
    return {
        "base": _stored(Figures, result["base"]),
        "compressed": _stored(Figures, result["compressed"]),
        "uniform": _figures_or_none(result.get("uniform")),
        "untrained": _figures_or_none(result.get("untrained")),
        "method": result.get("method") or arguments.get("method") or "channel",
        "target": result["target"],
        "budget": result["budget"],
        "limit": None if result["limit"] is None else float(result["limit"]),
        "max_drop": result.get("max_drop"),
        "episodes": int(result["episodes"]),
        "seconds": float(result["seconds"]),
        "difference": float(result["tflite_difference"]),
        "stopped": _stopped(result, arguments),
        "scored_on": result["scored_on"],
        "scored_by": result["scored_by"],
        "obstacles": None if result.get("obstacles") is None else tuple(result["obstacles"]),
        "reach": _reach(result.get("reach")),
        "formats": tuple(_stored(Format, entry) for entry in result.get("formats") or ()),
        "latency": _measurement(result.get("latency")),
        "training": _training(result.get("training")),
        "stages": tuple(map(float, result.get("stages") or ())),
    }


def _signature_fields(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The file that ships with its inputs and outputs: read from the file, else from result.json."""
    tflite = str(result.get("tflite") or _ONLY_TFLITE)
    inputs, outputs = read_signature(folder / tflite) or (
        _tensor_specs(result.get("inputs")),
        _tensor_specs(result.get("outputs")),
    )
    return {"tflite": tflite, "inputs": inputs, "outputs": outputs}


def _stopped(result: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """What Ctrl-C ended. An earlier amc_tf did not write it: a search short of its episodes was itself stopped."""
    if not result["interrupted"] or "stopped" in result:
        return result.get("stopped")
    requested = arguments.get("episodes")
    return SEARCH if requested is not None and result["episodes"] < requested else UNKNOWN_PHASE


def _stored(kind: type[_Stored], entry: Mapping[str, Any]) -> _Stored:
    """A dataclass from JSON of any version: unknown keys are dropped, a missing one is None.

    Raises:
        TypeError: a value has a type that the field does not allow.
    """
    values = {field.name: entry.get(field.name) for field in fields(kind)}
    for field in fields(kind):
        kinds = get_args(field.type) or (field.type,)
        if not isinstance(values[field.name], (*kinds, int) if float in kinds else kinds):
            raise TypeError(f"{field.name} is {values[field.name]!r}")
    return kind(**values)


def _reach(entry: Mapping[str, Any] | None) -> Reach | None:
    if entry is None:
        return None
    return Reach(float(entry["share"]), tuple(_stored(OutOfReach, line) for line in entry["out"]), bool(entry["exact"]))


def _figures_or_none(entry: Mapping[str, Any] | None) -> Figures | None:
    return None if entry is None else _stored(Figures, entry)


def _tensor_specs(entries: Iterable[Mapping[str, Any]] | None) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(str(e["name"]), tuple(map(int, e["shape"])), str(e["dtype"])) for e in entries or ())


def _measurement(entry: Mapping[str, Any] | None) -> Measurement | None:
    if entry is None:
        return None
    return Measurement(
        device=dict(entry["device"]),
        ratio=float(entry["ratio"]),
        low=entry.get("ratio_low"),
        high=entry.get("ratio_high"),
        base=_timing(entry["base"]),
        compressed=_timing(entry["compressed"]),
        table_seconds=entry.get("table_seconds"),
        format=entry.get("format") or FLOAT,
    )


def _timing(entry: Mapping[str, Any]) -> Timing:
    known = {field.name: entry[field.name] for field in fields(Timing) if field.name in entry}
    return Timing(**{**known, "processes": tuple(entry["processes"])})


def _training(entry: Mapping[str, Any] | None) -> Training | None:
    if entry is None:
        return None
    history = {
        str(name): tuple(float(value) if value is not None and value == value else None for value in values)
        for name, values in (entry.get("history") or {}).items()
    }
    return Training(
        int(entry["epochs"]), bool(entry.get("distilled")), entry.get("temperature"), entry.get("weight"), history
    )


def _units(entries: list[Mapping[str, Any]] | None, trials: list[Trial], plan: Plan | None) -> tuple[Unit, ...]:
    """The units of result.json. Without those: the prunable ones, from the plan and the trial of the base network."""
    if entries is not None:
        return tuple(
            Unit(str(u["name"]), tuple(map(str, u["layers"])), int(u["size"]), int(u["kept"]), u["frozen"])
            for u in entries
        )
    base = next((trial for trial in trials if trial.kind == "base"), None)
    if base is None or plan is None:
        return ()
    sizes = zip(base.keep_ratios, base.widths, strict=True)
    return tuple(
        Unit(name, (), size, int(plan[name].sum()) if name in plan else size, None) for name, size in sizes
    )
