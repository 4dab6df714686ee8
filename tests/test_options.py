"""Arguments that are refused at the door."""

import sys
from pathlib import Path

import pytest

import amc_tf
from amc_tf.callbacks import TensorBoard


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
