"""Writes the report of a run directory: a self-contained HTML page, its pictures as PNGs, and a model card."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from amc_tf.errors import RunDirError
from amc_tf.report import amounts, before_after, card, kotlin, limits, plots
from amc_tf.report.before_after import Column, Line
from amc_tf.report.run_reader import read_run
from amc_tf.report.run_record import Measurement, Record
from amc_tf.report.templates import environment
from amc_tf.system.files import write as write_file

PAGE, _PICTURES, _CARD = "report.html", "report", "MODEL_CARD.md"
_NAMES_SHOWN = 12  # on one line
_MAGNITUDE = "magnitude"

_Item = TypeVar("_Item")


def write(run_dir: str | Path) -> Path:
    """Writes report.html, MODEL_CARD.md and the PNGs in report/.

    Only the contents of the run directory matter: the same run directory gives the same bytes.

    Args:
        run_dir: of a search that has ended.

    Returns:
        The path of report.html.

    Raises:
        RunDirError: it is no run directory, a file in it is damaged, or it cannot be written to.
    """
    folder = Path(run_dir)
    record = read_run(folder)
    pictures = plots.draw_all(record)
    try:
        (folder / _PICTURES).mkdir(exist_ok=True)
    except OSError as error:
        raise RunDirError(
            f"{folder / _PICTURES} cannot be made ({error.strerror}); the pictures of the report go there."
        ) from error
    for picture in pictures.values():
        write_file(picture.png, folder / _PICTURES / f"{picture.name}.png")
    write_file(card.markdown(record).encode(), folder / _CARD)
    return write_file(html(record, pictures).encode(), folder / PAGE)


def write_or_warn(run_dir: Path) -> None:
    """Writes the report of a run directory; only warns if that fails, because the result itself is safe."""
    try:
        write(run_dir)
    except Exception as error:  # hours of work must not end in a stack trace about a picture
        warnings.warn(f"The report was not written ({type(error).__name__}: {error}); the result is.", stacklevel=3)


def html(record: Record, pictures: Mapping[str, plots.Picture]) -> str:
    """The page."""
    lines = before_after.lines(record)
    columns = before_after.columns(lines)
    return environment(record.scored_by, record.base.accuracy).get_template("page.html.jinja").render(
        record=record,
        pictures=pictures,
        summary=summary(record),
        headline=_headline(record, lines, columns),
        networks=lines,
        columns=columns,
        cost=_cost_column(record),
        accuracy_name=record.scored_by,
        accuracy_note=limits.accuracy_note(record),
        sentences=limits.sentences(record),
        unit_name="kernel" if record.method == _MAGNITUDE else "group of channels",
        has_layers=any(unit.layers or unit.frozen for unit in record.units),
        frozen=_by_reason((unit.frozen, unit.name) for unit in record.units if unit.frozen is not None),
        failures=_by_reason((trial.reason, trial.number) for trial in record.failed),
        device={} if record.latency is None else _device_rows(record.latency),
        dependency=kotlin.DEPENDENCY,
        kotlin=kotlin.snippet(record.tflite, record.inputs, record.outputs),
        provenance=_provenance(record),
        arguments={name: _plain(value) for name, value in record.arguments.items()},
        NAMES_SHOWN=_NAMES_SHOWN,
    )  # fmt: skip


def summary(record: Record) -> str:
    """The search in one sentence."""
    subject = "Single weights" if record.method == _MAGNITUDE else "Channels"
    target = amounts.NAMES.get(record.target, record.target)
    if record.max_drop is not None:
        goal = f"for the lowest {target} at a loss of at most {record.max_drop:g} points"
    elif record.budget is None:
        goal = f"for {target} against accuracy, without a budget"
    elif isinstance(record.budget, str):
        goal = f"to a budget of {record.budget} ({target})"
    else:
        goal = f"to {record.budget:g} of the original's {target}"
    networks = f"{record.episodes} network{'s' if record.episodes != 1 else ''} tried"
    return f"{subject} pruned {goal}; {networks} in {amounts.duration(record.seconds)} by amc_tf."


def _headline(record: Record, lines: list[Line], columns: list[Column]) -> list[dict[str, str]]:
    """The most important figures of the file that ships, each beside that of the base network."""
    base, ship = lines[0], next((line for line in lines if line.ships), lines[-1])
    figures = []
    if ship.accuracy is not None:
        change = amounts.change(ship.accuracy, base.accuracy, record.scored_by)
        before = f"{change}, from {amounts.score(base.accuracy, record.scored_by)}"
        figures.append((record.scored_by, amounts.score(ship.accuracy, record.scored_by), before))
    shown = ("latency", "file", "params" if record.method == _MAGNITUDE else "MACs")
    for column in columns:
        if column.name in shown and (share := column.share(ship, base)):
            figures.append((column.name, column.amount(ship), f"{share} of {column.amount(base)}"))
    return [{"name": name, "value": value, "before": before} for name, value, before in figures]


def _cost_column(record: Record) -> dict[str, Any]:
    """Unit, divisor and number format for the costs of the trials."""
    largest = max((trial.outcome.base_cost for trial in record.trials if trial.outcome is not None), default=1.0)
    divisor, decimals = amounts.column(record.target, largest)
    return {"unit": amounts.mark(record.target, largest), "divisor": divisor, "form": f"{{:,.{decimals}f}}"}


def _by_reason(pairs: Iterable[tuple[str | None, _Item]]) -> dict[str, list[_Item]]:
    """Groups pairs (reason, item): reason -> items."""
    groups: dict[str, list[_Item]] = {}
    for reason, item in pairs:
        groups.setdefault(str(reason), []).append(item)
    return groups


def _provenance(record: Record) -> dict[str, str]:
    """The rows of the section on how the network was made."""
    rows = {
        "budget": "none" if record.limit is None else f"at most {amounts.amount(record.target, record.limit)}",
        "seed": str(record.seed),
        "took": amounts.duration(record.seconds),
        "plan": record.digest or "not recorded",
        "original network": record.model,
    }
    if record.latency is not None and record.latency.table_seconds is not None:
        rows["operators timed in"] = amounts.duration(record.latency.table_seconds)
    return rows


def _device_rows(latency: Measurement) -> dict[str, str]:
    """The device, its flags, and its state before the first process and after the last one, where these are known."""
    first, last = latency.base.environment, latency.compressed.environment
    state = {"flags": first.get("flags"), "before": first.get("before"), "after": last.get("after")}
    return _flat(latency.device) | _flat({name: value for name, value in state.items() if value})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Joins nested names: {"before": {"celsius": 40}} -> {"before: celsius": "40"}."""
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}: ") if isinstance(value, Mapping) else {f"{prefix}{name}": _plain(value)}
    return flat


def _plain(value: object) -> str:
    """A value of JSON as text for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value)) or "–"
    return str(value)
