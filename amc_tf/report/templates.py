"""The templates of page and card, and the forms that numbers take in them."""

from functools import partial
from typing import Any

from amc_tf.report import amounts


def environment(scored_by: str, base: float) -> Any:
    """A jinja2.Environment of the templates beside this file; what goes into an HTML page is escaped.

    Args:
        scored_by: what accuracies are, see Result.
        base: accuracy of the base network, which `change` counts from.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("amc_tf.report", "."),
        autoescape=lambda name: name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "amount": lambda value, target: amounts.amount(target, value),
        "change": partial(amounts.change, base=base, scored_by=scored_by),
        "digits": amounts.digits,
        "part": "{:.1%}".format,
        "score": partial(amounts.score, scored_by=scored_by),
        "code": _code,
    }
    return made


def _code(text: Any) -> str:
    """Text as code in Markdown, in a table too, whatever is in it."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "¦") + "`"
