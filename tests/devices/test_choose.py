"""Which device is meant; the phones are stand-ins behind an adb server of their own."""

import subprocess
from types import SimpleNamespace

import pytest

from amc_tf.devices.android import benchmark_binary
from amc_tf.devices.android.adb_client import find_adb
from amc_tf.devices.choose import choose
from amc_tf.devices.host.computer import HostDevice
from amc_tf.errors import DeviceError
from tests.standin_adbd import StandIn


@pytest.fixture
def phone(tmp_path, monkeypatch):
    with StandIn(tmp_path) as phone:
        for name, value in phone.env.items():
            monkeypatch.setenv(name, value)
        program = benchmark_binary.Binary(phone.binary, benchmark_binary.sha256(phone.binary))
        monkeypatch.setattr("amc_tf.devices.android.benchmark_binary.find", lambda abi, given: program)
        subprocess.run([find_adb(), "connect", phone.serial], check=True, capture_output=True, timeout=60)
        yield phone


def test_the_one_phone_is_taken(phone):
    device, opened = choose(None)
    with device:
        assert device.name == f"adb:{phone.serial}" and opened


def test_a_serial_names_the_phone(phone):
    device, opened = choose(f"adb:{phone.serial}")
    with device:
        assert device.name == f"adb:{phone.serial}" and opened


def test_a_serial_that_is_not_there_is_an_error_and_no_other_phone(phone):
    with pytest.raises(DeviceError, match="nowhere"):
        choose("adb:nowhere")


def test_a_phone_that_is_not_authorised_is_not_passed_over(phone):
    phone.faults.unauthorized = True
    subprocess.run([find_adb(), "disconnect", phone.serial], check=True, capture_output=True, timeout=60)
    subprocess.run([find_adb(), "connect", phone.serial], check=True, capture_output=True, timeout=60)
    with pytest.raises(DeviceError, match="authori"):
        choose(None)


def test_without_a_phone_the_host_is_taken_with_a_warning(phone):
    subprocess.run([find_adb(), "disconnect", phone.serial], check=True, capture_output=True, timeout=60)
    with pytest.warns(UserWarning, match="says little about a phone: .* see `amc-tf doctor`"):
        device, opened = choose(None)
    assert isinstance(device, HostDevice) and opened


def test_without_adb_the_host_is_taken_with_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ADB", str(tmp_path / "no_adb"))
    with pytest.warns(UserWarning, match="no_adb"):
        device, _ = choose(None)
    assert isinstance(device, HostDevice)


def test_the_host_is_taken_without_a_warning_when_asked_for(recwarn):
    device, opened = choose("host")
    assert isinstance(device, HostDevice) and opened and not recwarn


def test_a_device_of_the_callers_own_stays_his():
    own = HostDevice()
    assert choose(own) == (own, False)


@pytest.mark.parametrize("wrong", ["phone", "adb:", "usb:1", ""])
def test_other_words_are_refused(wrong):
    with pytest.raises(ValueError, match="'adb', 'adb:SERIAL', 'host'"):
        choose(wrong)


def test_a_phone_named_by_the_environment_is_connected_to(phone, monkeypatch):
    subprocess.run([find_adb(), "disconnect", phone.serial], check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("ANDROID_SERIAL", phone.serial)
    device, _ = choose(None)
    with device:
        assert device.name == f"adb:{phone.serial}"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (HostDevice, "^device is <class"),
        (SimpleNamespace(benchmark=print, identity={}), "has the name None"),
        (SimpleNamespace(benchmark=print, identity={}, name=7), "has the name 7"),
        (SimpleNamespace(benchmark=print, name="mine"), "has the identity None"),
        (SimpleNamespace(benchmark=print, name="mine", identity={"threads": 1}), "has the identity {'threads': 1}"),
    ],
)
def test_half_a_device_is_refused(wrong, says):
    with pytest.raises(TypeError, match=says):
        choose(wrong)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="benchmark"):
        choose(7)
