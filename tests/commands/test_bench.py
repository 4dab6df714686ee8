"""The commands bench and doctor, and the script for both: their output, what they leave behind, and how they end."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from amc_tf import cli
from amc_tf.commands import bench, bench_output
from amc_tf.devices import benchmark_model, timing
from amc_tf.devices.android import benchmark_binary
from amc_tf.devices.android.consent import ACCEPT
from amc_tf.devices.timing import Operator, Timing
from tests.devices import models
from tests.devices.clients import CLIENTS
from tests.standin_adbd import Crash, Hot, StandIn
from tools import bench_adb

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
FRONT_ENDS = ("amc-tf", "bench_adb")  # the package's commands, the script in tools/
WORDS = {
    ("amc-tf", "bench"): ["bench"],
    ("amc-tf", "doctor"): ["doctor"],
    ("bench_adb", "bench"): [],
    ("bench_adb", "doctor"): ["--doctor"],
}
NAMES = {("amc-tf", command): f"amc-tf {command}" for command in ("bench", "doctor")}  # what messages begin with
# As a process, which says at its end whether it loaded TensorFlow.
ENTRY = """
import atexit, sys
atexit.register(lambda: print("tensorflow" in sys.modules, file=sys.stderr))
sys.argv[0] = "amc-tf"
from amc_tf.cli import main
main()
"""
PROCESSES = {"amc-tf": ["-c", ENTRY], "bench_adb": [str(ROOT / "tools/bench_adb.py")]}
BRIEF = ("--rounds", "2", "--runs", "10", "--seconds", "0.02", "--timeout", "10", "--cool-down", "0.1")


@pytest.fixture(scope="module", autouse=True)
def brief_warm_ups() -> Iterator[None]:
    """What is measured here need not be steady, and half a second is longer than most of the measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_WARMUP_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """A model, and one of a sixteenth of its work."""
    folder = tmp_path_factory.mktemp("models")
    return models.write(folder / "slow.tflite", 64, 32), models.write(folder / "fast.tflite", 16, 32)


@pytest.fixture(params=FRONT_ENDS)
def front(request) -> str:
    return request.param


def call(front: str, command: str, *arguments, env: dict[str, str] | None = None) -> Result:
    main = {"amc-tf": cli.main, "bench_adb": bench_adb.main}[front]
    given = [*WORDS[front, command], *map(str, arguments)]
    return CliRunner(env=env).invoke(main, given, prog_name=front)


def phone_arguments(phone: StandIn) -> list[str]:
    return ["--adb", CLIENTS[-1], "--serial", phone.serial, "--binary", str(phone.binary)]


def run(phone: StandIn, *arguments, front: str = "amc-tf", command: str = "bench") -> Result:
    return call(front, command, *arguments, *phone_arguments(phone), env=phone.env)


def begins(said: str, front: str, command: str = "bench") -> bool:
    return said.startswith(f"{NAMES.get((front, command), front)}: ")


def keys(said: Any) -> Any:
    """The names in JSON, without the values."""
    if isinstance(said, dict):
        return {name: keys(value) for name, value in said.items()}
    return [keys(value) for value in said if isinstance(value, (dict, list))] if isinstance(said, list) else None


def test_the_table(phone, pair) -> None:
    done = run(phone, *pair, *BRIEF, "--rounds", 5)
    assert done.exit_code == 0, done.output
    header, slow, fast = (line.split() for line in done.stdout.splitlines()[:3])
    assert header[:5] == ["model", "median", "ms", "p90", "ms"]
    assert (slow[0], slow[4:7], fast[0]) == ("slow.tflite", ["1.00", "[1.00,", "1.00]"], "fast.tflite")
    assert float(slow[1]) > 4 * float(fast[1])
    assert float(fast[4]) == pytest.approx(float(slow[1]) / float(fast[1]), rel=0.5)
    assert float(fast[5].strip("[,")) <= float(fast[4]) <= float(fast[6].strip("]"))
    assert ("1 of 1" in done.stdout, "0, 31.0 °C" in done.stdout) == (True, True)


