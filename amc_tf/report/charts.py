"""The five charts of a report. Each function takes a Record and returns a matplotlib Figure unknown to pyplot."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.devices.timing import Timing
from amc_tf.report.amounts import NAMES, mark, unit
from amc_tf.report.plot_style import (
    BLUE,
    DASHED,
    DOTTED,
    FROZEN,
    GREEN,
    INK,
    KINDS,
    ORANGE,
    PURPLE,
    RED,
    SOFT,
    TRACK,
)
from amc_tf.report.run_record import Record
from amc_tf.search.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_WIDTH = 9.0  # inches; the page stretches it to its column
_MIN_BARS = 12  # room for this many, so that a single bar does not fill the page
_MAX_NAMED = 64  # with more units there is no room for names below the bars
_MAX_GAPS = 200  # with more units there is no room for gaps between the bars
_LEGEND_COLUMNS = 7  # above a chart
_MAX_NAME = 26  # characters of a name
_MARKED_EPOCHS = 40  # with more epochs a line has no markers


def units(record: Record) -> "Figure":
    """The keep ratio of every unit, in the order of the network."""
    count = len(record.units)
    named = count <= _MAX_NAMED
    figure, axes = _figure(3.1 if named else 2.4)
    half = 0.41 if count <= _MAX_GAPS else 0.5
    keep = np.array([each.keep for each in record.units])
    prunable = np.array([each.frozen is None for each in record.units])
    places = np.arange(count) + 1
    _bars(axes, places, np.ones(count), half, TRACK)
    _bars(axes, places[prunable], keep[prunable], half, BLUE, "kept")
    _bars(axes, places[~prunable], keep[~prunable], half, FROZEN, "frozen")
    _uniform_plan(axes, record, places, half)
    axes.set(xlim=(0.4, max(count, _MIN_BARS) + 0.6), ylim=(0, 1.015), ylabel="keep ratio")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.grid(axis="x", visible=False)
    if named:
        axes.set_xticks(places, [_short(each.name) for each in record.units], rotation=90, fontsize=7)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("unit, in the order of the network")
    _legend(axes)
    return figure


def search(record: Record) -> "Figure":
    """Reward and accuracy of every trial, the best so far, the base network and the uniform plan."""
    figure, (above, below) = _figure(4.6, rows=2, sharex=True)
    best = record.best_so_far()
    for axes, name, value in (
        (above, "reward", lambda trial: trial.reward),
        (below, record.scored_by, lambda trial: trial.outcome.accuracy),
    ):
        for kind, text, dashes in (("base", "base", DASHED), ("uniform", "uniform plan", DOTTED)):
            if (trial := record.first_of_kind(kind)) is not None:
                axes.axhline(value(trial), color=INK, linewidth=1.0, linestyle=dashes, label=text)
        _scatter(axes, record.trials, lambda trial: trial.number, value)
        if best:
            last = record.trials[-1].number
            x, y = zip(*((number, value(trial)) for number, trial in best), strict=True)
            axes.step([*x, last], [*y, y[-1]], where="post", color=PURPLE, linewidth=1.8, label="best so far", zorder=3)
        _set_limits(axes, "y", [value(t) for t in record.trials if t.outcome is not None])
        if record.failed:
            axes.plot(
                [t.number for t in record.failed], np.full(len(record.failed), 0.02),
                transform=axes.get_xaxis_transform(), color=RED, marker="x", markersize=5, linestyle="none",
                clip_on=False, label="failed", zorder=4,
            )  # fmt: skip
        axes.set_ylabel(name)
    _percent(record, below.yaxis)
    below.set_xlabel("trial")
    below.xaxis.get_major_locator().set_params(integer=True)
    _legend(above)
    return figure


def front(record: Record) -> "Figure":
    """Accuracy against cost of all trials."""
    figure, axes = _figure(3.9)
    done = [trial for trial in record.trials if trial.outcome is not None]
    tried = [trial for trial in done if trial.kind not in ("base", "uniform")] or done
    largest = done[0].outcome.base_cost
    divisor, unit_name = unit(record.target, largest)
    base, uniform = record.first_of_kind("base"), record.first_of_kind("uniform")

    def cost(trial: Trial) -> float:
        return trial.outcome.cost / divisor

    _scatter(axes, done, cost, lambda trial: trial.outcome.accuracy)
    pareto = record.front()
    if len(pareto) > 1:
        axes.step(
            [cost(t) for t in pareto], [t.outcome.accuracy for t in pareto], where="post", color=INK, linewidth=1.1,
            label="Pareto front", zorder=1.5,
        )  # fmt: skip
    limits = [] if record.limit is None else [record.limit / divisor]
    for limit in limits:
        axes.axvline(limit, color=RED, linewidth=1.1, linestyle=(0, (4, 2)), label="budget")
    if uniform is not None:
        axes.plot(cost(uniform), uniform.outcome.accuracy, "P", color=INK, markersize=7, label="uniform plan", zorder=4)
    if base is not None:
        axes.axhline(
            base.outcome.accuracy, color=INK, linewidth=1.0, linestyle=DASHED,
            label=f"base, at {cost(base):.4g} {unit_name}",
        )  # fmt: skip
    winner = next((trial for trial in done if trial.plan == record.digest), None)
    if winner is not None:
        axes.plot(
            cost(winner), winner.outcome.accuracy, "*", color=PURPLE, markersize=13, markeredgecolor=INK,
            markeredgewidth=0.6, label="chosen", zorder=5,
        )  # fmt: skip
    shown = [trial for trial in (*tried, uniform) if trial is not None]
    _set_limits(axes, "x", [*map(cost, shown), *limits])
    _set_limits(axes, "y", [t.outcome.accuracy for t in (*shown, base) if t is not None])
    axes.set(xlabel=_cost_name(record, largest), ylabel=record.scored_by)
    _percent(record, axes.yaxis)
    _legend(axes, right=True)
    return figure


def latency(record: Record) -> "Figure":
    """The time of each process: on the left from zero on, on the right relative to the network's own median."""
    figure, (left, right) = _figure(2.1, columns=2, sharey=True, width_ratios=(3, 2))
    rows = (("compressed", record.latency.compressed, BLUE), ("base", record.latency.base, ORANGE))
    divisor, unit_name = unit("latency", record.latency.base.median_us)
    for row, (_, timing, colour) in enumerate(rows):
        us = np.array(timing.processes)
        for axes, values, middle in (
            (left, us / divisor, timing.median_us / divisor),
            (right, (us / timing.median_us - 1) * 100, 0.0),
        ):
            axes.plot(values, row + _offsets(timing), "o", color=colour, markersize=4, alpha=0.75, markeredgewidth=0)
            axes.vlines(middle, row - 0.32, row + 0.32, color=INK, linewidth=1.6)
    left.set(xlabel=f"one inference [{unit_name}]", ylim=(-0.6, 1.6))
    left.set_xlim(0, max(timing.median_us for _, timing, _ in rows) / divisor * 1.15)
    left.set_yticks([0, 1], [text for text, _, _ in rows])
    left.set_title("each process, and the median")
    right.set(xlabel="off its median [%]")
    right.set_title("how far processes differ")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure


