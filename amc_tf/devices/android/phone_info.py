"""Facts about a phone, from two shell lines: its model and processor, and its heat, power and clocks at one moment."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amc_tf.errors import DeviceError

_SECTION = "@@"

# A single line each: one round trip of adb disturbs the phone least.
ASK_STATE = (
    f"echo {_SECTION}thermal; dumpsys thermalservice; "
    f"echo {_SECTION}battery; dumpsys battery; "
    f"echo {_SECTION}low_power; settings get global low_power; "
    f"echo {_SECTION}caps; for p in /sys/devices/system/cpu/cpufreq/policy*; do "
    'echo "${p##*/} $(cat $p/cpuinfo_max_freq) $(cat $p/scaling_max_freq)"; done; '
    f"echo {_SECTION}load; cat /proc/loadavg; true"
)
ASK_PHONE = (
    f"echo {_SECTION}properties; for p in ro.product.model ro.soc.model ro.board.platform ro.build.fingerprint "
    'ro.build.version.sdk ro.product.cpu.abi; do echo "$p=$(getprop $p)"; done; '
    f"echo {_SECTION}clusters; for p in /sys/devices/system/cpu/cpufreq/policy*; do "
    'c=$(cat $p/related_cpus); echo "$(cat $p/cpuinfo_max_freq) $c"; done; '
    f"echo {_SECTION}capacities; for c in /sys/devices/system/cpu/cpu[0-9]*; do "
    'echo "${c##*/cpu} $(cat $c/cpu_capacity)"; done; '
    f"echo {_SECTION}tools; for t in timeout taskset sha256sum; do command -v $t >/dev/null && echo $t; done; "
    f"echo {_SECTION}space; df -k /data/local/tmp; true"
)


@dataclass(frozen=True)
class State:
    """Heat, power and clocks at one moment. None stands for a value that this phone does not report.

    Attributes:
        thermal_status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown (AThermalStatus of
            the NDK). None before Android 10, and if the service has no HAL, since it reports 0 for ever then.
        overridden: somebody set the status by hand, so it means nothing.
        celsius: the highest temperature of processor and skin.
        battery_celsius: temperature of the battery.
        battery_percent: charge; None if there is no battery.
        charging: external power is connected.
        low_power: the battery saver is on.
        caps: policy -> highest clock that it may use now, kHz.
        capped: a policy may not use its processor's highest clock.
        load: average number of runnable processes in the last minute.
    """

    thermal_status: int | None = None
    overridden: bool = False
    celsius: float | None = None
    battery_celsius: float | None = None
    battery_percent: int | None = None
    charging: bool | None = None
    low_power: bool | None = None
    caps: dict[str, int] | None = None
    capped: bool = False
    load: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


@dataclass(frozen=True)
class Cluster:
    """Cores that share a clock.

    Attributes:
        cores: their numbers.
        max_khz: the highest clock.
        capacity: the kernel's measure of their speed.
    """

    cores: tuple[int, ...]
    max_khz: int
    capacity: int | None = None


@dataclass(frozen=True)
class Phone:
    """Facts that do not change as long as a phone is on.

    Attributes:
        model, soc, fingerprint, abi: of the phone and its system; "" if the phone does not report them.
        sdk: Android's API level, 0 if unknown.
        clusters: of its processor; empty if the shell may not read them.
        tools: those of timeout, taskset and sha256sum that it has.
        free_mb: space in /data/local/tmp, None if unknown.
    """

    model: str
    soc: str
    fingerprint: str
    abi: str
    sdk: int
    clusters: tuple[Cluster, ...]
    tools: frozenset[str]
    free_mb: float | None


def parse_state(text: str) -> State:
    """Reads the output of ASK_STATE."""
    sections = _sections(text)
    thermal, battery = sections.get("thermal", ""), sections.get("battery", "")
    status = re.search(r"Thermal Status: (\d+)", thermal)
    ready = not re.search(r"HAL Ready: false", thermal)
    tenths, level = _number(battery, "temperature"), _number(battery, "level")
    powered = re.findall(r"(?:AC|USB|Wireless|Dock) powered: (true|false)", battery)
    present = "present: false" not in battery
    saver = sections.get("low_power", "").strip()
    load = re.match(r"\s*([\d.]+)", sections.get("load", ""))
    policies = [line.split() for line in sections.get("caps", "").splitlines()]
    caps = {words[0]: (int(words[1]), int(words[2])) for words in policies if _numbers(words[1:], 2)}
    return State(
        thermal_status=int(status.group(1)) if status and ready else None,
        overridden="IsStatusOverride: true" in thermal,
        celsius=_hottest(thermal),
        battery_celsius=tenths / 10 if tenths is not None and present else None,
        battery_percent=level if present else None,
        charging="true" in powered if powered else None,
        low_power=saver == "1" if saver in ("0", "1") else None,
        caps={policy: now for policy, (_, now) in caps.items()} or None,
        capped=any(now < top for top, now in caps.values()),
        load=float(load.group(1)) if load else None,
    )


def parse_phone(text: str) -> Phone:
    """Reads the output of ASK_PHONE."""
    sections = _sections(text)
    properties = dict(line.split("=", 1) for line in sections.get("properties", "").splitlines() if "=" in line)
    capacities = {}
    for words in map(str.split, sections.get("capacities", "").splitlines()):
        if _numbers(words, 2):
            capacities[int(words[0])] = int(words[1])
    clusters = []
    for words in map(str.split, sections.get("clusters", "").splitlines()):
        if len(words) > 1 and _numbers(words, len(words)):
            cores = tuple(map(int, words[1:]))
            clusters.append(Cluster(cores, int(words[0]), capacities.get(cores[0])))
    space = re.findall(r"\s(\d+)\s+\d+%\s", sections.get("space", ""))
    sdk = properties.get("ro.build.version.sdk", "").strip()
    return Phone(
        model=properties.get("ro.product.model", "").strip(),
        soc=properties.get("ro.soc.model", "").strip() or properties.get("ro.board.platform", "").strip(),
        fingerprint=properties.get("ro.build.fingerprint", "").strip(),
        abi=properties.get("ro.product.cpu.abi", "").strip(),
        sdk=int(sdk) if sdk.isdecimal() else 0,
        clusters=tuple(clusters),
        tools=frozenset(sections.get("tools", "").split()),
        free_mb=int(space[-1]) / 1024 if space else None,
    )


def big_cores(clusters: Sequence[Cluster]) -> tuple[int, ...]:
    """The fast cores, by the rule of LiteRT's mini benchmark (big_little_affinity.cc).

    If exactly two cores have the highest clock, these are big. Else all cores above the lowest clock are big. If all
    clocks are equal, the kernel's capacities take their place. If these are equal too, all cores are big.
    """
    speeds = {core: cluster.max_khz for cluster in clusters for core in cluster.cores}
    capacities = {core: cluster.capacity for cluster in clusters for core in cluster.cores}
    if len(set(speeds.values())) == 1 and None not in capacities.values():
        speeds = capacities
    fastest = [core for core, speed in speeds.items() if speed == max(speeds.values())]
    if len(fastest) == 2 or len(fastest) == len(speeds):
        return tuple(sorted(fastest))
    return tuple(sorted(core for core, speed in speeds.items() if speed > min(speeds.values())))


def cores(cpu_mask: str, clusters: Sequence[Cluster]) -> tuple[int, ...]:
    """The cores that "big", "all" or a hex mask means on this phone.

    Returns:
        Their numbers; empty for "all" on a phone that does not show its clusters.

    Raises:
        ValueError: the mask is no mask, or names cores that the phone does not have.
        DeviceError: "big" on a phone that does not show its clusters.
    """
    known = sorted(core for cluster in clusters for core in cluster.cores)
    if cpu_mask == "all":
        return tuple(known)
    if cpu_mask == "big":
        if not known:
            raise DeviceError(
                "The phone does not show which of its cores are big (/sys/devices/system/cpu/cpufreq is not readable): "
                "give cpu_mask as a hex mask, such as f0 for the cores 4 to 7, or 'all'."
            )
        return big_cores(clusters)
    wrong = not isinstance(cpu_mask, str) or not re.fullmatch(r"(0x)?[0-9a-fA-F]+", cpu_mask)
    if wrong or int(cpu_mask, 16) == 0:
        raise ValueError(f"cpu_mask is {cpu_mask!r}; expected 'big', 'all' or a hex mask of cores such as 'f0'.")
    bits = int(cpu_mask, 16)
    chosen = tuple(core for core in range(bits.bit_length()) if bits >> core & 1)
    missing = sorted(set(chosen) - set(known))
    if known and missing:
        raise ValueError(f"cpu_mask {cpu_mask!r} has the cores {missing}, but the phone has {known}: leave them out.")
    return chosen


def mask(chosen: Sequence[int]) -> str:
    """The cores as taskset's hex mask."""
    return f"{sum(1 << core for core in chosen):x}"


def _sections(text: str) -> dict[str, str]:
    parts = re.split(rf"(?m)^{_SECTION}(\w+)$", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _number(text: str, name: str) -> int | None:
    match = re.search(rf"(?m)^\s*{name}: (-?\d+)\s*$", text)
    return int(match.group(1)) if match else None


def _numbers(words: Sequence[str], count: int) -> bool:
    return len(words) == count and all(word.isdecimal() for word in words)


def _hottest(thermal: str) -> float | None:
    """The highest of the current readings, or of the cached ones if there are none; None if there are neither."""
    current = thermal.partition("Current temperatures from HAL:")[2] or thermal
    return max(_readings(current), default=max(_readings(thermal), default=None))


def _readings(thermal: str) -> Iterator[float]:
    """Temperatures of processor (type 0) and skin (type 3)."""
    for value, kind in re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+)", thermal):
        if kind in ("0", "3"):
            yield float(value)
