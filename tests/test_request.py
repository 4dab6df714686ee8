"""Arguments as a journal knows them: the same ones in every process, others told apart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import amc_tf
from amc_tf.callbacks import TensorBoard
from amc_tf.request import named

MADE_ELSEWHERE = """
from amc_tf.request import named
def made(words):
    def inner(labels): return labels
    return lambda labels, found: inner(labels) if labels in {"a", "b", "c", "d", "e"} else words
print(named(made(frozenset("stuvw"))), named(made("x")))
"""


def test_a_function_has_the_same_name_in_every_process():
    """Sets of strings have another order in each, and what functions hold stands at other addresses."""
    said = set()
    for seed in ("1", "2", "3"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        call = [sys.executable, "-c", MADE_ELSEWHERE]
        said.add(subprocess.run(call, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 1
    one, other = said.pop().split("made.<locals>.<lambda>")[1:]
    assert one != other


def test_functions_that_hold_or_do_something_else_have_other_names():
    def made(held, then):
        return (lambda x: held + 1) if then else (lambda x: held + 2)

    arrays = [np.arange(3), np.arange(3) + 1]
    names = [named(made(held, then)) for held in (1, 2.5, "a", (1, {2: 3}), *arrays, made) for then in (True, False)]
    assert len(set(names)) == len(names)
    assert named(made(arrays[0], True)) == named(made(arrays[0].copy(), True))
    assert named(lambda x: [y + 1 for y in x]) != named(lambda x: [y + 2 for y in x])


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
