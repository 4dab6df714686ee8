"""The command line that measures: what it prints, what it leaves, and how it ends."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from amc_tf.devices.timing import Operator, Timing
from tests.devices import models
from tests.devices.clients import CLIENTS
from tests.standin_adbd import Crash, Hot, StandIn
from tools import bench_adb

pytestmark = pytest.mark.timeout(120)

BRIEF = ("--rounds", "2", "--runs", "10", "--seconds", "0.02", "--timeout", "10", "--cool-down", "0.1")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """A model, and one of a sixteenth of its work."""
    folder = tmp_path_factory.mktemp("models")
    return models.write(folder / "slow.tflite", 64, 32), models.write(folder / "fast.tflite", 16, 32)


@pytest.fixture(scope="module")
def standin(tmp_path_factory) -> Iterator[StandIn]:
    with StandIn(tmp_path_factory.mktemp("phone")) as phone:
        yield phone


@pytest.fixture
def phone(standin) -> Iterator[StandIn]:
    for name in ("unauthorized", "hot", "low_power", "full", "crash"):
        setattr(standin.faults, name, None)
    standin.log.clear()
    yield standin
    assert standin.files == []


def run(phone: StandIn, *arguments) -> Result:
    given = [*map(str, arguments), "--adb", CLIENTS[-1], "--serial", phone.serial, "--binary", str(phone.binary)]
    return CliRunner(env=phone.env).invoke(bench_adb.main, given)


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
    lines = printed(bench_adb.profile_table(Path("a.tflite"), operators)).splitlines()
    assert lines[0].strip() == "a.tflite, by operator"
    assert [line.split() for line in lines[2:4]] == [
        ["CONV_2D", "0.300", "75.0%", "1", "y"],
        ["SOFTMAX", "0.100", "25.0%", "2", "p"],
    ]
    assert "0.000" in printed(bench_adb.profile_table(Path("a.tflite"), (Operator("RESHAPE", "", 0.0),)))


def test_what_a_reader_should_know() -> None:
    state = {"thermal_status": None, "battery_celsius": None, "capped": True, "charging": True}
    timing = Timing((100.0, 150.0, 200.0), 90.0, 30, environment={"before": state, "after": state})
    assert [line.split()[0:3] for line in bench_adb.remarks(timing)] == [
        ["processes", "differ", "by"],
        ["the", "phone", "held"],
        ["the", "phone", "was"],
    ]
    assert bench_adb.heat(timing) == "-"
    steady = Timing((100.0, 101.0), 90.0, 30, environment={"before": {"load": 0.1}, "after": {"load": 0.2}})
    assert list(bench_adb.remarks(steady)) == [] and bench_adb.heat(steady) == "load 0.2"


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
    done = CliRunner().invoke(bench_adb.main, [str(pair[1]), *BRIEF, "--rounds", "1", "--host", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["device"]["device"] == "host"
    shown = CliRunner().invoke(bench_adb.main, [str(pair[1]), *BRIEF, "--rounds", "1", "--host"])
    assert shown.exit_code == 0 and "load" in shown.stdout and "device host" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to measure"),
        (["none.tflite"], "does not exist"),
        (["--doctor", "--host"], "the phone alone"),
        (["MODEL", "--host", "--profile"], "--profile is for phones"),
        (["MODEL", "--host", "--fixed-performance"], "--fixed-performance is for phones"),
        (["MODEL", "--host", "--delegate", "gpu"], "delegate is 'gpu'"),
        (["MODEL", "--threads", "0"], "threads"),
    ],
)
def test_wrong_usage_ends_with_2(pair, arguments, words) -> None:
    given = [str(pair[0]) if word == "MODEL" else word for word in arguments]
    done = CliRunner().invoke(bench_adb.main, given)
    assert done.exit_code == 2 and words in done.output


def test_arguments_that_do_not_fit_the_phone_end_with_2(phone, pair) -> None:
    done = run(phone, pair[0], "--threads", "7")
    assert done.exit_code == 2 and "num_threads is 7" in done.stderr


def test_no_usable_phone_ends_with_3(phone, pair) -> None:
    phone.faults.unauthorized = True
    done = run(phone, pair[0], "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "has not authorised this computer" in done.stderr


@pytest.mark.parametrize("fault", [{"hot": Hot(status=3)}, {"crash": Crash(134)}], ids=["hot", "crash"])
def test_a_failed_measurement_ends_with_4(phone, pair, monkeypatch, fault) -> None:
    opened = bench_adb.open_phone

    def then_faulty(**given):
        device = opened(**given)
        for name, value in fault.items():
            setattr(phone.faults, name, value)
        return device

    monkeypatch.setattr(bench_adb, "open_phone", then_faulty)
    done = run(phone, pair[0], *BRIEF)
    assert (done.exit_code, done.stdout) == (4, "")
    assert ("too hot" if "hot" in fault else "aborted") in done.stderr


def test_ctrl_c_ends_with_130_and_leaves_nothing(phone, pair, monkeypatch) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_adb, "interleave", interrupted)
    done = run(phone, pair[0])
    assert done.exit_code == 130 and "stopped" in done.stderr
    assert phone.pushes and phone.files == []


def test_the_doctor_of_a_healthy_phone(phone) -> None:
    done = run(phone, "--doctor", "--json")
    steps = json.loads(done.stdout)
    assert (done.exit_code, [step["ok"] for step in steps]) == (0, [True] * 10)
    assert "mask f0" in done.stdout and "tflite program" in steps[-1]["said"]


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
def test_the_doctor_says_what_to_fix(phone, fault, value, words) -> None:
    setattr(phone.faults, fault, value)
    done = run(phone, "--doctor")
    assert done.exit_code == 3
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("NO ")]
    assert re.match(words, line), line


def test_the_doctor_without_a_phone(tmp_path) -> None:
    with StandIn(tmp_path) as phone:
        done = CliRunner(env=phone.env).invoke(bench_adb.main, ["--doctor", "--adb", CLIENTS[0]])
    assert done.exit_code == 3 and "NO  authorisation: adb sees no phone" in done.stdout


def test_the_doctor_without_the_program(phone, tmp_path) -> None:
    env = phone.env | {"XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}  # where nobody listens
    given = ["--doctor", "--adb", CLIENTS[-1], "--serial", phone.serial]
    done = CliRunner(env=env).invoke(bench_adb.main, given)
    assert done.exit_code == 3
    assert "NO  benchmark_model: benchmark_model cannot be fetched" in done.stdout
    assert str(tmp_path) in done.stdout and "https://storage.googleapis.com/litert/binaries/" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_nothing_on_the_phone(phone, pair, number) -> None:
    command = [sys.executable, "tools/bench_adb.py", *map(str, pair), "--seconds", "20", "--serial", phone.serial]
    process = subprocess.Popen([*command, "--binary", str(phone.binary), "--adb", CLIENTS[-1]], env=phone.env)
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
        bench_adb.end_in_order()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(SystemExit) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.code == 128 + signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
