"""MODEL_CARD.md: what a user of the file has to know about it."""

from amc_tf.report import before_after, kotlin, limits
from amc_tf.report.run_record import Record
from amc_tf.report.templates import environment


def markdown(record: Record) -> str:
    """The card of a run directory."""
    lines = before_after.lines(record)
    return environment(record.scored_by, record.base.accuracy).get_template("card.md.jinja").render(
        record=record,
        networks=lines,
        columns=before_after.columns(lines),
        accuracy_note=limits.accuracy_note(record),
        sentences=limits.sentences(record),
        kotlin=kotlin.snippet(record.tflite, record.inputs, record.outputs),
        dependency=kotlin.DEPENDENCY,
    )  # fmt: skip
