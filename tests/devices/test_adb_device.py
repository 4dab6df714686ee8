"""The way to the phone, through real adb clients to the stand-in: right numbers, or an error that names the cause."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter

from amc_tf.devices import timing
from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.adb_device import AdbDevice, Throttled
from amc_tf.devices.android.adb_errors import LinkLost, StorageFull, TimedOut
from amc_tf.devices.android.phone_folder import PhoneFolder
from amc_tf.devices.timing import Timing
from amc_tf.errors import DeviceError
from tests.devices import models
from tests.devices.clients import CLIENTS
from tests.standin_adbd import Crash, Hot, Next, StandIn, Truncate, Vanish

pytestmark = pytest.mark.timeout(120)

RUN = "@@ran"  # part of the command that runs the benchmark program
BYTES = 40_000


@pytest.fixture(scope="module", autouse=True)
def brief_warm_ups() -> Iterator[None]:
    """What is measured here need not be steady, and half a second is longer than most of the measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_WARMUP_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module")
def fast(tmp_path_factory) -> Path:
    return models.write(tmp_path_factory.mktemp("models") / "fast.tflite", 16, 32, BYTES)


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Path:
    """Sixteen times the work of `fast`, and the same number of bytes."""
    return models.write(tmp_path_factory.mktemp("models") / "slow.tflite", 64, 32, BYTES)


@pytest.fixture(scope="module")
def usual(slow) -> float:
    """What `slow` takes in this process at least, microseconds: the fastest run waits for no other process."""
    interpreter = Interpreter(str(slow), num_threads=1)
    interpreter.allocate_tensors()
    times = []
    for _ in range(100):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


@pytest.fixture(params=CLIENTS, ids=lambda path: Path(path).parent.name)
def client(request) -> str:
    return request.param


def opened(phone: StandIn, client: str = CLIENTS[-1], **arguments) -> AdbDevice:
    quick = {"timeout": 10.0, "cool_down": 0.3, "reconnect": 10.0}
    return AdbDevice(phone.serial, phone.binary, adb=client, environment=phone.env, **quick | arguments)


def measured(device: AdbDevice, path: Path, seconds: float = 0.01) -> Timing:
    """As briefly as it can be; what is compared with other times needs some seconds."""
    return device.benchmark_many([path], min_runs=10, min_seconds=seconds)[0]


@pytest.mark.parametrize(
    ("client", "program"),
    [(CLIENTS[0], "tflite"), *((CLIENTS[-1], program) for program in ("tflite", "tflite_old", "litert"))],
)
def test_a_model_takes_on_the_phone_what_it_takes_here(tmp_path, slow, usual, client, program) -> None:
    with StandIn(tmp_path, program) as phone, opened(phone, client) as device:
        timing = device.benchmark(slow, min_runs=20, min_seconds=0.1)
    assert 0.4 < timing.min_us / usual < 2.5
    assert timing.runs >= 20
    assert timing.min_us <= timing.median_us
    assert timing.memory_mb > 0 and timing.init_us > 0
    assert timing.delegated == (None if program == "tflite_old" else (1, 1))
    assert (timing.p95_us is None) == (program == "tflite_old")


def test_a_measurement_says_where_and_how_it_was_made(phone, fast) -> None:
    with opened(phone, num_threads=2) as device:
        said = json.loads(json.dumps(device.benchmark(fast, min_runs=5, min_seconds=0.01).to_dict()))["environment"]
    assert said["device"] == device.name == f"adb:{phone.serial}"
    assert {name: said[name] for name in device.identity} == device.identity
    assert (said["program"], said["threads"], said["cpu_mask"], said["delegate"]) == ("tflite", "2", "f0", "xnnpack")
    assert (said["model"], said["soc"], said["abi"]) == ("Stand_In", "SI8000", "arm64-v8a")
    assert "--num_threads=2" in said["flags"]
    for when in ("before", "after"):
        assert (said[when]["thermal_status"], said[when]["battery_celsius"], said[when]["capped"]) == (0, 31.0, False)
    assert any("taskset f0 ./" in command for command in phone.commands)


