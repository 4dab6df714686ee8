"""The pictures of a report, each drawn once: as SVG for the page, in the page's own colours, and as PNG for papers.

Matplotlib is imported when the first picture is drawn, its canvases are asked for by name and its settings are put
back: a caller's own plots stay as they are.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.devices.timing import Timing
from amc_tf.report.amounts import NAMES, mark, unit
from amc_tf.report.record import Record
from amc_tf.search.trial import Trial

# Okabe and Ito's colours, which colour-blind people can tell apart. The page sets --ink and so on for light and dark.
INK, SOFT, GRID, TRACK, FROZEN = "#1c2127", "#5b6570", "#d5dae0", "#edf0f3", "#b4bcc5"
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"
_VARIABLES = {
    INK: "ink", SOFT: "soft", GRID: "grid", TRACK: "track", FROZEN: "frozen",
    BLUE: "blue", ORANGE: "orange", GREEN: "green", PURPLE: "purple", RED: "red",
}  # fmt: skip

_WIDTH = 9.0  # inches; the page makes it as wide as its column
_DPI = 200  # of the PNGs
_FEWEST = 12  # bars that the picture has room for, lest one be as wide as the page
_NAMED = 64  # units that have room for their names below the bars
_GAPS = 200  # units that have room for gaps between the bars
_COLUMNS = 7  # of a legend above a picture
_LONGEST = 26  # letters of a unit's name
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8.0,
    "text.parse_math": False,  # users' names have dollars in them
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": FROZEN,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FROZEN,
    "ytick.color": FROZEN,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.borderaxespad": 0.0,
    "figure.constrained_layout.use": True,
}

# kind -> (what it is called, marker, colour); in the order of the legend
_KINDS = {
    "agent": ("agent", "o", BLUE),
    "refined": ("refined", "^", ORANGE),
    "sensitivity": ("sensitivity point", ".", FROZEN),
    "greedy": ("greedy plan", "D", GREEN),
    "threshold": ("one threshold", "s", GREEN),
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name: of its PNG, without the ending.
        svg: an svg element to stand in a page; its colours are the page's variables.
        png: the same on white.
    """

    name: str
    svg: str
    png: bytes


def drawn(record: Record) -> dict[str, Picture]:
    """All pictures that the record has numbers for, by name; the same record gives the same bytes.

    Returns:
        Of "units", "search", "front", "latency" and "training" those that can be drawn.
    """
    from matplotlib import style

    shown: dict[str, tuple[bool, Callable[[Record], Any]]] = {
        "units": (bool(record.units), _units),
        "search": (any(trial.outcome is not None for trial in record.trials), _search),
        "front": (any(trial.outcome is not None for trial in record.trials), _front),
        "latency": (record.latency is not None, _latency),
        "training": (record.training is not None and any(map(any, record.training.history.values())), _training),
    }
    pictures = {}
    for name, (there, draw) in shown.items():
        if there:
            # The salt makes the ids in the SVG those of this picture, instead of random ones.
            with style.context(["default", {**_STYLE, "svg.hashsalt": name}]), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
                pictures[name] = _saved(name, draw(record))
    return pictures


