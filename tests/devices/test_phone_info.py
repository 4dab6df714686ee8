"""What a phone says of itself: real outputs of dumpsys and sysfs, and the rule for its big cores."""

import pytest

from amc_tf.devices.android import phone_info
from amc_tf.devices.android.phone_info import Cluster, State
from amc_tf.devices.android.readiness import HeatGate, Throttled, throttled
from amc_tf.errors import DeviceError

THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=59.0, mType=0, mName=AP, mStatus=0}
\tTemperature{mValue=31.3, mType=2, mName=BAT, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=39.6, mType=0, mName=AP, mStatus=0}
\tTemperature{mValue=36.1, mType=3, mName=SKIN, mStatus=1}
\tTemperature{mValue=77.0, mType=5, mName=PA, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=cpu0}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 64
  scale: 100
  voltage: 4012
  temperature: 317
  technology: Li-ion
"""
CAPS = "policy0 1803000 1803000\npolicy4 2348000 1700000\npolicy7 2850000 \n"


def answer(thermal=THERMAL, battery=BATTERY, saver="0\n", caps=CAPS, load="3.14 2.71 1.41 2/900 12345\n") -> str:
    return f"@@thermal\n{thermal}@@battery\n{battery}@@low_power\n{saver}@@caps\n{caps}@@load\n{load}"


def test_everything_is_told() -> None:
    state = phone_info.parse_state(answer())
    assert (state.thermal_status, state.overridden, state.celsius) == (1, False, 39.6)
    assert (state.battery_celsius, state.battery_percent, state.charging) == (31.7, 64, True)
    assert (state.low_power, state.load) == (False, 3.14)
    assert (state.caps, state.capped) == ({"policy0": 1803000, "policy4": 1700000}, True)


def test_nothing_is_told() -> None:
    denied = "Can't find service: thermalservice\n"
    said = answer(
        denied, denied, "null\n", "policy* \ncat: Permission denied\n", "cat: /proc/loadavg: Permission denied\n"
    )
    assert phone_info.parse_state(said) == phone_info.parse_state("") == State()


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"thermal": THERMAL.replace("Ready: true", "Ready: false")}, "thermal_status", None),
        ({"thermal": THERMAL.replace("Override: false", "Override: true")}, "overridden", True),
        ({"thermal": THERMAL.partition("HAL Ready")[0]}, "celsius", 59.0),
        ({"battery": BATTERY.replace("present: true", "present: false")}, "battery_celsius", None),
        ({"battery": BATTERY.replace("present: true", "present: false")}, "battery_percent", None),
        ({"battery": BATTERY.replace("USB powered: true", "USB powered: false")}, "charging", False),
        ({"battery": BATTERY.replace(": 317", ": -52")}, "battery_celsius", -5.2),
        ({"saver": "1\n"}, "low_power", True),
        ({"caps": "policy0 1803000 1803000\n"}, "capped", False),
    ],
)
def test_a_line_that_differs(change, field, expected) -> None:
    assert getattr(phone_info.parse_state(answer(**change)), field) == expected


ABOUT = """@@properties
ro.product.model=Pixel 4
ro.soc.model=
ro.board.platform=msmnile
ro.build.fingerprint=google/flame/flame:11/RQ3A.211001.001/7641976:user/release-keys
ro.build.version.sdk=30
ro.product.cpu.abi=arm64-v8a
@@clusters
1785600 0 1 2 3
2419200 4 5 6
2841600 7
@@capacities
0 261
4 871
7 1024
@@tools
taskset
sha256sum
@@space
Filesystem     1K-blocks     Used Available Use% Mounted on
/dev/block/dm-5 53684204 12345678  41204812  24% /data
"""


def test_a_pixel_4() -> None:
    about = phone_info.parse_phone(ABOUT)
    assert (about.model, about.soc, about.abi, about.sdk) == ("Pixel 4", "msmnile", "arm64-v8a", 30)
    assert about.fingerprint.startswith("google/flame/flame:11/")
    assert about.clusters[1] == Cluster((4, 5, 6), 2419200, 871)
    assert about.tools == {"taskset", "sha256sum"}
    assert about.free_mb == pytest.approx(41204812 / 1024)


def test_a_phone_that_tells_nothing() -> None:
    about = phone_info.parse_phone("@@properties\nro.product.model=\n@@clusters\n \n@@tools\n@@space\n")
    assert (about.model, about.sdk, about.clusters, about.free_mb) == ("", 0, (), None)


def clusters(*speeds: tuple[int, int] | tuple[int, int, int]) -> list[Cluster]:
    """Clusters of (cores, clock, capacity)."""
    made, first = [], 0
    for count, khz, *capacity in speeds:
        made.append(Cluster(tuple(range(first, first + count)), khz, *capacity))
        first += count
    return made


@pytest.mark.parametrize(
    ("chip", "mask"),
    [
        (clusters((4, 1785600), (3, 2419200), (1, 2841600)), "f0"),  # one prime core: all that are not slow
        (clusters((4, 1900000), (4, 2457600)), "f0"),  # Pixel 2
        (clusters((6, 1708800), (2, 2208000)), "c0"),  # exactly two fast ones
        (clusters((4, 1803000), (2, 2253000), (2, 2802000)), "c0"),  # Pixel 6: two prime cores
        (clusters((2, 2208000, 1000), (6, 1708800, 1000)), "3"),  # clocks go before capacities
        (clusters((8, 2000000)), "ff"),
        (clusters((2, 1500000)), "3"),
        (clusters((4, 2000000, 400), (4, 2000000, 1024)), "f0"),  # one clock, two kinds of core
        (clusters((4, 2000000, 400), (4, 2000000)), "ff"),
    ],
)
def test_the_big_cores(chip, mask) -> None:
    assert phone_info.mask(phone_info.big_cores(chip)) == mask
    assert phone_info.mask(phone_info.cores("big", chip)) == mask


def test_masks_that_are_given() -> None:
    chip = clusters((4, 1), (4, 2))
    assert phone_info.cores("all", chip) == tuple(range(8))
    assert phone_info.cores("all", []) == ()
    assert phone_info.cores("80", chip) == phone_info.cores("0x80", chip) == phone_info.cores("80", []) == (7,)
    for wrong in ("", "0", "g", "-1", "f0 ", "big,4", "0x", 0xF0, None):
        with pytest.raises(ValueError, match="expected 'big', 'all' or a hex mask"):
            phone_info.cores(wrong, chip)
    with pytest.raises(ValueError, match=r"has the cores \[8\], but the phone has"):
        phone_info.cores("1f0", chip)
    with pytest.raises(DeviceError, match="does not show which of its cores are big"):
        phone_info.cores("big", [])


# When it may be measured.


def gate(*states: State, cool_down: float = 0.2) -> HeatGate:
    """Of a phone that is in these states one after the other, and then stays in the last one."""
    left = list(states)
    return HeatGate("the phone", lambda: left.pop(0) if len(left) > 1 else left[0], 37.0, cool_down, 20)


COOL = State(thermal_status=0, battery_celsius=30.0, battery_percent=80, low_power=False, caps={"policy0": 2000})
HOT = State(thermal_status=1, battery_celsius=30.0)


def test_a_cool_phone_and_one_that_tells_nothing_are_measured_at_once() -> None:
    for state in (COOL, State()):
        assert gate(state, cool_down=0.0).wait() == state


def test_a_hot_phone_is_waited_for() -> None:
    assert gate(HOT, State(battery_celsius=37.1), COOL).wait() == COOL


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (HOT, "thermal status is 1"),
        (State(thermal_status=None, battery_celsius=37.5), "37.5 degrees Celsius, more than 37"),
    ],
)
def test_a_phone_that_stays_hot_is_not_measured(state, words) -> None:
    with pytest.raises(Throttled, match=f"even after 0 s .*{words}"):
        gate(state).wait()


def test_clocks_must_come_back_to_what_they_were() -> None:
    lower = State(caps={"policy0": 1500, "policy4": 2500})
    higher = State(caps={"policy0": 2000, "policy4": 2500})
    once = gate(lower, lower, higher, lower)
    assert [once.wait() for _ in range(3)] == [lower, lower, higher]  # held down from the start is how it is
    with pytest.raises(Throttled, match="policy0 may run at"):
        once.wait()
    assert throttled(lower, {}) is throttled(higher, lower.caps) is None


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(overridden=True), "set by hand"),
        (State(low_power=True), "battery saver"),
        (State(battery_percent=19), "19 %, less than 20 %"),
    ],
)
def test_what_waiting_does_not_mend_is_refused_at_once(state, words) -> None:
    with pytest.raises(DeviceError, match=words):
        gate(state, COOL, cool_down=60.0).wait()
