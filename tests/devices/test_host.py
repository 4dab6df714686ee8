"""Measuring on this computer: what is said of bad arguments, bad files and processes that die or hang."""

import json
import os
import subprocess
import sys
import time

import pytest

from amc_tf.devices import host
from amc_tf.devices.host import HostDevice
from amc_tf.errors import DeviceError
from tests.devices import models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.write(tmp_path_factory.mktemp("models") / "conv.tflite", 32, 32)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"runtime": "torch"}, "litert, tflite"),
        ({"num_threads": 0}, "num_threads is 0"),
        ({"num_threads": True}, "num_threads is True"),
        ({"num_threads": 2.0}, "num_threads is 2.0"),
        ({"delegate": "gpu"}, "xnnpack, none"),
        ({"cpu_mask": "big"}, "hex mask"),
        ({"cpu_mask": "0"}, "'0'"),
        ({"cpu_mask": "-3"}, "hex mask"),
        ({"cpu_mask": "1" + "0" * 60}, "may not use"),
        ({"cpu_mask": "1", "num_threads": 2}, "has 1 cores"),
    ],
)
def test_wrong_arguments_get_one_sentence(arguments, says):
    with pytest.raises(ValueError, match=says) as raised:
        HostDevice(**arguments)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(host.RUNTIMES, "litert", "no-such-package")
    with pytest.raises(DeviceError, match="pip install no-such-package"):
        HostDevice()


def test_the_process_has_loaded_neither_tensorflow_nor_keras():
    code = (
        "import sys; from amc_tf.devices import host_process; import ai_edge_litert.interpreter;"
        "print(sorted({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_mask_holds_for_the_process_and_not_for_this_one(model):
    before = os.sched_getaffinity(0)
    core = min(before)
    device = HostDevice(cpu_mask=f"{1 << core:x}")
    with host._Process(device._settings) as process:
        process.ask(_request(model), 10)
        assert os.sched_getaffinity(process._process.pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_without_the_delegate_the_runtimes_own_kernels_run(tmp_path):
    large = models.write(tmp_path / "large.tflite", 64, 64)
    own, delegated = (
        HostDevice(delegate=delegate).benchmark(large, min_runs=5, min_seconds=0.1) for delegate in ("none", "xnnpack")
    )
    assert own.median_us > 1.3 * delegated.median_us


def test_a_process_that_dies_is_named_with_its_last_words(model, monkeypatch):
    monkeypatch.setattr(host, "sys", _Python(tmp_script(model.parent, "import sys; sys.exit('out of memory')")))
    with pytest.raises(DeviceError, match=r"conv.tflite died with exit status 1 \(out of memory\)"):
        HostDevice().benchmark(model)


def test_a_process_that_hangs_is_killed(model, monkeypatch):
    monkeypatch.setattr(host, "sys", _Python(tmp_script(model.parent, "import time; time.sleep(600)")))
    monkeypatch.setattr(host, "_START_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(DeviceError, match="took more than"):
        HostDevice(timeout=0.5).benchmark(model, min_seconds=0.1)
    assert time.monotonic() - started < 10


def test_no_process_outlives_its_measurement(model):
    device = HostDevice()
    with host._Process(device._settings) as process:
        process.ask(_request(model), 10)
        pid = process._process.pid
        assert os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(f"/proc/{pid}")


def test_what_was_measured_is_inference_and_not_loading(model):
    timing = HostDevice().benchmark(model, min_runs=30, min_seconds=0.1)
    assert timing.init_us > 0 and timing.memory_mb is not None
    assert timing.min_us <= timing.median_us <= timing.p95_us
    assert json.loads(json.dumps(timing.to_dict()))["environment"]["runtime"].startswith("ai-edge-litert")


def test_profiles_are_refused_with_the_way_out(model):
    with pytest.raises(DeviceError, match="profile on a phone"):
        HostDevice().profile(model)


def _request(path) -> dict:
    return {"path": str(path), "min_runs": 1, "min_seconds": 0.0, "warmup_runs": 0, "warmup_seconds": 0.0}


def tmp_script(folder, code):
    """A program that takes the place of the interpreter."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


class _Python:
    """Stands for `sys` in host.py, with another program as its interpreter."""

    def __init__(self, executable):
        self.executable = str(executable)
