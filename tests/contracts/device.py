"""What every device must do; a class of tests that is run on each of them."""

import json

import pytest

from amc_tf.devices.device import Device
from amc_tf.devices.timing import Timing
from amc_tf.errors import DeviceError


class DeviceContract:
    """Subclasses give the fixtures `device` and `models`: paths of two small .tflite, the second clearly slower."""

    def test_it_satisfies_the_protocol(self, device):
        assert isinstance(device, Device)

    def test_a_benchmark_is_one_process_of_as_many_runs_as_asked(self, device, models):
        timing = device.benchmark(models[0], min_runs=20, min_seconds=0.05)
        assert isinstance(timing, Timing)
        assert len(timing.processes) == 1 and timing.runs >= 20
        assert 0 < timing.min_us <= timing.median_us

    def test_the_slower_model_takes_longer(self, device, models):
        fast, slow = (device.benchmark(path, min_runs=20, min_seconds=0.05) for path in models)
        assert slow.min_us > 1.5 * fast.min_us

    def test_many_are_timed_in_their_order(self, device, models):
        fast, slow, again = device.benchmark_many([*models, models[0]], min_runs=5, min_seconds=0.02)
        assert slow.min_us > 1.5 * max(fast.min_us, again.min_us)

    def test_its_identity_and_environment_are_plain(self, device, models):
        assert device.name
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in device.identity.items())
        environment = dict(device.benchmark(models[0], min_runs=1, min_seconds=0.01).environment)
        assert json.loads(json.dumps(environment)) == environment
        assert {"before", "after"} <= environment.keys()

    def test_a_missing_file_is_a_device_error_with_its_name(self, device, tmp_path):
        with pytest.raises(DeviceError, match="nothing.tflite") as raised:
            device.benchmark(tmp_path / "nothing.tflite")
        assert "\n" not in str(raised.value)

    def test_what_is_no_model_is_a_device_error_and_the_next_one_is_measured(self, device, models, tmp_path):
        wrong = tmp_path / "wrong.tflite"
        wrong.write_bytes(b"no flatbuffer at all" * 10)
        with pytest.raises(DeviceError) as raised:
            device.benchmark(wrong, min_runs=1, min_seconds=0.01)
        assert "\n" not in str(raised.value)
        assert device.benchmark(models[0], min_runs=1, min_seconds=0.01).median_us > 0
