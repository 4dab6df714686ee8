"""The command amc-tf: as a process where that matters, else in this one."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from amc_tf import cli
from amc_tf.devices.android import benchmark_binary, consent
from amc_tf.devices.android.consent import ACCEPT
from amc_tf.errors import DeviceError
from tests import small
from tests.toys import randomized

ROOT = Path(__file__).parents[2]


COMPRESS = ["--target", "macs", "--budget", "60%", "--data", "data.npz", "--episodes", 3, "--calibration-size", 32,
            "--reward-size", 64, "--run-dir", "run"]  # fmt: skip


WITHOUT_TENSORFLOW = "sys.modules['tensorflow'] = None; "
AGENT_AT_ONCE = (
    "from tests.search.fakes import AgentAtOnce; from amc_tf.pipeline import searching; "
    "searching.DdpgAgent = AgentAtOnce; "
)


def amc(*arguments, cwd, first=""):
    """The command as a process, which runs some code first."""
    code = f"import sys; {first}sys.argv[0] = 'amc-tf'; from amc_tf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def invoke(*arguments, cwd):
    """The command in this process, which has TensorFlow already."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(cli.main, list(map(str, arguments)), prog_name="amc-tf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("cli")
    layers = keras.layers
    chain = [layers.Conv2D(16, 3, name="stem"), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = randomized(keras.Sequential([keras.Input((12, 12, 3)), *chain, layers.Softmax()], name="small"))
    model.save(folder / "small.keras")
    x, y = small.labelled(model, 96)
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "odd.npz", pictures=x)
    (folder / "cut.npz").write_bytes((folder / "data.npz").read_bytes()[:5000])
    (folder / "text.npz").write_text("x and y")
    (folder / "text.keras").write_text("a model")
    return folder


@pytest.fixture(scope="module")
def compressed(folder):
    """The whole way as a process, once; the agent's own is that of tests/api/test_compress.py."""
    return amc("compress", "small.keras", *COMPRESS, "--json", cwd=folder, first=AGENT_AT_ONCE)


def test_compress_as_json_prints_nothing_else(folder, compressed):
    assert compressed.returncode == 0, compressed.stderr
    summary = json.loads(compressed.stdout)
    assert summary["compressed"]["macs"] <= 0.6 * summary["base"]["macs"]
    assert "search 5/5" in compressed.stderr
    assert "INFO" not in compressed.stderr  # of the runtime, which says once a process what it created
    assert summary["tflite"] == "run/model.tflite" and (folder / "run" / "model.tflite").exists()


def test_compress_ends_with_a_table_and_the_paths(folder, compressed, agent_at_once):
    """Of the finished run: the same command on the same folder."""
    done = invoke("compress", "small.keras", *COMPRESS, "--quiet", cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert "MACs" in done.stdout and "run/model.tflite" in done.stdout
    assert "search" in compressed.stderr and "search" not in done.stderr


def test_analyze_shows_groups_and_reach(folder, capfd):
    done = invoke("analyze", "small.keras", cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert "stem" in done.stdout and "output of the model" in done.stdout and "budget for target=macs" in done.stdout
    assert json.loads(invoke("analyze", "small.keras", "--json", cwd=folder).stdout)["model"] == "small"
    assert not capfd.readouterr().out  # of TensorFlow, which does not write to sys.stdout


def test_single_weights_on_the_command_line(folder, agent_at_once):
    done = invoke("analyze", "small.keras", "--method", "magnitude", cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert "weights" in done.stdout and "not the network faster" in done.stdout and "target=size" in done.stdout
    done = invoke("compress", "small.keras", "--method", "magnitude", "--target", "size", "--budget", "none",
                  "--max-drop", 20, "--data", "data.npz", "--episodes", 2, "--calibration-size", 32, "--reward-size",
                  64, "--json", "--run-dir", "weights", cwd=folder)  # fmt: skip
    summary = json.loads(done.stdout)
    assert summary["method"] == "magnitude" and summary["max_drop"] == 20
    assert summary["compressed"]["size_bytes"] == (folder / "weights" / "model.tflite").stat().st_size
    assert "not the network faster" in done.stderr


WRONG = [
    (["compress", "none.keras"], "none.keras"),
    (["compress", "data.npz", "--target", "macs"], "cannot be loaded"),
    (["compress", "text.keras", "--target", "macs"], "text.keras cannot be loaded: it is no .keras file"),
    (["compress", "small.keras", "--device", "toaster", "--data", "data.npz"], "toaster"),
    (["compress", "small.keras", "--target", "macs", "--data", "odd.npz"], "pictures"),
    (["compress", "small.keras", "--target", "macs", "--data", "cut.npz"], "cut.npz is no whole .npz"),
    (["compress", "small.keras", "--target", "macs", "--data", "text.npz"], "text.npz is no whole .npz"),
    (["compress", "small.keras", "--target", "macs", "--data", "small.keras"], "config.json"),
    (["compress", "small.keras", "--target", "macs", "--budget", "0.01", "--data", "data.npz"], "budget"),
    (["analyze", "small.keras", "--frozen", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_wrong_usage_is_one_sentence_and_an_exit_code(folder, arguments, says):
    done = invoke(*arguments, cwd=folder)
    assert done.exit_code == 2 and says in done.stderr and isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.stderr


def test_wrong_data_end_the_process_before_tensorflow_is_imported(folder):
    done = amc("compress", "small.keras", "--target", "macs", "--data", "odd.npz", cwd=folder, first=WITHOUT_TENSORFLOW)
    assert done.returncode == 2 and "pictures" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


def test_a_missing_keras_is_one_sentence(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    done = invoke("analyze", "small.keras", "--keras", "tf_keras", cwd=folder)
    assert done.exit_code == 2 and "Traceback" not in done.stderr
    assert "amc-tf: tf_keras cannot be imported" in done.stderr and "pip install 'tf_keras==2." in done.stderr


@pytest.mark.parametrize("yes", [True, False])
def test_compress_runs_the_fetched_program_only_with_yes(folder, tmp_path, monkeypatch, yes):
    importlib.import_module("amc_tf.api.compress")

    def compress(*_, **__):
        raise DeviceError(f"It is {benchmark_binary.find('arm64-v8a').sha256}.")

    monkeypatch.setattr(sys.modules["amc_tf.api.compress"], "compress", compress)
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path))
    monkeypatch.delenv(ACCEPT, raising=False)
    program = tmp_path / f"benchmark_model-{benchmark_binary.VERSION}-arm64-v8a"
    program.write_bytes(b"#!/bin/sh\n")
    monkeypatch.setattr(consent, "SEEN", benchmark_binary.sha256(program)[:8])
    done = invoke("compress", "small.keras", *["--yes"] * yes, cwd=folder)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("amc-tf: It is " if yes else "amc-tf: benchmark_model")
    assert "--yes" in done.stderr or yes