def test_models_of_equal_size_are_measured_as_themselves(phone, fast, slow, tmp_path) -> None:
    assert fast.stat().st_size == slow.stat().st_size
    one = tmp_path / "candidate.tflite"
    with opened(phone) as device:
        first, second, again = device.benchmark_many([fast, slow, fast], min_runs=10, min_seconds=0.05)
        shutil.copy(fast, one)
        as_fast = measured(device, one, 0.05)
        shutil.copy(slow, one)  # the same name and size as before
        as_slow = measured(device, one, 0.05)
    assert second.min_us > 4 * first.min_us
    assert again.min_us < second.min_us / 4
    assert as_slow.min_us > 4 * as_fast.min_us
    assert len([name for name in phone.pushes if name.endswith(".tflite")]) == 2


def test_a_profile_lists_the_operators(phone, fast) -> None:
    with opened(phone) as device:
        (operator,) = device.profile(fast)
    assert "Conv" in operator.kind and operator.us > 0


# What is wrong with the phone from the start.


@pytest.mark.parametrize(
    ("fault", "words"),
    [("unauthorized", "has not authorised this computer: unlock it"), ("offline", "cannot be connected to.*refused")],
)
def test_a_phone_that_does_not_let_us_in(phone, client, fault, words) -> None:
    setattr(phone.faults, fault, True)
    with pytest.raises(DeviceError, match=words):
        opened(phone, client, reconnect=0.5)


def test_a_phone_that_is_authorised_later(phone) -> None:
    phone.faults.unauthorized = True
    with pytest.raises(DeviceError, match="authorised"):
        opened(phone)
    phone.faults.unauthorized = False
    opened(phone).close()


