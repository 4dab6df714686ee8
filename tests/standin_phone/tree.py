"""The stand-in's file system and what its commands read: /system/bin, /sys, /proc/loadavg, dumpsys, properties, df."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.standin_phone.faults import Hot

COMMANDS = Path(__file__).parent / "bin"

# Tools of this computer that act as the phone's toybox does. Nothing else is on the phone's PATH.
TOOLS = """sh [ awk base64 basename cat chmod cmp cp cut date dd dirname du echo egrep env expr false find grep gzip
    head id kill ln ls md5sum mkdir mkfifo mktemp mv nice nohup od printf readlink realpath rm rmdir sed seq setsid
    sha256sum sleep sort stat sync tail tar tee test timeout touch tr true uniq wc which whoami xargs""".split()

# first core, cores, lowest and highest clock in kHz, capacity: four little, three big, one prime
CLUSTERS = ((0, 4, 300000, 1803000, 250), (4, 3, 400000, 2348000, 800), (7, 1, 500000, 2850000, 1024))
PARTITION = 100 << 30  # bytes

# What is the phone's in a command: these folders and what lies in them.
_PHONE_PATH = re.compile(r"(?<![\w./-])/(?=(?:data|sdcard|system|vendor|sys|proc/loadavg)(?![\w.-]))")


class Tree:
    """The phone's files under `root`, what its commands print under `state`.

    Args:
        folder: Empty; nothing in its name may need quoting in a shell.
        properties: What getprop knows.
    """

    def __init__(self, folder: Path, properties: Mapping[str, str]):
        if not re.fullmatch(r"[\w./+-]+", str(folder)):
            raise ValueError(f"The stand-in's folder is {folder}, which a shell would misread: name a plain one.")
        self.root, self.state = folder / "phone", folder / "state"
        self._known: dict[Path, str] = {}
        (self.root / "data/local/tmp").mkdir(parents=True)
        (self.root / "sdcard").mkdir()
        self.state.mkdir()
        system = self.root / "system/bin"
        system.mkdir(parents=True)
        for tool in TOOLS:
            if found := shutil.which(tool):
                (system / tool).symlink_to(found)
        for command in COMMANDS.iterdir():
            (system / command.name).symlink_to(command)
        for name, value in properties.items():
            self._write(self.state / "properties" / name, value)
        self._write(self.state / "settings/global/airplane_mode_on", "1")
        self._write(self.root / "proc/loadavg", "0.42 0.36 0.30 1/2894 20411")
        self._build_cores()

    def path(self, name: str) -> Path:
        """Where the phone's file of that absolute name lies."""
        parts = [part for part in Path(name).parts if part not in ("/", ".")]
        if ".." in parts:
            raise ValueError(f"{name!r} steps upwards, which the stand-in does not follow.")
        return self.root.joinpath(*parts)

    def local(self, command: str) -> str:
        """The command with the phone's paths made this computer's."""
        return _PHONE_PATH.sub(f"{self.root}/", command)

    def remote(self, output: bytes) -> bytes:
        """The output with this computer's paths made the phone's."""
        root = str(self.root).encode()
        return output.replace(root + b"/", b"/").replace(root, b"/")

    def used(self) -> int:
        """Bytes that lie on /data."""
        sizes = []
        for path in (self.root / "data").rglob("*"):
            try:
                sizes.append(path.stat().st_size if path.is_file() else 0)
            except OSError:  # removed in between
                continue
        return sum(sizes)

    def show(self, hot: Hot, low_power: bool, battery: int, room: float, timeout: bool, thermalservice: bool) -> None:
        """Make everything that can be read say so."""
        texts = self.heat(hot) | {
            self.state / "dumpsys/power": _POWER.format(battery=battery),
            self.state / "dumpsys/battery": _BATTERY.format(battery=battery, tenths=round(hot.celsius * 10)),
            self.state / "settings/global/low_power": str(int(low_power)),
            self.state / "df": _df(room),
        }
        for path, text in texts.items():
            self._write(path, text)
        if not thermalservice:
            (self.state / "dumpsys/thermalservice").unlink(missing_ok=True)
            self._known.pop(self.state / "dumpsys/thermalservice", None)
        tool = self.root / "system/bin/timeout"
        if not timeout:
            tool.unlink(missing_ok=True)
        elif not tool.is_symlink():
            tool.symlink_to(shutil.which("timeout"))

    def heat(self, hot: Hot) -> dict[Path, str]:
        """What files say when it is that hot."""
        cores = self.root / "sys/devices/system/cpu/cpufreq"
        zones = self.root / "sys/class/thermal"
        texts = {
            self.state / "dumpsys/thermalservice": _THERMAL.format(
                status=hot.status, core=hot.celsius + 9, skin=hot.celsius + 2, battery=hot.celsius
            ),
            zones / "thermal_zone0/temp": str(round((hot.celsius + 9) * 1000)),
            zones / "thermal_zone1/temp": str(round(hot.celsius * 1000)),
        }
        for first, _, _, highest, _ in CLUSTERS:
            allowed = highest if first == 0 else round(highest * hot.capped)
            texts[cores / f"policy{first}/scaling_max_freq"] = str(allowed)
            texts[cores / f"policy{first}/scaling_cur_freq"] = str(allowed)
        return texts

    def forget(self) -> None:
        """Somebody else may have changed the files: write them all next time."""
        self._known.clear()

    def _build_cores(self) -> None:
        cpu = self.root / "sys/devices/system/cpu"
        zones = self.root / "sys/class/thermal"
        count = sum(size for _, size, _, _, _ in CLUSTERS)
        texts = {cpu / name: f"0-{count - 1}" for name in ("possible", "present", "online")}
        texts |= {zones / "thermal_zone0/type": "cpu-0-0", zones / "thermal_zone1/type": "battery"}
        links = {}
        for first, size, lowest, highest, capacity in CLUSTERS:
            policy = cpu / f"cpufreq/policy{first}"
            cores = " ".join(str(core) for core in range(first, first + size))
            texts |= {
                policy / "related_cpus": cores,
                policy / "affected_cpus": cores,
                policy / "cpuinfo_min_freq": str(lowest),
                policy / "cpuinfo_max_freq": str(highest),
                policy / "scaling_min_freq": str(lowest),
                policy / "scaling_governor": "sched_pixel",
                policy / "stats/time_in_state": f"{lowest} 81234\n{highest} 5678",
            }
            for core in range(first, first + size):
                texts[cpu / f"cpu{core}/cpu_capacity"] = str(capacity)
                links[cpu / f"cpu{core}/cpufreq"] = f"../cpufreq/policy{first}"
        for path, text in texts.items():
            self._write(path, text)
        for path, target in links.items():
            path.symlink_to(target)

    def _write(self, path: Path, text: str) -> None:
        if self._known.get(path) == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        self._known[path] = text


def properties(model: str, abi: str, sdk: int) -> dict[str, str]:
    """What getprop knows of a phone with Android of that API level."""
    release = {23: "6.0.1", 28: "9", 29: "10", 30: "11", 31: "12", 33: "13"}.get(sdk, str(sdk - 20))
    return {
        "ro.product.manufacturer": "amc",
        "ro.product.brand": "amc",
        "ro.product.model": model,
        "ro.product.name": "standin",
        "ro.product.device": "standin",
        "ro.product.cpu.abi": abi,
        "ro.product.cpu.abilist": abi,
        "ro.soc.manufacturer": "amc",
        "ro.soc.model": "SI8000",
        "ro.board.platform": "standin",
        "ro.hardware": "standin",
        "ro.build.version.sdk": str(sdk),
        "ro.build.version.release": release,
        "ro.build.fingerprint": f"amc/standin/standin:{release}/SI.230101.001/1234567:user/release-keys",
        "ro.build.type": "user",
        "ro.serialno": "STANDIN0001",
        "sys.boot_completed": "1",
    }


def _df(room: float) -> str:
    available = int(min(room, PARTITION)) >> 10
    used = (PARTITION >> 10) - available
    percent = round(100 * used / (used + available))
    return (
        "Filesystem      1K-blocks      Used Available Use% Mounted on\n"
        f"/dev/block/dm-8 {PARTITION >> 10:9} {used:9} {available:9} {percent:3}% /data"
    )


# Formats: what real phones print, cut down to what somebody reads.
_THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue={core:.1f}, mType=0, mName=AP, mStatus=0}}
\tTemperature{{mValue={battery:.1f}, mType=2, mName=BAT, mStatus=0}}
\tTemperature{{mValue={skin:.1f}, mType=3, mName=SKIN, mStatus={status}}}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{{mValue={core:.1f}, mType=0, mName=AP, mStatus=0}}
\tTemperature{{mValue={battery:.1f}, mType=2, mName=BAT, mStatus=0}}
\tTemperature{{mValue={skin:.1f}, mType=3, mName=SKIN, mStatus={status}}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=thermal-cpufreq-0}}"""
_BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 2871000
  status: 2
  health: 2
  present: true
  level: {battery}
  scale: 100
  voltage: 4212
  temperature: {tenths}
  technology: Li-ion"""
_POWER = """POWER MANAGER (dumpsys power)

Power Manager State:
  mDirty=0x0
  mWakefulness=Awake
  mWakefulnessChanging=false
  mIsPowered=true
  mPlugType=2
  mBatteryLevel={battery}
  mStayOn=false"""