def training(record: Record) -> "Figure":
    """The training history by epoch: losses on the left, metrics on the right."""
    known = {name: values for name, values in record.training.history.items() if any(v is not None for v in values)}
    losses = [name for name in known if name.endswith("loss")]
    metrics = [name for name in known if name not in losses and name not in ("lr", "learning_rate")]
    sides = [(title, names) for title, names in (("loss", losses), ("metrics", metrics)) if names]
    figure, all_axes = _figure(2.6, columns=len(sides), squeeze=False)
    for axes, (title, names) in zip(all_axes[0], sides, strict=True):
        for index, name in enumerate(names):
            values = np.array([np.nan if value is None else value for value in known[name]])
            colour, marker = (BLUE, ORANGE, GREEN, PURPLE, RED)[index % 5], "os^Dv"[index % 5]
            markers = {"marker": marker, "markersize": 3.5} if len(values) <= _MARKED_EPOCHS else {}
            axes.plot(np.arange(len(values)) + 1, values, color=colour, linewidth=1.5, label=_short(name), **markers)
        axes.set(xlabel="epoch")
        axes.set_title(title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="best")
    return figure


def _figure(height: float, columns: int = 1, rows: int = 1, **options: Any) -> "tuple[Figure, Any]":
    """A figure and its axes: one Axes, or an array of them as `Figure.subplots` shapes it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def _bars(axes: "Axes", places: np.ndarray, heights: np.ndarray, half: float, colour: str, label: str = "") -> None:
    """Draws all bars as one path, so that thousands of them stay small in the SVG.

    Args:
        axes: to draw on.
        places, heights: (bars,).
        half: half the width of a bar.
        colour, label: of all bars.
    """
    if not len(places):
        return
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    left, right, zero = places - half, places + half, np.zeros(len(places))
    corners = [(left, zero), (left, heights), (right, heights), (right, zero)]
    path = Path.make_compound_path_from_polys(np.array(corners, float).transpose(2, 0, 1))  # (bars, 4, 2)
    axes.add_patch(PathPatch(path, facecolor=colour, edgecolor="none", label=label))


def _uniform_plan(axes: "Axes", record: Record, places: np.ndarray, half: float) -> None:
    """Marks the keep ratios of the uniform plan across the bars."""
    uniform = record.first_of_kind("uniform")
    if uniform is None:
        return
    ratios = [np.nan if each.frozen else uniform.keep_ratios.get(each.name, np.nan) for each in record.units]
    if len(places) <= _MAX_GAPS:
        axes.hlines(ratios, places - half, places + half, color=INK, linewidth=1.2, label="uniform plan")
    else:
        edges = np.arange(len(places) + 1) + 0.5
        axes.stairs(ratios, edges, baseline=None, color=INK, linewidth=0.8, label="uniform plan")


def _offsets(timing: Timing) -> np.ndarray:
    """Vertical offsets of the dots in one row, alternating, so that equal times do not hide each other."""
    return np.resize([0.0, 0.12, -0.12, 0.24, -0.24], len(timing.processes))


def _scatter(
    axes: "Axes", trials: Iterable[Trial], x: Callable[[Trial], float], y: Callable[[Trial], float]
) -> None:
    """One marker per kind of trial; hollow where the accuracy is an estimate from a part of the examples."""
    done = [trial for trial in trials if trial.outcome is not None]
    for kind, (text, marker, colour) in KINDS.items():
        for estimated in (True, False):
            points = [t for t in done if t.kind == kind and (t.outcome.examples is not None) == estimated]
            if points:
                filled, hollow = {"markeredgewidth": 0.0, "alpha": 0.9}, {"markerfacecolor": "none", "alpha": 0.7}
                look = hollow if estimated else filled
                size = 8 if marker == "." else 4 if marker == "o" else 4.5
                axes.plot(
                    [x(t) for t in points], [y(t) for t in points], marker, color=colour, markersize=size,
                    label="_" if estimated else text, zorder=1.8 if estimated else 2.2, **look,
                )  # fmt: skip
    if any(trial.outcome.examples is not None for trial in done):
        axes.plot([], [], "o", color=SOFT, markersize=4, markerfacecolor="none", label="hollow: scored on a part")


def _set_limits(axes: "Axes", axis: str, values: Sequence[float]) -> None:
    """Sets the limits of axis "x" or "y" around the values, so that the far-off base network does not squeeze them."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.06
    getattr(axes, f"set_{axis}lim")(low - room, high + room)


def _legend(axes: "Axes", right: bool = False) -> None:
    """Puts the legend outside of the axes, so that it never covers a point."""
    handles, labels = axes.get_legend_handles_labels()
    if right:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.015, 1.0))
    elif handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=min(len(handles), _LEGEND_COLUMNS),
            columnspacing=1.4, handletextpad=0.5, handlelength=1.8,
        )  # fmt: skip


def _percent(record: Record, axis: "Axis") -> None:
    """Labels accuracies in percent; the caller's own metric keeps plain numbers."""
    from matplotlib.ticker import PercentFormatter

    if record.scored_by != "metric":
        axis.set_major_formatter(PercentFormatter(1.0))


def _cost_name(record: Record, largest: float) -> str:
    name, unit_mark = NAMES.get(record.target, record.target), mark(record.target, largest)
    return f"{name} [{unit_mark}]" if unit_mark else name


def _short(name: str) -> str:
    """A name on one line, cut after _MAX_NAME characters."""
    name = " ".join(name.split())
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