def test_the_profile(phone, pair) -> None:
    done = run(phone, pair[1], *BRIEF, "--rounds", "1", "--profile", "--json")
    assert done.exit_code == 0, done.output
    (fast,) = json.loads(done.stdout)["models"]
    assert [("Conv" in each["kind"], each["us"] > 0, each["calls"]) for each in fast["operators"]] == [(True, True, 1)]


def test_the_table_of_operators() -> None:
    operators = (Operator("CONV_2D", "y", 300.0), Operator("SOFTMAX", "p", 100.0, 2))
    lines = printed(bench_output.profile_table(Path("a.tflite"), operators)).splitlines()
    assert lines[0].strip() == "a.tflite, by operator"
    assert [line.split() for line in lines[2:4]] == [
        ["CONV_2D", "0.300", "75.0%", "1", "y"],
        ["SOFTMAX", "0.100", "25.0%", "2", "p"],
    ]
    assert "0.000" in printed(bench_output.profile_table(Path("a.tflite"), (Operator("RESHAPE", "", 0.0),)))


def test_remarks() -> None:
    state = {"thermal_status": None, "battery_celsius": None, "capped": True, "charging": True}
    timing = Timing((100.0, 150.0, 200.0), 90.0, 30, environment={"before": state, "after": state})
    assert [line.split()[0:3] for line in bench_output.remarks(timing)] == [
        ["processes", "differ", "by"],
        ["the", "phone", "held"],
        ["the", "phone", "was"],
    ]
    assert bench_output.heat(timing) == "-"
    steady = Timing((100.0, 101.0), 90.0, 30, environment={"before": {"load": 0.1}, "after": {"load": 0.2}})
    assert list(bench_output.remarks(steady)) == [] and bench_output.heat(steady) == "load 0.2"


def printed(table) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_json(phone, pair) -> None:
    done = run(phone, *pair, *BRIEF, "--json", "--threads", "2", "--cpu-mask", "c0")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["device"]["threads"], said["device"]["cpu_mask"]) == ("2", "c0")
    slow, fast = said["models"]
    assert len(slow["processes"]) == 2 and slow["runs"] >= 20
    assert fast["speed_up"]["low"] is fast["speed_up"]["high"] is None  # two rounds say nothing of that
    assert fast["speed_up"]["value"] == pytest.approx(slow["median_us"] / fast["median_us"], rel=0.5)
    assert "operators" not in slow
    assert fast["environment"]["after"]["thermal_status"] == 0


def test_this_computer(pair) -> None:
    done = call("amc-tf", "bench", pair[1], *BRIEF, "--rounds", 1, "--host", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["device"]["device"] == "host"
    shown = call("bench_adb", "bench", pair[1], *BRIEF, "--rounds", 1, "--host")
    assert shown.exit_code == 0 and "load" in shown.stdout and "device host" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to measure"),
        (["none.tflite"], "does not exist"),
        (["MODEL", "--host", "--profile"], "--profile is for phones"),
        (["MODEL", "--host", "--fixed-performance"], "--fixed-performance is for phones"),
        (["MODEL", "--host", "--yes"], "--yes is for phones"),
        (["MODEL", "--host", "--delegate", "gpu"], "delegate is 'gpu'"),
        (["MODEL", "--threads", "0"], "threads"),
    ],
)
def test_wrong_usage_ends_with_2(front, pair, arguments, words) -> None:
    done = call(front, "bench", *[pair[0] if word == "MODEL" else word for word in arguments])
    assert done.exit_code == 2 and words in done.output


@pytest.mark.parametrize("also", ["--host", "MODEL"])
def test_the_scripts_doctor_looks_at_the_phone_alone(pair, also) -> None:
    done = call("bench_adb", "doctor", pair[0] if also == "MODEL" else also)
    assert done.exit_code == 2 and "the phone alone" in done.output


