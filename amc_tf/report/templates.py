"""The Jinja environment of page and card, with the filters that format numbers."""

from functools import partial
from typing import TYPE_CHECKING

from amc_tf.report import amounts

if TYPE_CHECKING:
    import jinja2


def environment(scored_by: str, base_accuracy: float) -> "jinja2.Environment":
    """An environment that loads the templates beside this file. HTML templates escape every value.

    Args:
        scored_by: see Result.
        base_accuracy: of the base network; the filter `change` subtracts it.
    """
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("amc_tf.report", "."),
        autoescape=lambda name: name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "amount": lambda value, target: amounts.amount(target, value),
        "change": partial(amounts.change, base=base_accuracy, scored_by=scored_by),
        "digits": amounts.digits,
        "part": "{:.1%}".format,
        "score": partial(amounts.score, scored_by=scored_by),
        "code": _code,
    }
    return templates


def _code(text: object) -> str:
    """Text as inline code in Markdown; no character of it can end the code or a table cell."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "¦") + "`"
