"""The protocols of a device, and who satisfies them."""

import inspect

import pytest

from amc_tf.devices import AdbDevice, HostDevice
from amc_tf.devices.device import BatchDevice, ClosableDevice, Device, ProfilingDevice
from amc_tf.devices.timing import Timing

PROTOCOLS = [Device, BatchDevice, ProfilingDevice, ClosableDevice]


class Least:
    """A caller's device with nothing optional."""

    name = "mine"
    identity = {"board": "mine"}

    def benchmark(self, path, *, min_runs=50, min_seconds=1.0) -> Timing:
        return Timing((1.0,), 1.0, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_this_computer_is_a_device_with_all_that_is_optional(protocol):
    assert isinstance(HostDevice(), protocol)


def test_optional_methods_are_told_from_missing_ones():
    assert isinstance(Least(), Device)
    assert not any(isinstance(Least(), protocol) for protocol in PROTOCOLS[1:])
    assert not isinstance(object(), Device)


@pytest.mark.parametrize("device", [AdbDevice, HostDevice])
@pytest.mark.parametrize(
    ("protocol", "method"),
    [
        (Device, "benchmark"),
        (BatchDevice, "benchmark_many"),
        (ProfilingDevice, "profile"),
        (ClosableDevice, "close"),
    ],
)
def test_the_methods_have_the_arguments_of_the_protocol(device, protocol, method):
    declared, own = (inspect.signature(getattr(owner, method)) for owner in (protocol, device))
    assert own.parameters == declared.parameters and own.return_annotation == declared.return_annotation


@pytest.mark.parametrize("device", [AdbDevice, HostDevice])
def test_the_attributes_are_declared(device):
    assert inspect.get_annotations(Device).items() <= inspect.get_annotations(device).items()
