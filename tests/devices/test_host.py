"""Measuring on this computer: what is said of bad arguments, bad files and processes that die or hang."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from amc_tf.devices import timing
from amc_tf.devices.host import computer, timing_process
from amc_tf.devices.host.computer import HostDevice
from amc_tf.errors import DeviceError
from amc_tf.isolated import provide
from amc_tf.isolated.packages import PACKAGES
from amc_tf.system import json_lines
from tests.devices import models


@pytest.fixture(scope="module", autouse=True)
def brief_warm_ups() -> Iterator[None]:
    """What is measured here need not be steady, and half a second is longer than most of the measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_WARMUP_SECONDS", 0.05)
        yield


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
    monkeypatch.setitem(computer.RUNTIMES, "litert", "no-such-package")
    with pytest.raises(DeviceError, match="pip install no-such-package"):
        HostDevice()


def test_the_process_has_loaded_neither_tensorflow_nor_keras():
    code = (
        "import sys; from amc_tf.devices.host import timing_process; import ai_edge_litert.interpreter;"
        "print(sorted({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system ties no process to cores")
def test_the_mask_holds_for_the_process_and_not_for_this_one(model):
    before = psutil.Process().cpu_affinity()
    core = min(before)
    device = HostDevice(cpu_mask=f"{1 << core:x}")
    with device._start() as process:
        process.ask(_request(model), 10)
        assert psutil.Process(process.pid).cpu_affinity() == [core]
    assert psutil.Process().cpu_affinity() == before


def test_a_system_that_ties_no_process_to_cores_takes_no_mask(model, monkeypatch):
    """As macOS, where psutil knows no such call."""
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    with pytest.raises(ValueError, match=r"cpu_mask is '1', but \w+ ties no process to cores: give 'all'\.$"):
        HostDevice(cpu_mask="1")
    assert HostDevice().benchmark(model, min_runs=1, min_seconds=0.0).runs == 1


def test_a_system_without_cpuinfo_names_its_processor(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(computer.Path, "read_text", absent)
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6, GenuineIntel")
    assert HostDevice().identity["cpu"] == f"Intel64 Family 6, GenuineIntel x{os.cpu_count()}"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert HostDevice().identity["cpu"] == f"{platform.machine()} x{os.cpu_count()}"


def test_files_of_the_current_folder_are_no_modules(model, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert HostDevice().benchmark(model, min_runs=1, min_seconds=0.0).runs == 1


def test_a_path_in_any_letters_is_measured(model, tmp_path):
    other = tmp_path / "größe 大.tflite"
    other.write_bytes(model.read_bytes())
    assert list(timing_process.source(str(other))) == ["model_content"]  # no runtime on Windows knows such a path
    assert list(timing_process.source("net.tflite")) == ["model_path"]
    assert HostDevice().benchmark(other, min_runs=1, min_seconds=0.0).runs == 1


def test_memory_is_what_the_model_takes(tmp_path):
    large = models.write(tmp_path / "large.tflite", 512, 16)
    small = models.write(tmp_path / "small.tflite", 8, 16)
    taken = [HostDevice().benchmark(path, min_runs=1, min_seconds=0.0).memory_mb for path in (small, large)]
    assert taken[1] > taken[0] + 30  # MB: an input and an output of 512 x 512 x 16 floats


def test_without_the_delegate_the_runtimes_own_kernels_run(tmp_path):
    large = models.write(tmp_path / "large.tflite", 64, 64)
    own, delegated = (
        HostDevice(delegate=delegate).benchmark(large, min_runs=5, min_seconds=0.1) for delegate in ("none", "xnnpack")
    )
    assert own.median_us > 1.3 * delegated.median_us


def test_a_process_that_dies_is_named_with_its_last_words(model, monkeypatch):
    monkeypatch.setattr(json_lines, "sys", _Python(tmp_script(model.parent, "import sys; sys.exit('out of memory')")))
    with pytest.raises(DeviceError, match=r"conv.tflite ended with exit status 1 \(out of memory\)"):
        HostDevice().benchmark(model)


def test_a_process_that_hangs_is_killed(model, monkeypatch):
    monkeypatch.setattr(json_lines, "sys", _Python(tmp_script(model.parent, "import time; time.sleep(600)")))
    monkeypatch.setattr(computer, "_START_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(DeviceError, match="took more than"):
        HostDevice(timeout=0.5).benchmark(model, min_seconds=0.1)
    assert time.monotonic() - started < 10


def test_no_process_outlives_its_measurement(model):
    device = HostDevice()
    with device._start() as process:
        process.ask(_request(model), 10)
        pid = process.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_what_was_measured_is_inference_and_not_loading(model):
    taken = HostDevice().benchmark(model, min_runs=30, min_seconds=0.1)
    assert taken.init_us > 0 and taken.memory_mb is not None
    assert taken.min_us <= taken.median_us <= taken.p95_us
    assert json.loads(json.dumps(taken.to_dict()))["environment"]["runtime"].startswith("ai-edge-litert")


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
    """Stands for `sys` in json_lines.py, with another program as its interpreter."""

    def __init__(self, executable):
        self.executable = str(executable)


@pytest.mark.skipif(bool(PACKAGES["tflite-runtime"].refusal), reason="there is no tflite-runtime for this Python")
def test_the_older_runtime_has_a_numpy_of_its_own() -> None:
    """The process takes NumPy 1, whatever this environment has."""
    device = HostDevice("tflite")
    assert device.identity["runtime"] == f"tflite-runtime {provide.version('tflite-runtime')}"
    environment = computer._environment(device._folder)
    code = "import numpy, tflite_runtime.interpreter; print(numpy.__version__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True)
    assert done.stdout.startswith("1."), done.stderr


def test_what_python_prints_as_it_starts_is_no_reply(model, tmp_path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('noise', flush=True)\nprint('and no end', end='', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert HostDevice().benchmark(model, min_runs=2, min_seconds=0).runs >= 2