REFUSED = {
    "too many threads": ({"num_threads": 5}, ValueError, "num_threads is 5.*4 cores"),
    "no thread": ({"num_threads": 0}, ValueError, "num_threads is 0"),
    "half a thread": ({"num_threads": 0.5}, ValueError, "num_threads is 0.5"),
    "unknown delegate": ({"delegate": "npu"}, ValueError, "delegate is 'npu'"),
    "missing core": ({"cpu_mask": "100"}, ValueError, r"cores \[8\]"),
    "no time": ({"timeout": 0}, ValueError, "timeout is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_fit_the_phone(phone, case) -> None:
    arguments, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        opened(phone, **arguments)


def test_a_delegate_that_the_program_lacks(tmp_path) -> None:
    with StandIn(tmp_path, "litert") as phone:
        with pytest.raises(ValueError, match="'none'.*litert program.*xnnpack, gpu"):
            opened(phone, delegate="none", fixed_performance=True)
        assert (phone.files, phone.fixed_performance) == ([], None)


def test_a_binary_that_is_no_benchmark_program(phone, tmp_path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(DeviceError, match="no benchmark_model"):
        AdbDevice(phone.serial, other, adb=CLIENTS[0], environment=phone.env)


def test_a_binary_for_another_processor(phone) -> None:
    phone.faults.crash = Crash(126, stderr="/system/bin/sh: ./x: not executable: 64-bit ELF file\n")
    with pytest.raises(DeviceError, match="built for its ABI"):
        opened(phone)


def test_a_binary_that_was_exchanged_meanwhile(phone, fast) -> None:
    with opened(phone) as device:
        phone.binary.write_text(phone.binary.read_text() + "# changed\n")
        with pytest.raises(DeviceError, match="was exchanged since"):
            measured(device, fast)
    phone.make_binary("tflite")


# What goes wrong on the way: an error of its own or, where trying again helps, a right number in the end.

FAULTS = {
    "unauthorised": ("unauthorized", True, DeviceError, "has not authorised"),
    "gone": ("offline", True, LinkLost, "offline|cannot be connected"),
    "unanswered": ("hang", True, TimedOut, "did not finish `adb shell` within"),
    "battery saver": ("low_power", True, DeviceError, "battery saver"),
    "hot": ("hot", Hot(status=2), Throttled, "too hot to measure.*thermal status is 2"),
    "warm": ("hot", Hot(celsius=41.0), Throttled, "41.0 degrees Celsius, more than 37"),
    "gets hot": ("heats", Hot(status=1), Throttled, "during each of 2.*thermal status is 1"),
    "clocks go down": (
        "heats",
        Hot(capped=0.6),
        Throttled,
        "during each of 2.*policy4 may run at 1408 MHz, before at 2348",
    ),
    "output cut": ("truncate", Next(Truncate(lines=9, program=True), when=RUN), DeviceError, "cut short"),
    "inference fails": ("fails", True, DeviceError, "failed with exit status 1"),
    "aborts": ("crash", Crash(134, stderr="FATAL: no good\n"), DeviceError, "aborted .no good"),
    "killed by Android": ("crash", Crash(137), DeviceError, "killed.*out of memory"),
    "link always lost": ("vanish", Next(Vanish(0.05, away=0.1), times=9, when=RUN), LinkLost, "was lost"),
    "full": ("full", 1000, StorageFull, "is full.*free some"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_ends_in_its_own_error_and_the_phone_is_used_again(phone, fast, case) -> None:
    name, fault, error, words = FAULTS[case]
    # A busy computer takes its time for what goes well, so no limit is shorter than what it has to show.
    limits = {"unanswered": {"timeout": 3.0}, "gone": {"reconnect": 1.0}}
    with opened(phone, retries=1, **limits.get(case, {})) as device:
        setattr(phone.faults, name, fault)
        with pytest.raises(error, match=words) as raised:
            measured(device, fast)
        assert str(raised.value).count(". ") == 0  # one sentence
        setattr(phone.faults, name, None)
        if case == "unauthorised":  # adb's server learns of the permission when it is told
            device._adb._call(["wait-for-device"], 60.0)
        assert measured(device, fast).median_us > 0


AGAIN = {
    "vanishes in mid-run": ("vanish", lambda: Next(Vanish(0.1, away=0.3), when=RUN)),
    "vanishes when asked for heat": ("vanish", lambda: Next(Vanish(0.0, away=0.3), when="thermalservice")),
    "vanishes while it is copied to": ("vanish", lambda: Next(Vanish(0.0, away=0.3), when=".tflite")),
    "output has no end": ("truncate", lambda: Next(Truncate(lines=12), when=RUN)),
    "output is missing": ("truncate", lambda: Next(Truncate(size=0), when=RUN)),
    "refuses": ("refuse", lambda: Next(True, when=RUN)),
    "slow": ("slow", lambda: 0.1),
    "hot for a while": ("hot", lambda: Next(Hot(status=2), times=2, when="thermalservice")),
    "throttles once": ("heats", lambda: Next(Hot(status=1), when=RUN)),
    "clocks go down once": ("heats", lambda: Next(Hot(capped=0.5), when=RUN)),
    "saw no timeout": ("no_timeout_tool", lambda: True),
}


@pytest.mark.parametrize(
    ("client", "case"),
    [(client, case) for case in AGAIN for client in CLIENTS if client == CLIENTS[-1] or "vanish" in case],
)
def test_a_fault_that_passes_leaves_a_right_measurement(phone, slow, usual, client, case) -> None:
    name, fault = AGAIN[case]
    if name == "no_timeout_tool":
        phone.faults.no_timeout_tool = True
    with opened(phone, client) as device:
        setattr(phone.faults, name, fault())
        timing = measured(device, slow, 0.05)
    assert 0.4 < timing.min_us / usual < 2.5
    assert timing.environment["after"]["thermal_status"] == 0


def test_output_cut_by_the_program_is_never_a_number(phone, fast) -> None:
    with opened(phone) as device:
        for lines in (0, 5, 13):
            phone.faults.truncate = Next(Truncate(lines=lines, program=True), when=RUN)
            with pytest.raises(DeviceError, match="cut short"):
                measured(device, fast)


@pytest.mark.parametrize("tool", [True, False], ids=["timeout", "no timeout"])
def test_a_program_that_never_ends_is_ended(phone, fast, tool) -> None:
    phone.faults.no_timeout_tool = not tool
    with opened(phone, timeout=3.0) as device:  # for all that is asked of a busy computer too
        phone.faults.stuck = Next(True, when=RUN)
        started = time.monotonic()
        with pytest.raises(TimedOut, match="was killed there" if tool else "within"):
            measured(device, fast)
        assert time.monotonic() - started < 60  # it would never end by itself
        assert phone.left_running() == {}
        assert measured(device, fast).median_us > 0


def test_a_delegate_that_is_not_used_is_no_measurement_of_it(phone, fast) -> None:
    with opened(phone, delegate="gpu") as device:
        phone.faults.fallback = True
        with pytest.raises(DeviceError, match="'gpu' was not used.*GPU acceleration is unsupported"):
            measured(device, fast)


def test_clocks_that_are_held_down_from_the_start_are_said(phone, fast) -> None:
    phone.faults.capped = 0.8
    with opened(phone) as device:
        assert measured(device, fast).environment["before"]["capped"] is True


def test_an_android_6(tmp_path, fast) -> None:
    with StandIn(tmp_path, sdk=23) as phone:
        phone.faults.old = True
        with opened(phone, CLIENTS[0]) as device:
            timing = measured(device, fast)
            phone.faults.truncate = Next(Truncate(lines=12), when=RUN)
            assert measured(device, fast).median_us > 0
        assert timing.environment["before"]["thermal_status"] is None
        assert timing.environment["before"]["battery_celsius"] == 31.0
        assert phone.files == []


def test_a_full_phone_has_room_once_older_models_are_removed(phone, fast, slow) -> None:
    with opened(phone) as device:
        measured(device, fast)
        phone.faults.full = BYTES // 2
        assert measured(device, slow).median_us > 0
        assert len([name for name in phone.files if name.endswith(".tflite")]) == 1


def test_a_folder_that_something_cleared_is_made_again(phone, fast) -> None:
    with opened(phone) as device:
        measured(device, fast)
        for folder in phone.path("/data/local/tmp").iterdir():
            shutil.rmtree(folder)
        assert measured(device, fast).median_us > 0


def test_a_model_that_was_damaged_while_the_phone_was_away_is_copied_again(phone, fast) -> None:
    with opened(phone) as device:
        measured(device, fast)
        (model,) = phone.path("/data/local/tmp").rglob("*.tflite")
        whole = model.read_bytes()
        model.write_bytes(whole[:-1] + b"x")
        phone.faults.vanish = Next(Vanish(0.05, away=0.2), when=RUN)
        measured(device, fast)
        assert model.read_bytes() == whole


def test_a_missing_model_and_a_closed_device(phone, fast, tmp_path) -> None:
    with opened(phone) as device:
        with pytest.raises(DeviceError, match="cannot be read"):
            measured(device, tmp_path / "none.tflite")
        assert device.benchmark_many([]) == []
    with pytest.raises(DeviceError, match="was closed"):
        measured(device, fast)
    device.close()


def test_a_program_that_went_on_while_the_phone_was_away_is_ended_first(phone, fast) -> None:
    with opened(phone) as device:
        phone.faults.stuck = Next(True, when=RUN)
        phone.faults.vanish = Next(Vanish(0.6, away=0.1), when=RUN)
        measured(device, fast)
        assert phone.left_running() == {}


# What stays behind: nothing.


def test_a_phone_that_comes_back_too_late_is_tidied_up_all_the_same(phone, fast) -> None:
    device = opened(phone, reconnect=1.0)
    phone.faults.stuck = Next(True, when=RUN)
    phone.faults.vanish = Next(Vanish(0.6), when=RUN)
    with pytest.raises(LinkLost):
        measured(device, fast)
    phone.faults.offline = False
    assert phone.leftovers() and phone.files
    device.close()


def test_an_exception_leaves_nothing_behind(phone, fast) -> None:
    with pytest.raises(ZeroDivisionError), opened(phone, fixed_performance=True) as device:
        measured(device, fast)
        assert phone.fixed_performance is True
        assert phone.files
        raise ZeroDivisionError
    assert phone.fixed_performance is False


SCRIPT = """
import json, sys
from amc_tf.devices.android.adb_device import AdbDevice
given = json.loads(sys.argv[1])
device = AdbDevice(given["serial"], given["binary"], adb=given["adb"], environment=given["env"], fixed_performance=True)
print("open", flush=True)
device.benchmark(given["model"], min_seconds=60.0)
"""


def test_ctrl_c_in_mid_measurement_leaves_nothing_behind(phone, fast) -> None:
    given = {
        "serial": phone.serial, "binary": str(phone.binary), "adb": CLIENTS[-1], "env": phone.env, "model": str(fast),
    }  # fmt: skip
    code = [sys.executable, "-c", SCRIPT, json.dumps(given)]
    process = subprocess.Popen(code, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    while not any("--min_secs=60.0" in line and "taskset" not in line for line in phone.leftovers().values()):
        assert process.poll() is None
        time.sleep(0.05)
    assert phone.fixed_performance is True
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said
    assert (phone.files, phone.leftovers(), phone.fixed_performance) == ([], {}, False)


def test_a_forked_process_does_not_tidy_up(phone, fast) -> None:
    with opened(phone) as device:
        child = os.fork()
        if child == 0:
            device.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert phone.files


def test_a_phone_that_is_gone_at_the_end_is_said_to_be_untidy(tmp_path) -> None:
    with StandIn(tmp_path) as phone:
        device = opened(phone, reconnect=0.3)
        phone.faults.offline = True
        with pytest.warns(UserWarning, match="could not be tidied up.*rm -rf /data/local/tmp/amc_tf-"):
            device.close()


def test_fixed_performance_comes_back_after_the_link_was_lost(phone, fast) -> None:
    with opened(phone, fixed_performance=True) as device:
        subprocess.run(
            [CLIENTS[0], "-s", phone.serial, "shell", "cmd power set-fixed-performance-mode-enabled false"],
            env=phone.env,
            check=True,
            timeout=20,
        )  # fmt: skip - as a restart does
        phone.faults.vanish = Next(Vanish(0.05, away=0.2), when=RUN)
        measured(device, fast)
        assert phone.fixed_performance is True


def test_a_phone_without_fixed_performance(tmp_path) -> None:
    with StandIn(tmp_path) as phone:
        command = phone.path("/system/bin/cmd")
        command.unlink()
        command.write_text("#!/bin/sh\necho Unknown command: $2\nexit 255\n")
        command.chmod(0o755)
        with pytest.raises(DeviceError, match="no fixed-performance mode .Unknown command"):
            opened(phone, fixed_performance=True)
        assert phone.files == []


# The folder by itself.


def test_the_folder_keeps_to_its_room(phone, fast, slow) -> None:
    adb = Adb(phone.serial, environment=phone.env, adb=CLIENTS[0])
    folder = PhoneFolder(adb, timeout=10.0, room=BYTES + 1)
    program = folder.put(phone.binary, program=True)
    first, second = folder.put(fast), folder.put(slow)
    left = {name.rpartition("/")[2] for name in phone.files}
    assert {program, second} <= left and first not in left
    assert folder.put(fast) == first
    adb.shell(folder.remove())


def test_a_file_that_does_not_arrive_whole_is_refused(phone, fast) -> None:
    class Damaging(Adb):
        def push(self, local, remote, **more):
            super().push(local, remote, **more)
            phone.path(remote).write_bytes(b"x" * BYTES)

    adb = Damaging(phone.serial, environment=phone.env, adb=CLIENTS[0])
    folder = PhoneFolder(adb, timeout=10.0)
    with pytest.raises(DeviceError, match="does not arrive"):
        folder.put(fast)
    assert len(phone.pushes) == 2
    adb.shell(folder.remove())


def test_what_killed_processes_left_long_ago_is_removed(phone) -> None:
    old, young = (phone.path(f"/data/local/tmp/amc_tf-{name}") for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "model.tflite").write_bytes(b"x")
    os.utime(old, (time.time() - 13 * 3600,) * 2)
    with AdbDevice(phone.serial, phone.binary, adb=CLIENTS[0], environment=phone.env):
        assert not old.exists() and young.exists()
    shutil.rmtree(young)


def test_a_link_lost_while_the_program_is_made_executable(phone, fast, tmp_path) -> None:
    plain = tmp_path / "benchmark_model"
    shutil.copy(phone.binary, plain)
    plain.chmod(0o600)  # as it comes from a download
    phone.faults.refuse = Next(True, when="chmod 755")
    with AdbDevice(phone.serial, plain, adb=CLIENTS[0], environment=phone.env) as device:
        assert device.benchmark(fast, min_runs=1, min_seconds=0.01).median_us > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", -1),
        ("retries", 0.5),
        ("retries", True),
        ("reconnect", -1.0),
        ("cool_down", float("nan")),
        ("min_battery", -1),
        ("min_battery", 101),
        ("max_celsius", 0),
        ("max_celsius", float("nan")),
    ],
)
def test_limits_and_patience_that_make_no_sense(phone, name, value) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value}; .* expected.$"):
        AdbDevice(phone.serial, phone.binary, environment=phone.env, **{name: value})


def test_an_error_names_the_model_that_it_is_about(phone, fast, tmp_path) -> None:
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(b"no flatbuffer at all" * 10)
    with opened(phone) as device:
        with pytest.raises(DeviceError, match="^wrong.tflite: "):
            device.benchmark_many([fast, wrong, fast], min_runs=1, min_seconds=0.01)
        with pytest.raises(DeviceError, match="^wrong.tflite: "):
            device.profile(wrong)
        phone.faults.crash = Crash(137)
        with pytest.raises(DeviceError, match="^fast.tflite: .* was killed"):
            measured(device, fast)
