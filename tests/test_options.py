"""Options: one source of defaults and texts for Python and the command line; every argument is checked there."""

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import amc_tf
from amc_tf import cli
from amc_tf.callbacks import TensorBoard
from amc_tf.options import Options


def test_scalars_without_tensorboard_are_refused_before_the_search(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match="TensorBoard is not installed.*pip install tensorboard"):
        TensorBoard("scalars")
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        amc_tf.compress(object(), tensorboard=True)


def test_a_folder_of_logs_is_not_tensorboard(tmp_path, monkeypatch) -> None:
    (tmp_path / "tensorboard").mkdir()
    real = [entry for entry in sys.path if not (Path(entry) / "tensorboard").is_dir()]
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *real])
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        TensorBoard("scalars")


FIELDS = {each.name: each for each in dataclasses.fields(Options) if each.init}


def test_compress_has_the_options_as_its_signature() -> None:
    """It repeats them, since completion and type checkers read what is written there."""
    parameters = dict(inspect.signature(amc_tf.compress).parameters)
    del parameters["model"]
    assert list(parameters) == list(FIELDS)
    hints, own = get_type_hints(amc_tf.compress), get_type_hints(Options)
    for name, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == FIELDS[name].default and type(parameter.default) is type(FIELDS[name].default)
        assert hints[name] == own[name], name


def test_compress_hands_on_every_argument(monkeypatch) -> None:
    given = {name: object() for name in FIELDS}

    def recorded(**arguments) -> None:
        assert arguments == given
        raise InterruptedError

    monkeypatch.setattr(sys.modules["amc_tf.api.compress"], "Options", recorded)
    with pytest.raises(InterruptedError):
        amc_tf.compress(object(), **given)


def test_the_docstring_says_what_every_option_means() -> None:
    said = " ".join(amc_tf.compress.__doc__.split())
    for name, each in FIELDS.items():
        assert f" {name}: {' '.join(each.metadata['help'].split())}" in said
    assert "{options}" not in said and max(map(len, amc_tf.compress.__doc__.splitlines())) <= 116


def test_the_command_line_has_every_option_that_it_can_take() -> None:
    """Functions, models and data sets are for Python alone; what differs there is named here."""
    command = {each.name: each for each in cli.main.commands["compress"].params}
    python_alone = {
        "train_data", "reward_data", "validation_data", "metric", "reward", "teacher", "finetune_callbacks",
        "callbacks", "report", "verbose",
    }  # fmt: skip
    assert set(FIELDS) - set(command) == python_alone
    for name in set(FIELDS) & set(command) - {"budget", "stages", "quantize", "frozen"}:
        assert command[name].default == FIELDS[name].default, name
        assert command[name].help == FIELDS[name].metadata["short"], name


WRONG = {
    "target": ["speed", None, 3, "MACs"],
    "budget": [0, -1, "fast", float("nan"), (0.5,), "50 FPS", "30", True],
    "episodes": [0, 1.5, "3", None, True],
    "seed": [-1, 0.5, None],
    "method": ["weights", None, 3],
    "metric": ["accuracy", 3],
    "reward": ["latency", 3],
    "max_drop": [0.5, "1"],
    "round_to": [0, 2.5, "8", None],
    "min_keep": [0, 1.5, -0.1, "0.2", True],
    "reconstruct": ["yes", 1, None],
    "sensitivity": [3, 0.5],
    "paper": ["no", None],
    "stages": [(0.5, 0.6), (1.5,), "halves", (0.5,)],
    "finetune_epochs": [-1, 0.5, "ten", None],
    "teacher": ["me", object()],
    "temperature": [2.0],
    "distill_weight": [0.1],
    "finetune_callbacks": [[object()], object()],
    "quantize": ["int4", ["int8", "int8"], 8, "float"],
    "integer_io": [True, "yes"],
    "calibration_size": [0, None],
    "reward_size": [0, 1.5],
    "run_dir": [3, b"run"],
    "callbacks": [[object()], "early"],
    "tensorboard": ["yes"],
    "report": ["html"],
    "dry_run": [1],
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_is_checked(name) -> None:
    """In one sentence that names it. What needs the model or the data is checked with those."""
    if name not in WRONG:
        assert name in {
            "train_data", "reward_data", "validation_data", "device", "importance", "frozen", "verbose"
        }, name  # fmt: skip
        return
    for value in WRONG[name]:
        with pytest.raises((TypeError, ValueError)) as caught:
            Options(**{name: value})
        assert name in str(caught.value) and "\n" not in str(caught.value), (name, value, str(caught.value))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "magnitude", "target": "macs"}, "does not lower"),
        ({"method": "magnitude", "quantize": "fp16"}, "only float files have sparse kernels"),
        ({"quantize": "int8"}, "give train_data too"),
        ({"paper": True, "sensitivity": "table.json"}, "leave out one of the two"),
        ({"max_drop": 1.0}, "give one of the two"),
        ({"target": "latency", "budget": 30}, "no unit of time"),
        ({"stages": (0.5,), "budget": 0.2}, "give finetune_epochs"),
    ],
)
def test_options_that_do_not_go_together(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        Options(**options)


def test_numbers_and_texts_come_into_one_form() -> None:
    numpy = Options(budget=np.float64(0.5), episodes=np.int32(3), min_keep=np.float64(0.25), paper=np.bool_(True))
    assert [type(each) for each in (numpy.budget, numpy.episodes, numpy.min_keep, numpy.paper)] == [
        float, int, float, bool,
    ]  # fmt: skip
    assert Options(budget="0.5").budget == 0.5 and Options(target="flops").target == "macs"
    assert Options(quantize="fp16").formats == ("fp16",) and Options().formats == ()
    assert Options(budget="20%", finetune_epochs=1).stages == (0.5, 0.25) and Options(budget=0.2).stages == ()


def test_options_can_be_changed_one_by_one() -> None:
    options = Options(budget=0.2, finetune_epochs=2, quantize=["fp16", "dynamic"])
    again = dataclasses.replace(options, budget=0.5, stages=())
    assert (again.budget, again.stages, again.formats) == (0.5, (), ("fp16", "dynamic"))
    assert options.budget == 0.2
