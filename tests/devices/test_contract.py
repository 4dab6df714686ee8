"""The contract of a device, on this computer with either runtime and on the stand-in phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from amc_tf.devices import timing
from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.host.computer import HostDevice
from amc_tf.errors import DeviceError
from amc_tf.isolated.packages import PACKAGES
from tests.contracts.device import DeviceContract
from tests.devices import models
from tests.standin_adbd import StandIn


@pytest.fixture(scope="module", autouse=True)
def brief_warm_ups() -> Iterator[None]:
    """What is measured here need not be steady, and half a second is longer than most of the measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_WARMUP_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module", name="models")
def two_models(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [models.write(folder / "fast.tflite", 16, 32), models.write(folder / "slow.tflite", 64, 32)]


class TestHost(DeviceContract):
    @pytest.fixture(params=["litert", "tflite"])
    def device(self, request):
        if request.param == "tflite" and (why := PACKAGES["tflite-runtime"].refusal):
            with pytest.raises(DeviceError, match="no wheels for Python 3.12"):
                HostDevice("tflite")
            pytest.skip(why)
        return HostDevice(request.param)


@pytest.fixture(scope="module")
def on_phone(tmp_path_factory):
    with (
        StandIn(tmp_path_factory.mktemp("phone")) as phone,
        AdbDevice(phone.serial, phone.binary, environment=phone.env) as device,
    ):
        yield device


class TestPhone(DeviceContract):
    @pytest.fixture
    def device(self, on_phone):
        return on_phone