def test_the_scripts_doctor_accepts_measuring_options(phone) -> None:
    assert run(phone, *BRIEF, "--profile", front="bench_adb", command="doctor").exit_code == 0


def test_arguments_that_do_not_fit_the_phone_end_with_2(front, phone, pair) -> None:
    done = run(phone, pair[0], "--threads", "7", front=front)
    assert done.exit_code == 2 and "num_threads is 7" in done.stderr and begins(done.stderr, front)


def test_no_usable_phone_ends_with_3(front, phone, pair) -> None:
    phone.faults.unauthorized = True
    done = run(phone, pair[0], "--json", front=front)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "has not authorised this computer" in done.stderr and begins(done.stderr, front)


@pytest.mark.parametrize("fault", [{"hot": Hot(status=3)}, {"crash": Crash(134)}], ids=["hot", "crash"])
def test_a_failed_measurement_ends_with_4(front, phone, pair, monkeypatch, fault) -> None:
    opened = bench.open_phone

    def then_faulty(*arguments, **settings):
        device = opened(*arguments, **settings)
        for name, value in fault.items():
            setattr(phone.faults, name, value)
        return device

    monkeypatch.setattr(bench, "open_phone", then_faulty)
    done = run(phone, pair[0], *BRIEF, front=front)
    assert (done.exit_code, done.stdout) == (4, "")
    assert ("too hot" if "hot" in fault else "aborted") in done.stderr and begins(done.stderr, front)


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_130_and_leaves_nothing(front, phone, pair, monkeypatch) -> None:
    monkeypatch.setattr(bench, "interleave", interrupted)
    done = run(phone, pair[0], front=front)
    assert done.exit_code == 130 and "stopped" in done.stderr and begins(done.stderr, front)
    assert phone.pushes and phone.files == []


def test_ctrl_c_ends_the_doctor_with_130_and_leaves_nothing(front, phone, monkeypatch) -> None:
    monkeypatch.setattr(benchmark_model, "program", interrupted)  # reads the output of the first run
    done = run(phone, front=front, command="doctor")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "stopped" in done.stderr and begins(done.stderr, front, "doctor")
    assert phone.pushes and phone.files == []


def test_the_doctor_of_a_healthy_phone(phone) -> None:
    answers = [run(phone, "--json", front=front, command="doctor") for front in FRONT_ENDS]
    steps, of_the_script = (json.loads(done.stdout) for done in answers)
    assert ([done.exit_code for done in answers], [step["ok"] for step in steps]) == ([0, 0], [True] * 10)
    assert "mask f0" in answers[0].stdout and "tflite program" in steps[-1]["said"]
    assert [(each["step"], keys(each)) for each in of_the_script] == [(each["step"], keys(each)) for each in steps]


@pytest.mark.parametrize(
    ("fault", "value", "words"),
    [
        ("unauthorized", True, "NO  authorisation: .*unlock it"),
        ("hot", Hot(status=2), "NO  heat, battery and clocks: .*is too hot to measure .its thermal"),
        ("low_power", True, "NO  heat, battery and clocks: .*switch it off"),
        ("full", 50 << 20, "NO  space: .* has 50 MB left"),
        ("crash", Crash(126), "NO  running it: .*built for its ABI"),
    ],
)
def test_the_doctor_tells_what_to_fix(phone, fault, value, words) -> None:
    setattr(phone.faults, fault, value)
    done = run(phone, command="doctor")
    assert done.exit_code == 3
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("NO ")]
    assert re.match(words, line), line


def test_the_doctor_without_a_phone(tmp_path) -> None:
    with StandIn(tmp_path) as phone:
        done = call("bench_adb", "doctor", "--adb", CLIENTS[0], env=phone.env)
    assert done.exit_code == 3 and "NO  authorisation: adb sees no phone" in done.stdout


