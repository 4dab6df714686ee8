"""MODEL_CARD.md: what whoever gets the file has to know of it."""

from amc_tf.report import before_after, kotlin, limits
from amc_tf.report.record import Record
from amc_tf.report.templates import environment


def made(found: Record) -> str:
    """The card of a run directory, in Markdown."""
    lines = before_after.lines(found)
    return environment(found.scored_by, found.base.accuracy).get_template("card.md.jinja").render(
        record=found,
        networks=lines,
        columns=before_after.columns(lines),
        scored=limits.scored(found),
        sentences=limits.sentences(found),
        kotlin=kotlin.snippet(found.tflite, found.inputs, found.outputs),
        dependency=kotlin.DEPENDENCY,
    )  # fmt: skip
