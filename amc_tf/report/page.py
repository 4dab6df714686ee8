"""The report of a run directory: one page without anything from outside, its pictures as PNGs, and a model card."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from amc_tf.errors import RunDirError
from amc_tf.report import amounts, before_after, card, kotlin, limits, plots, record
from amc_tf.report.before_after import Column, Line
from amc_tf.report.record import Record
from amc_tf.report.templates import environment
from amc_tf.system.files import write as write_file

PAGE, _PICTURES, _CARD = "report.html", "report", "MODEL_CARD.md"
_MOST = 12  # names on one line
_WEIGHTS = "magnitude"


def write(run_dir: str | Path) -> Path:
    """Writes report.html, MODEL_CARD.md and the PNGs in report/, from what the run directory holds and nothing else.

    The same run directory gives the same bytes.

    Args:
        run_dir: of a search that has ended.

    Returns:
        The path of report.html.

    Raises:
        RunDirError: it is none, a file in it is damaged, or it cannot be written to.
    """
    folder = Path(run_dir)
    found = record.read(folder)
    pictures = plots.drawn(found)
    try:
        (folder / _PICTURES).mkdir(exist_ok=True)
    except OSError as error:
        raise RunDirError(
            f"{folder / _PICTURES} cannot be made ({error.strerror}); the pictures of the report go there."
        ) from error
    for picture in pictures.values():
        write_file(picture.png, folder / _PICTURES / f"{picture.name}.png")
    write_file(card.made(found).encode(), folder / _CARD)
    return write_file(html(found, pictures).encode(), folder / PAGE)


def write_or_warn(run_dir: Path) -> None:
    """Writes the report of a run directory; only warns if that fails, because the result itself is safe."""
    try:
        write(run_dir)
    except Exception as error:  # hours of work must not end in a stack trace about a picture
        warnings.warn(f"The report was not written ({type(error).__name__}: {error}); the result is.", stacklevel=3)


def html(found: Record, pictures: Mapping[str, plots.Picture]) -> str:
    """The page."""
    lines = before_after.lines(found)
    columns = before_after.columns(lines)
    frozen = _grouped((unit.frozen, unit.name) for unit in found.units if unit.frozen is not None)
    return environment(found.scored_by, found.base.accuracy).get_template("page.html.jinja").render(
        record=found,
        pictures=pictures,
        summary=summary(found),
        headline=_headline(found, lines, columns),
        networks=lines,
        columns=columns,
        cost=_costs(found),
        accuracy_name=found.scored_by,
        scored=limits.scored(found),
        sentences=limits.sentences(found),
        unit_name="kernel" if found.method == _WEIGHTS else "group of channels",
        has_layers=any(unit.layers or unit.frozen for unit in found.units),
        frozen=frozen,
        failures=_grouped((trial.reason, trial.number) for trial in found.failed),
        device={} if found.latency is None else _flat(found.latency.device) | _heat(found),
        dependency=kotlin.DEPENDENCY,
        kotlin=kotlin.snippet(found.tflite, found.inputs, found.outputs),
        made=_made(found),
        arguments={name: _plain(value) for name, value in found.arguments.items()},
        MOST=_MOST,
    )  # fmt: skip


def summary(found: Record) -> str:
    """What was done, in a sentence."""
    what = "Single weights" if found.method == _WEIGHTS else "Channels"
    target = amounts.NAMES.get(found.target, found.target)
    if found.max_drop is not None:
        goal = f"for the lowest {target} at a loss of at most {found.max_drop:g} points"
    elif found.budget is None:
        goal = f"for {target} against accuracy, without a budget"
    elif isinstance(found.budget, str):
        goal = f"to a budget of {found.budget} ({target})"
    else:
        goal = f"to {found.budget:g} of the original's {target}"
    tried = f"{found.episodes} network{'s' if found.episodes != 1 else ''} tried"
    return f"{what} pruned {goal}; {tried} in {amounts.duration(found.seconds)} by amc_tf."


def _headline(found: Record, lines: list[Line], columns: list[Column]) -> list[dict[str, str]]:
    """The few figures that matter most, of the file that ships."""
    base, ship = lines[0], next((line for line in lines if line.ships), lines[-1])
    figures = []
    if ship.accuracy is not None:
        change = amounts.change(ship.accuracy, base.accuracy, found.scored_by)
        was = f"{change}, from {amounts.score(base.accuracy, found.scored_by)}"
        figures.append((found.scored_by, amounts.score(ship.accuracy, found.scored_by), was))
    shown = ("latency", "file", "params" if found.method == _WEIGHTS else "MACs")
    for column in columns:
        if column.name in shown and (share := column.share(ship, base)):
            figures.append((column.name, column.amount(ship), f"{share} of {column.amount(base)}"))
    return [{"name": name, "value": value, "was": was} for name, value, was in figures]


def _costs(found: Record) -> dict[str, Any]:
    """The column of the trials' costs: the unit, what to divide by, and the form of a number."""
    largest = max((trial.outcome.base_cost for trial in found.trials if trial.outcome is not None), default=1.0)
    divisor, decimals = amounts.column(found.target, largest)
    return {"unit": amounts.mark(found.target, largest), "divisor": divisor, "form": f"{{:,.{decimals}f}}"}


def _grouped(pairs: Iterable[tuple[str | None, Any]]) -> dict[str, list[Any]]:
    """Reason -> what it is the reason of."""
    groups: dict[str, list[Any]] = {}
    for reason, what in pairs:
        groups.setdefault(str(reason), []).append(what)
    return groups


def _made(found: Record) -> dict[str, str]:
    rows = {
        "budget": "none" if found.limit is None else f"at most {amounts.amount(found.target, found.limit)}",
        "seed": str(found.seed),
        "took": amounts.duration(found.seconds),
        "plan": found.digest or "not recorded",
        "original network": found.model,
    }
    if found.latency is not None and found.latency.table_seconds is not None:
        rows["operators timed in"] = amounts.duration(found.latency.table_seconds)
    return rows


def _heat(found: Record) -> dict[str, str]:
    """How the device was before the first process and after the last one, where that is known."""
    first, last = found.latency.base.environment, found.latency.compressed.environment
    told = {"flags": first.get("flags"), "before": first.get("before"), "after": last.get("after")}
    return _flat({name: value for name, value in told.items() if value})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested names as one: {"before": {"celsius": 40}} -> {"before: celsius": "40"}."""
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}: ") if isinstance(value, Mapping) else {f"{prefix}{name}": _plain(value)}
    return flat


def _plain(value: Any) -> str:
    """A plain value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value)) or "–"
    return str(value)