def test_the_doctor_without_the_program(phone, tmp_path) -> None:
    env = phone.env | {"AMC_TF_CACHE": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}  # where nobody listens
    done = call("amc-tf", "doctor", "--adb", CLIENTS[-1], "--serial", phone.serial, env=env)
    assert done.exit_code == 3
    assert "NO  benchmark_model: benchmark_model cannot be fetched" in done.stdout
    assert str(tmp_path) in done.stdout and "https://storage.googleapis.com/litert/binaries/" in done.stdout


@pytest.mark.filterwarnings("ignore:benchmark_model")  # the stand-in's is not the official one
def test_a_fetched_program_runs_only_once_it_was_confirmed(front, phone, pair, tmp_path) -> None:
    env = phone.env | {"AMC_TF_CACHE": str(tmp_path), ACCEPT: ""}
    there = tmp_path / f"benchmark_model-{benchmark_binary.VERSION}-arm64-v8a"
    shutil.copy(phone.binary, there)
    wanted = (benchmark_binary.sha256(there), "--yes", ACCEPT)

    def said(command: str, *arguments) -> Result:
        return call(front, command, *arguments, "--adb", CLIENTS[-1], "--serial", phone.serial, env=env)

    done = said("bench", pair[1], *BRIEF)
    assert done.exit_code == 3 and begins(done.stderr, front) and all(part in done.stderr for part in wanted)
    done = said("doctor")
    assert done.exit_code == 3 and all(part in done.stdout for part in ("NO  benchmark_model", *wanted))
    assert not phone.pushes
    done = said("bench", pair[1], *BRIEF, "--rounds", 1, "--json", "--yes")
    assert (done.exit_code, json.loads(done.stdout)["device"]["binary"]) == (0, wanted[0]) and wanted[0] in done.stderr
    done = said("doctor")
    assert done.exit_code == 0 and wanted[0] not in done.stderr
    there.write_bytes(there.read_bytes() + b"\n")
    done = said("bench", pair[1], *BRIEF, "--yes")
    assert done.exit_code == 3 and wanted[0] in done.stderr and benchmark_binary.sha256(there) in done.stderr


def process(front: str, command: str, *arguments, cwd: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *PROCESSES[front], *WORDS[front, command], *map(str, arguments)],
        cwd=cwd, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_messages_begin_with_the_name_of_the_program(front, pair) -> None:
    done = process(front, "bench", "fast.tflite", "--adb", "nosuch", cwd=pair[1].parent, env=dict(os.environ))
    assert done.returncode == 3 and "names 'nosuch'" in done.stderr and begins(done.stderr, front)


def test_both_print_the_same_from_any_directory_without_importing_tensorflow(phone, pair) -> None:
    said = {}
    for front in FRONT_ENDS:
        given = ["fast.tflite", *BRIEF, "--rounds", 1, "--json", *phone_arguments(phone)]
        done = process(front, "bench", *given, cwd=pair[1].parent, env=phone.env)
        assert (done.returncode, done.stderr) == (0, {"amc-tf": "False\n", "bench_adb": ""}[front])
        said[front] = json.loads(done.stdout)
    assert keys(said["amc-tf"]) == keys(said["bench_adb"])
    assert said["amc-tf"]["models"][0]["model"] == "fast.tflite"


@pytest.mark.parametrize(("front", "number"), [("amc-tf", signal.SIGTERM), ("bench_adb", signal.SIGHUP)])
def test_a_signal_that_ends_it_leaves_nothing_on_the_phone(phone, pair, front, number) -> None:
    given = [*WORDS[front, "bench"], *map(str, pair), "--seconds", "20", *phone_arguments(phone)]
    process = subprocess.Popen([sys.executable, *PROCESSES[front], *given], cwd=ROOT, env=phone.env)
    deadline = time.monotonic() + 60
    while sum("@@ran" in event.text for event in phone.log) < 2:  # the first one asks which program it is
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As nohup wants it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        cli.end_in_order()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(SystemExit) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.code == 128 + signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_that_a_system_lacks_is_skipped(monkeypatch) -> None:
    """As SIGHUP on Windows, which has SIGBREAK in its place."""
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        cli.end_in_order()
        assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