def _saved(name: str, figure: Any) -> Picture:
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True)
    figure.set_layout_engine("none")  # all lies where it did, and need not be laid out again
    figure.savefig(png, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return Picture(name, _embedded(name, svg.getvalue()), png.getvalue())


def _embedded(name: str, svg: str) -> str:
    """The svg element alone, without date, its ids told apart from other pictures', its colours the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \g<1> class="{name}" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"font: ?([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font-size: \g<1>px", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _figure(height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure of its own canvas, unknown to pyplot, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def _units(record: Record) -> Any:
    """The keep ratio of every unit, in the order of the network."""
    count = len(record.units)
    named = count <= _NAMED
    figure, axes = _figure(3.1 if named else 2.4)
    half = 0.41 if count <= _GAPS else 0.5
    keep = np.array([each.keep for each in record.units])
    free = np.array([each.frozen is None for each in record.units])
    places = np.arange(count) + 1
    _bars(axes, places, np.ones(count), half, TRACK)
    _bars(axes, places[free], keep[free], half, BLUE, "kept")
    _bars(axes, places[~free], keep[~free], half, FROZEN, "frozen")
    uniform = record.of_kind("uniform")
    if uniform is not None:
        even = [np.nan if each.frozen else uniform.keep_ratios.get(each.name, np.nan) for each in record.units]
        if count <= _GAPS:
            axes.hlines(even, places - half, places + half, color=INK, linewidth=1.2, label="uniform plan")
        else:  # one line for all
            edges = np.arange(count + 1) + 0.5
            axes.stairs(even, edges, baseline=None, color=INK, linewidth=0.8, label="uniform plan")
    axes.set(xlim=(0.4, max(count, _FEWEST) + 0.6), ylim=(0, 1.015), ylabel="keep ratio")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.grid(axis="x", visible=False)
    if named:
        axes.set_xticks(places, [_short(each.name) for each in record.units], rotation=90, fontsize=7)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("unit, in the order of the network")
    _legend(axes)
    return figure


def _bars(axes: Any, places: np.ndarray, heights: np.ndarray, half: float, colour: str, label: str = "") -> None:
    """Bars as one path: thousands of them are no more than a picture."""
    if not len(places):
        return
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    left, right, zero = places - half, places + half, np.zeros(len(places))
    corners = [(left, zero), (left, heights), (right, heights), (right, zero)]
    path = Path.make_compound_path_from_polys(np.array(corners, float).transpose(2, 0, 1))
    axes.add_patch(PathPatch(path, facecolor=colour, edgecolor="none", label=label))


def _search(record: Record) -> Any:
    """Reward and accuracy of every trial, the best so far, and the two networks that are given."""
    figure, (above, below) = _figure(4.6, rows=2, sharex=True)
    best = record.best_so_far()
    for axes, name, value in (
        (above, "reward", lambda trial: trial.reward),
        (below, record.scored_by, lambda trial: trial.outcome.accuracy),
    ):
        for kind, text, dashes in (("base", "base", (0, (6, 2))), ("uniform", "uniform plan", (0, (1.5, 1.5)))):
            if (given := record.of_kind(kind)) is not None:
                axes.axhline(value(given), color=INK, linewidth=1.0, linestyle=dashes, label=text)
        _scattered(axes, record.trials, lambda trial: trial.number, value)
        if best:
            last = record.trials[-1].number
            x, y = zip(*((number, value(trial)) for number, trial in best), strict=True)
            axes.step([*x, last], [*y, y[-1]], where="post", color=PURPLE, linewidth=1.8, label="best so far", zorder=3)
        _spaced(axes, "y", [value(t) for t in record.trials if t.outcome is not None])
        if record.failed:
            axes.plot(
                [t.number for t in record.failed], np.full(len(record.failed), 0.02), transform=_across(axes),
                color=RED, marker="x", markersize=5, linestyle="none", clip_on=False, label="failed", zorder=4,
            )  # fmt: skip
        axes.set_ylabel(name)
    _percent(record, below.yaxis)
    below.set_xlabel("trial")
    below.xaxis.get_major_locator().set_params(integer=True)
    _legend(above)
    return figure


def _front(record: Record) -> Any:
    """Accuracy against cost of all trials."""
    figure, axes = _figure(3.9)
    done = [trial for trial in record.trials if trial.outcome is not None]
    divisor, name = unit(record.target, done[0].outcome.base_cost)
    tried = [trial for trial in done if trial.kind not in ("base", "uniform")] or done
    base, uniform = record.of_kind("base"), record.of_kind("uniform")

    def cost(trial: Trial) -> float:
        return trial.outcome.cost / divisor

    _scattered(axes, done, cost, lambda trial: trial.outcome.accuracy)
    front = record.front()
    if len(front) > 1:
        axes.step(
            [cost(t) for t in front], [t.outcome.accuracy for t in front], where="post", color=INK, linewidth=1.1,
            label="Pareto front", zorder=1.5,
        )  # fmt: skip
    shown = [trial for trial in (*tried, uniform) if trial is not None]
    if record.limit is not None:
        axes.axvline(record.limit / divisor, color=RED, linewidth=1.1, linestyle=(0, (4, 2)), label="budget")
    if uniform is not None:
        axes.plot(cost(uniform), uniform.outcome.accuracy, "P", color=INK, markersize=7, label="uniform plan", zorder=4)
    if base is not None:
        axes.axhline(
            base.outcome.accuracy, color=INK, linewidth=1.0, linestyle=(0, (6, 2)),
            label=f"base, at {cost(base):.4g} {name}",
        )  # fmt: skip
    winner = next((trial for trial in done if trial.plan == record.digest), None)
    if winner is not None:
        axes.plot(
            cost(winner), winner.outcome.accuracy, "*", color=PURPLE, markersize=13, markeredgecolor=INK,
            markeredgewidth=0.6, label="chosen", zorder=5,
        )  # fmt: skip
    limits = [] if record.limit is None else [record.limit / divisor]
    _spaced(axes, "x", [*map(cost, shown), *limits])
    _spaced(axes, "y", [t.outcome.accuracy for t in (*shown, base) if t is not None])
    axes.set(xlabel=_cost_name(record, done[0].outcome.base_cost), ylabel=record.scored_by)
    _percent(record, axes.yaxis)
    _legend(axes, right=True)
    return figure


def _latency(record: Record) -> Any:
    """What each process took: both networks from zero on, and each beside its own median."""
    figure, (left, right) = _figure(2.1, columns=2, sharey=True, width_ratios=(3, 2))
    rows = (("compressed", record.latency.compressed, BLUE), ("base", record.latency.base, ORANGE))
    divisor, name = unit("latency", record.latency.base.median_us)
    for row, (_, timing, colour) in enumerate(rows):
        us = np.array(timing.processes)
        for axes, values, middle in (
            (left, us / divisor, timing.median_us / divisor),
            (right, (us / timing.median_us - 1) * 100, 0.0),
        ):
            axes.plot(values, row + _spread(timing), "o", color=colour, markersize=4, alpha=0.75, markeredgewidth=0)
            axes.vlines(middle, row - 0.32, row + 0.32, color=INK, linewidth=1.6)
    left.set(xlabel=f"one inference [{name}]", ylim=(-0.6, 1.6))
    left.set_xlim(0, max(timing.median_us for _, timing, _ in rows) / divisor * 1.15)
    left.set_yticks([0, 1], [text for text, _, _ in rows])
    left.set_title("each process, and the median")
    right.set(xlabel="off its median [%]")
    right.set_title("how far processes differ")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure


def _spread(timing: Timing) -> np.ndarray:
    """Where the dots of one row lie, above and below the middle in turns, so that equal times stay apart."""
    return np.resize([0.0, 0.12, -0.12, 0.24, -0.24], len(timing.processes))


def _training(record: Record) -> Any:
    """Every quantity of the history by epoch: losses on the left, the others on the right."""
    there = {name: values for name, values in record.training.history.items() if any(v is not None for v in values)}
    losses = [name for name in there if name.endswith("loss")]
    others = [name for name in there if name not in losses and name not in ("lr", "learning_rate")]
    sides = [(title, names) for title, names in (("loss", losses), ("metrics", others)) if names]
    figure, all_axes = _figure(2.6, columns=len(sides), squeeze=False)
    for axes, (title, names) in zip(all_axes[0], sides, strict=True):
        for index, name in enumerate(names):
            values = np.array([np.nan if value is None else value for value in there[name]])
            colour, mark = (BLUE, ORANGE, GREEN, PURPLE, RED)[index % 5], "os^Dv"[index % 5]
            points = {"marker": mark, "markersize": 3.5} if len(values) <= 40 else {}
            axes.plot(np.arange(len(values)) + 1, values, color=colour, linewidth=1.5, label=_short(name), **points)
        axes.set(xlabel="epoch")
        axes.set_title(title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="best")
    return figure


def _scattered(axes: Any, trials: Iterable[Trial], x: Callable, y: Callable) -> None:
    """The trials by who decided them; hollow where the accuracy is an estimate."""
    done = [trial for trial in trials if trial.outcome is not None]
    for kind, (text, marker, colour) in _KINDS.items():
        for part in (True, False):
            of = [t for t in done if t.kind == kind and (t.outcome.examples is not None) == part]
            if of:
                look = {"markerfacecolor": "none", "alpha": 0.7} if part else {"markeredgewidth": 0.0, "alpha": 0.9}
                size = 8 if marker == "." else 4 if marker == "o" else 4.5
                axes.plot(
                    [x(t) for t in of], [y(t) for t in of], marker, color=colour, markersize=size,
                    label="_" if part else text, zorder=1.8 if part else 2.2, **look,
                )  # fmt: skip
    if any(trial.outcome.examples is not None for trial in done):
        axes.plot([], [], "o", color=SOFT, markersize=4, markerfacecolor="none", label="hollow: scored on a part")


def _spaced(axes: Any, which: str, values: Sequence[float]) -> None:
    """Limits around the values, so that what lies far off (the base network) does not press the others together."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.06
    getattr(axes, f"set_{which}lim")(low - room, high + room)


def _across(axes: Any) -> Any:
    """x in data, y from 0 to 1 along the axis."""
    return axes.get_xaxis_transform()


def _legend(axes: Any, right: bool = False) -> None:
    """Outside of the axes, so that it never lies on a point; an entry a label."""
    handles, labels = axes.get_legend_handles_labels()
    if right:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.015, 1.0))
    elif handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=min(len(handles), _COLUMNS),
            columnspacing=1.4, handletextpad=0.5, handlelength=1.8,
        )  # fmt: skip


def _percent(record: Record, axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    if record.scored_by != "metric":
        axis.set_major_formatter(PercentFormatter(1.0))


def _cost_name(record: Record, largest: float) -> str:
    name, of = NAMES.get(record.target, record.target), mark(record.target, largest)
    return f"{name} [{of}]" if of else name


def _short(name: str) -> str:
    """A name on one line, its end cut where it is long."""
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
