"""Draws the pictures of a report once, as SVG in the page's own colours and as PNG.

Matplotlib is imported only when the first picture is drawn. Its settings are restored and pyplot is not used, so the
caller's own plots are not affected.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_tf.report import charts
from amc_tf.report.plot_style import CSS_VARIABLES, RC_PARAMS
from amc_tf.report.run_record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 200  # of the PNGs


@dataclass(frozen=True)
class Picture:
    """A figure, drawn.

    Attributes:
        name: of its PNG, without the suffix.
        svg: an svg element for a page that defines the CSS variables of plot_style.
        png: the same on white.
    """

    name: str
    svg: str
    png: bytes


def draw_all(record: Record) -> dict[str, Picture]:
    """Draws every picture that the record has numbers for; the same record gives the same bytes.

    Returns:
        name -> picture; names are "units", "search", "front", "latency" and "training".
    """
    from matplotlib import style

    pictures = {}
    for name, chart in _charts(record).items():
        # Without the salt, the ids in the SVG would be random.
        with style.context(["default", {**RC_PARAMS, "svg.hashsalt": name}]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # names may be in a script that the font lacks
            pictures[name] = _render(name, chart(record))
    return pictures


def _charts(record: Record) -> dict[str, Callable[[Record], "Figure"]]:
    """The charts that the record has numbers for."""
    scored = any(trial.outcome is not None for trial in record.trials)
    trained = record.training is not None and any(map(any, record.training.history.values()))
    available = {
        "units": (bool(record.units), charts.units),
        "search": (scored, charts.search),
        "front": (scored, charts.front),
        "latency": (record.latency is not None, charts.latency),
        "training": (trained, charts.training),
    }
    return {name: chart for name, (has_numbers, chart) in available.items() if has_numbers}


def _render(name: str, figure: "Figure") -> Picture:
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True)
    figure.set_layout_engine("none")  # the layout is known now: keep it, and save the time
    figure.savefig(png, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return Picture(name, _embedded(name, svg.getvalue()), png.getvalue())


def _embedded(name: str, svg: str) -> str:
    """The svg element alone: without date, with ids that begin with `name`, with CSS variables for colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \g<1> class="{name}" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"font: ?([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font-size: \g<1>px", svg)
    for colour, variable in CSS_VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
