"""The steps of compress() for one search: prepare, search, select, export."""

from typing import Any

from amc_tf.options import Options
from amc_tf.pipeline.export import export
from amc_tf.pipeline.prepare import prepare
from amc_tf.pipeline.searching import run_search
from amc_tf.pipeline.selection import select
from amc_tf.result import Result


def search_once(model: Any, options: Options) -> Result:
    """One search, without stages: the result is written, its report is not.

    Raises:
        As compress().
    """
    problem = prepare(model, options)
    with run_search(problem) as run:
        session = run.session()
        winner = select(run, session)
        run.save_sensitivity()
        result = export(winner, run, session)  # written before hours of training
        if problem.finetuning is None or run.study.interrupted:  # Ctrl-C asks for no training either
            return result
        return problem.finetuning.finetuned(result, problem.exporter, session, problem.base_tflite)
