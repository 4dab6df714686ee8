"""The stand-in phone, asked directly by the real adb clients: what the tests of AdbDevice rest on."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices import models
from tests.standin_adbd import Crash, Event, Hot, Next, StandIn, Truncate, Vanish
from tests.waiting import wait_for

TMP = "/data/local/tmp"


def bundled() -> str | None:
    """The client that adbutils brings."""
    spec = importlib.util.find_spec("adbutils")
    path = Path(spec.origin).parent / "binaries/adb" if spec and spec.origin else None
    return str(path) if path and path.is_file() else None


CLIENTS = {"installed": shutil.which("adb"), "adbutils": bundled()}


class Client:
    """One adb client and the phone that it talks to."""

    def __init__(self, adb: str, phone: StandIn):
        self._adb, self._phone = adb, phone
        said = subprocess.run([adb, "version"], env=phone.env, capture_output=True, text=True, timeout=20).stdout
        self.major = int(re.search(r"Version (\d+)", said)[1])

    def __call__(self, *arguments: str | Path, timeout: float = 20, **options) -> subprocess.CompletedProcess:
        """Standard input is empty unless `input` is given; text unless `text` is False."""
        settings = {"capture_output": True, "text": True, "env": self._phone.env, "timeout": timeout} | options
        if "input" not in settings:
            settings["stdin"] = subprocess.DEVNULL
        return subprocess.run([self._adb, *map(str, arguments)], **settings)

    def shell(self, command: str, **options) -> subprocess.CompletedProcess:
        return self("shell", command, **options)

    def out(self, command: str) -> str:
        """What a command prints that must go well."""
        done = self.shell(command)
        assert done.returncode == 0, done
        return done.stdout

    def state(self) -> str:
        done = self("-s", self._phone.serial, "get-state")
        return (done.stdout + done.stderr).strip()

    def connect(self) -> "Client":
        """Asks again where the client gave up on its server, which a busy computer starts slowly."""
        wait_for(lambda: f"connected to {self._phone.serial}\n" in self("connect", self._phone.serial).stdout)
        return self

    def wait_until(self, state: str) -> None:
        wait_for(lambda: state in self.state())


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path) as phone:
        yield phone
    assert phone.leftovers() == {}


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest, phone: StandIn) -> Client:
    """Every real client that there is, not connected yet."""
    if CLIENTS[request.param] is None:
        pytest.skip(f"there is no adb client of this kind: {request.param}")
    return Client(CLIENTS[request.param], phone)


@pytest.fixture
def adb(phone: StandIn) -> Client:
    """The newest client that there is, connected: for what does not depend on the client."""
    return Client(CLIENTS["adbutils"] or CLIENTS["installed"], phone).connect()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.write(tmp_path / "m.tflite", size=8, channels=4)


def test_there_is_a_real_client() -> None:
    assert any(CLIENTS.values()), "no adb is installed: `apt-get install adb` or `pip install adbutils`"


def test_connects_and_is_listed(client: Client, phone: StandIn) -> None:
    client.connect()
    line = client("devices", "-l").stdout.splitlines()[1]
    assert re.fullmatch(rf"{phone.serial} +device product:standin model:Stand_In device:standin transport_id:\d+", line)
    assert client.state() == "device"
    assert phone.log == [Event("connect", phone.serial)]


def test_a_second_phone_beside_the_first(client: Client, phone: StandIn, tmp_path: Path) -> None:
    client.connect()
    with StandIn(tmp_path / "second", model="Other", beside=phone) as second:
        assert second.env == phone.env
        client("connect", second.serial)
        done = client.shell("true")
        assert (done.returncode, "more than one device/emulator" in done.stderr) == (1, True)
        assert client("-s", second.serial, "shell", "getprop ro.product.model").stdout == "Other\n"


def test_the_shell_keeps_streams_apart_and_passes_the_exit_code_and_input(client: Client) -> None:
    client.connect()
    done = client.shell("cat; echo err >&2; exit 7", input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "err\n")
    assert client.shell("kill -ABRT $$").returncode == 134
    assert client.shell("nosuch").returncode == 127
    big = client.shell("head -c 3000000 /dev/zero | tr '\\0' x")
    assert big.stdout == "x" * 3000000


def test_exec_out_is_raw_and_has_no_exit_code(client: Client) -> None:
    client.connect()
    done = client("exec-out", "printf 'a\\nb\\000'; exit 3", text=False)
    assert (done.returncode, done.stdout) == (0, b"a\nb\0")


@pytest.mark.parametrize("size", [0, 70_000, 3_000_001])
def test_pushes_and_pulls_what_it_was_given(client: Client, phone: StandIn, tmp_path: Path, size: int) -> None:
    client.connect()
    sent, back = tmp_path / "sent.bin", tmp_path / "back.bin"
    data = os.urandom(size)
    sent.write_bytes(data)
    sent.chmod(0o750)
    os.utime(sent, (1_600_000_000, 1_600_000_000))
    assert client("push", sent, f"{TMP}/new/x.bin").returncode == 0
    assert client("pull", f"{TMP}/new/x.bin", back).returncode == 0
    assert back.read_bytes() == data
    assert client.out(f"cd {TMP}/new && sha256sum x.bin").split()[0] == hashlib.sha256(data).hexdigest()
    assert client.out(f"stat -c '%a %s %Y' {TMP}/new/x.bin") == f"750 {size} 1600000000\n"
    assert phone.files == ["new", "new/x.bin"]
    assert phone.pushes == [f"{TMP}/new/x.bin"]
    assert Event("pull", f"{TMP}/new/x.bin", size) in phone.log


def test_a_push_into_a_folder_and_a_pull_of_it(client: Client, phone: StandIn, tmp_path: Path) -> None:
    client.connect()
    (tmp_path / "a.txt").write_text("a")
    client("push", tmp_path / "a.txt", TMP)
    assert phone.files == ["a.txt"]
    client.out(f"mkdir {TMP}/real && ln -s real {TMP}/link")
    client("push", tmp_path / "a.txt", f"{TMP}/link")
    assert client.out(f"cat {TMP}/real/a.txt") == "a"
    assert client("pull", TMP, tmp_path / "whole").returncode == 0
    assert (tmp_path / "whole/a.txt").read_text() == "a"


def test_a_push_and_a_pull_that_cannot_be(client: Client, tmp_path: Path) -> None:
    client.connect()
    (tmp_path / "a").write_text("a")
    refused = client("push", tmp_path / "a", "/system/bin/a")
    assert refused.returncode == 1
    assert "remote couldn't create file: Permission denied" in refused.stdout + refused.stderr
    missing = client("pull", "/nope", tmp_path / "b")
    assert missing.returncode == 1
    assert "failed to stat remote object '/nope': No such file or directory" in missing.stdout + missing.stderr


def test_an_unauthorized_phone_until_the_user_agrees(client: Client, phone: StandIn) -> None:
    phone.faults.unauthorized = True
    assert client("connect", phone.serial).stdout == f"failed to authenticate to {phone.serial}\n"
    assert "device unauthorized" in client.shell("true").stderr
    assert f"{phone.serial}\tunauthorized" in client("devices").stdout
    phone.faults.unauthorized = False
    client.wait_until("device")
    wait_for(lambda: client.state() == "device")
    assert client.out("echo hi") == "hi\n"


def test_an_offline_phone_until_it_returns(client: Client, phone: StandIn) -> None:
    client.connect()
    phone.faults.offline = True
    client.wait_until("device offline")
    done = client.shell("true")
    assert (done.returncode, "device offline" in done.stderr) == (1, True)
    phone.faults.offline = False
    wait_for(lambda: client.state() == "device")
    assert client.out("echo hi") == "hi\n"


def test_a_full_phone_says_so_until_there_is_room(client: Client, phone: StandIn, tmp_path: Path) -> None:
    client.connect()
    (tmp_path / "half.bin").write_bytes(bytes(600_000))
    phone.faults.full = 1_000_000
    assert client("push", tmp_path / "half.bin", f"{TMP}/1").returncode == 0
    assert int(client.out(f"df -k {TMP} | tail -1").split()[3]) == 400_000 // 1024
    done = client("push", tmp_path / "half.bin", f"{TMP}/2")
    assert (done.returncode, "remote write failed: No space left on device" in done.stdout + done.stderr) == (1, True)
    assert phone.files == ["1"]
    client.out(f"rm {TMP}/1")
    assert client("push", tmp_path / "half.bin", f"{TMP}/2").returncode == 0


def test_a_phone_that_vanishes_in_mid_command(client: Client, phone: StandIn) -> None:
    client.connect()
    phone.faults.vanish = Next(Vanish(1.0, away=0), when="sleep")
    done = client.shell("echo one; sleep 0.1; (sleep 30; echo two) ; echo __RC__=$?")
    assert done.stdout == "one\n"
    # What the newest client has put right: the oldest one does not say that the rest is missing.
    assert done.returncode == {29: 0, 36: 255}.get(client.major, done.returncode)
    assert done.stderr == ""
    assert client("wait-for-device").returncode == 0
    assert client.out("echo back") == "back\n"


def test_a_phone_that_vanishes_in_mid_push(client: Client, phone: StandIn, tmp_path: Path) -> None:
    client.connect()
    (tmp_path / "x.bin").write_bytes(bytes(3_000_000))
    phone.faults.vanish = Next(Vanish(away=0), when="push")
    assert client("push", tmp_path / "x.bin", f"{TMP}/x.bin").returncode == 1
    wait_for(lambda: phone.files == [])
    wait_for(lambda: client.state() == "device")
    assert client("push", tmp_path / "x.bin", f"{TMP}/x.bin").returncode == 0


def test_a_command_quicker_than_the_fault_is_struck_before_its_exit_code(adb: Client, phone: StandIn) -> None:
    phone.faults.vanish = Next(Vanish(60))
    assert adb.shell("echo one; exit 3").returncode != 3
    assert adb.state().endswith("device offline")


def test_a_phone_that_hangs(client: Client, phone: StandIn, tmp_path: Path) -> None:
    client.connect()
    phone.faults.hang = Next(True, when="echo")
    with pytest.raises(subprocess.TimeoutExpired):
        client.shell("echo hi", timeout=0.5)
    assert client.out("echo hi") == "hi\n"
    (tmp_path / "x").write_text("x")
    phone.faults.hang = Next(True, when=f"push {TMP}")
    with pytest.raises(subprocess.TimeoutExpired):
        client("push", tmp_path / "x", f"{TMP}/x", timeout=0.5)
    assert client("push", tmp_path / "x", f"{TMP}/x").returncode == 0


def test_a_slow_phone_and_a_service_that_it_refuses(client: Client, phone: StandIn) -> None:
    client.connect()
    phone.faults.slow = Next(0.4)
    began = time.monotonic()
    assert client.out("echo hi") == "hi\n"
    assert time.monotonic() - began > 0.4
    phone.faults.refuse = Next(True)
    done = client.shell("echo hi")
    assert (done.returncode, done.stderr) == (1, "error: closed\n")


def test_an_old_phone_has_no_exit_codes(client: Client, phone: StandIn) -> None:
    phone.faults.old = True
    client.connect()
    done = client.shell("echo out; echo err >&2; exit 7", text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\r\nerr\r\n", b"")
    assert client("exec-out", "echo out", text=False).stdout == b"out\n"
    assert "not found" in client.shell("timeout 1 true").stdout
    assert "Can't find service: thermalservice" in client.shell("dumpsys thermalservice").stdout


def test_killing_adb_hangs_up_on_the_shell_alone(client: Client, phone: StandIn) -> None:
    client.connect()
    with pytest.raises(subprocess.TimeoutExpired):
        client.shell("sleep 61; echo over", timeout=2)  # a busy computer is slow to begin
    wait_for(lambda: list(phone.leftovers().values()) == ["sleep 61"])
    assert client.out("pidof sleep").split() == [str(pid) for pid in phone.leftovers()]
    client.out("pkill sleep")
    wait_for(lambda: phone.leftovers() == {})
    with pytest.raises(subprocess.TimeoutExpired):  # the end of the test kills this one
        client.shell("nohup sleep 62; echo over", timeout=2)  # a busy computer is slow to begin
    assert phone.leftovers()


def test_paths_are_the_phones(adb: Client, phone: StandIn, tmp_path: Path) -> None:
    assert adb.out("pwd; cd /data/local/tmp; pwd") == f"/\n{TMP}\n"
    adb.out(f"echo 'it is here' >'{TMP}/a file'")
    assert phone.path(f"{TMP}/a file").read_text() == "it is here\n"
    cores = "/sys/devices/system/cpu/cpufreq"
    assert adb.out(f"for f in {cores}/policy*; do echo $f $(cat $f/related_cpus) $(cat $f/cpuinfo_max_freq); done") == (
        f"{cores}/policy0 0 1 2 3 1803000\n{cores}/policy4 4 5 6 2348000\n{cores}/policy7 7 2850000\n"
    )
    assert adb.out("cat /sys/devices/system/cpu/cpu5/cpufreq/scaling_max_freq") == "2348000\n"
    assert adb.out("printf /dataset/x/sys | wc -c") == "14\n"  # paths of its own that only look like the phone's
    with pytest.raises(ValueError, match="a plain one"):
        StandIn(tmp_path / "not plain")


def test_commands_of_android(adb: Client, phone: StandIn) -> None:
    assert adb.out("getprop ro.product.cpu.abi; getprop ro.build.version.sdk; getprop ro.no") == "arm64-v8a\n33\n\n"
    assert "[ro.product.model]: [Stand_In]\n" in adb.out("getprop")
    assert adb.out("settings get global low_power; settings get global nosuch") == "0\nnull\n"
    assert "mWakefulness=Awake" in adb.out("dumpsys power")
    assert adb.out("taskset f0 echo pinned; taskset 0xf0 echo pinned") == "pinned\npinned\n"
    assert adb.shell("taskset 100 echo pinned").returncode == adb.shell("taskset big echo pinned").returncode == 1
    assert phone.fixed_performance is None
    adb.out("cmd power set-fixed-performance-mode-enabled true")
    assert phone.fixed_performance is True
    adb.out("cmd power set-fixed-performance-mode-enabled false")
    assert phone.fixed_performance is False
    assert adb.shell("timeout 0.1 sleep 5").returncode == 124
    assert phone.commands[-1] == "timeout 0.1 sleep 5"


def test_heat_clocks_battery_and_missing_tools(adb: Client, phone: StandIn) -> None:
    def seen() -> tuple[str, ...]:
        text = adb.out(
            "dumpsys thermalservice | grep 'Thermal Status'; dumpsys battery | grep -E 'level|temperature'; "
            "settings get global low_power; cat /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"
        )
        return tuple(line.split()[-1] for line in text.splitlines())

    cool = ("0", "87", "310", "0", "1803000", "2348000", "2850000")
    assert seen() == cool
    phone.faults.hot = Next(Hot(2, 44.5), after=1)
    assert [seen(), seen(), seen()] == [cool, ("2", "87", "445", *cool[3:]), cool]
    phone.faults.capped, phone.faults.low_power, phone.faults.battery = 0.5, True, 9
    assert seen() == ("0", "9", "310", "1", "1803000", "1174000", "1425000")
    phone.faults.capped = phone.faults.low_power = phone.faults.battery = None
    assert seen() == cool
    phone.faults.no_timeout_tool = Next(True)
    assert adb.shell("timeout 1 true").returncode == 127
    assert adb.shell("timeout 1 true").returncode == 0


def test_truncated_output(adb: Client, phone: StandIn) -> None:
    phone.faults.truncate = Next(Truncate(lines=2))
    done = adb.shell("echo 1; sleep 0.1; echo 2; sleep 0.1; echo 3; exit 5")
    assert (done.returncode, done.stdout) == (5, "1\n2\n")
    phone.faults.truncate = Next(Truncate(size=3))
    assert adb.out("echo 12; sleep 0.1; echo 345") == "12\n"


def test_a_fault_of_the_next_few_services(phone: StandIn) -> None:
    phone.faults.slow = Next(7, times=2, when="b", after=1)
    struck = [phone.faults.take("slow", text) for text in ("a", "b", "ab", "a", "b", "b")]
    assert struck == [None, None, 7, None, 7, None]
    phone.faults.slow = 3
    assert [phone.faults.take("slow", text) for text in "ab"] == [3, 3]
    with pytest.raises(AttributeError, match="no fault 'cold'"):
        phone.faults.cold = True


class Program:
    """The benchmark program on the phone."""

    def __init__(self, adb: Client, phone: StandIn, model: Path, program: str = "tflite"):
        self._adb = adb
        adb("push", phone.make_binary(program), f"{TMP}/benchmark_model")
        adb("push", model, f"{TMP}/{model.name}")
        self.command = f"cd {TMP} && ./benchmark_model --graph={model.name} --num_threads=1 --num_runs=10"
        self.command += " --warmup_min_secs=0.02 --min_secs=0.02"

    def __call__(self, *flags: str) -> subprocess.CompletedProcess:
        return self._adb.shell(f"{self.command} {' '.join(flags)}")


COUNT = r"count=(\d+) first=\d+ curr=\d+ min=(\d+) max=\d+ avg=[\d.e+]+ std=\d+"
PERCENTILES = r" p5=\d+ median=(\d+) p95=\d+"


def test_the_older_program(adb: Client, phone: StandIn, model: Path) -> None:
    run = Program(adb, phone, model)
    done = run("--num_runs=20000", "--use_xnnpack=true")
    assert done.returncode == 0
    out = done.stdout.splitlines()
    assert out[0] == "INFO: STARTING!"
    assert {"INFO: Min num runs: [20000]", "INFO: Use xnnpack: [1]", "INFO: Loaded model m.tflite"} <= set(out)
    counts = [re.fullmatch(f"INFO: {COUNT}{PERCENTILES}", line) for line in out if "count=" in line]
    assert len(counts) == 2 and int(counts[0][1]) < int(counts[1][1]) == 20000
    assert re.fullmatch(r"INFO: Memory footprint delta .* \(MB\): init=[\d.]+ overall=[\d.]+", out[-1])
    assert "VERBOSE: Replacing 1 out of 1 node(s) with delegate (TfLiteXNNPackDelegate)" in done.stderr
    assert "delegate" not in run("--use_xnnpack=false").stdout
    assert run("--dry_run=true").stdout.count("INFO: count=0 p5=0 median=0 p95=0\n") == 2
    assert run("--num_runs=100000000", "--max_secs=0.05").returncode == 0


def test_the_older_program_as_it_was(adb: Client, phone: StandIn, model: Path) -> None:
    done = Program(adb, phone, model, "tflite_old")("--use_xnnpack=true")
    out = done.stdout.splitlines()
    assert len([line for line in out if re.fullmatch(COUNT, line)]) == 2
    assert not any(line.startswith("INFO: ") for line in out)
    assert "Replacing 1 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions." in done.stderr


def test_the_newer_program(adb: Client, phone: StandIn, model: Path) -> None:
    done = Program(adb, phone, model, "litert")("--num_runs=30")
    assert done.returncode == 0
    counts = re.findall(f"^INFO: {COUNT}{PERCENTILES}$", done.stdout, re.M)
    assert len(counts) == 2 and int(counts[1][0]) >= 30
    assert "Inference timings" not in done.stdout + done.stderr
    assert "\n========== BENCHMARK RESULTS ==========\n" in done.stderr
    assert re.search(
        rf"^INFO: \[benchmark_litert_model.h:\d+\] Inference \(avg\):      [\d.]+ ms \({counts[1][0]} runs\)$",
        done.stderr,
        re.M,
    )


def test_latency_is_real(adb: Client, phone: StandIn, tmp_path: Path) -> None:
    fastest = []
    for size, channels in ((16, 16), (64, 32)):  # 64 times as many multiplications
        run = Program(adb, phone, models.write(tmp_path / f"{size}.tflite", size, channels))
        fastest.append(int(re.findall(COUNT + PERCENTILES, run("--min_secs=0.1").stdout)[1][1]))
    assert fastest[1] > 8 * fastest[0]


WRONG = {
    "no graph": (["--graph="], 1, "ERROR: Please specify the name of your TF Lite input file with --graph\n"),
    "missing": (["--graph=no"], 1, "ERROR: Could not open 'no'.\nERROR: Failed to load model no\n"),
    "no model": (
        ["--graph=benchmark_model"],
        1,
        "ERROR: The model is not a valid Flatbuffer buffer\nERROR: Failed to load model benchmark_model\n",
    ),
    "help": (["--help"], 1, "\t--use_xnnpack=1\n"),
    "bad value": (["--num_runs=x"], 1, "ERROR: Failed to parse flag 'num_runs' against argv '--num_runs=x'\n"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_older_program_refuses(adb: Client, phone: StandIn, model: Path, case: str) -> None:
    flags, code, text = WRONG[case]
    done = Program(adb, phone, model)(*flags)
    assert (done.returncode, text in done.stderr) == (code, True)
    assert done.stderr.endswith("ERROR: Benchmarking failed.\n")


def test_what_the_newer_program_refuses_it_does_not_explain(adb: Client, phone: StandIn, model: Path) -> None:
    run = Program(adb, phone, model, "litert")
    done = run("--graph=no")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines), lines[-1]) == (1, 2, "ERROR: Benchmarking failed.")
    assert run("--require_full_delegation=true").returncode == 134
    assert run("--help").returncode == 0


def test_a_flag_that_nobody_takes_is_only_warned_about(adb: Client, phone: StandIn, model: Path) -> None:
    for program, flag in (("tflite", "--use_npu=false"), ("litert", "--use_xnnpack=false")):
        done = Program(adb, phone, model, program)(flag)
        assert (done.returncode, f"WARN: Unconsumed cmdline flags: {flag}\n" in done.stdout) == (0, True)


def test_the_profile_of_operators_adds_up(adb: Client, phone: StandIn, model: Path) -> None:
    run = Program(adb, phone, model)
    for flags, kind in ((["--use_xnnpack=false"], "CONV_2D"), (["--use_xnnpack=true"], "TfLiteXNNPackDelegate")):
        out = run("--enable_op_profiling=true", *flags).stdout
        table = out.partition("Operator-wise Profiling Info for Regular Benchmark Runs:\n")[2].split("\n\n")[0]
        rows = [line.split("\t") for line in table.splitlines()[2:]]
        assert [row[1].strip() for row in rows] == [kind]
        assert rows[0][4].strip() == rows[0][5].strip() == "100.000%"
        mean = float(re.findall(r"Inference \(avg\): ([\d.e+]+)", out)[0])
        assert float(rows[0][3]) == pytest.approx(mean / 1e3, abs=1e-3)
        inside = out.partition("Delegate internal: \n")[2].splitlines()
        assert bool(inside) == (kind != "CONV_2D")
        if inside:
            assert inside[2].split("\t")[1:4] == ["Convolution (NHWC, F32) IGEMM".rjust(40), *rows[0][2:4]]
    run("--enable_op_profiling=true", "--op_profiling_output_mode=csv", "--op_profiling_output_file=ops.csv")
    assert "node type, first, avg_ms, %, cdf%, mem KB, times called, name\n" in phone.path(f"{TMP}/ops.csv").read_text()
    newer = Program(adb, phone, model, "litert")("--use_profiler=true")
    assert "Number of nodes executed: 1\n" in newer.stderr


def test_faults_of_the_program(adb: Client, phone: StandIn, model: Path) -> None:
    run = Program(adb, phone, model)
    gpu = ["--use_gpu=true", "--use_xnnpack=false"]
    assert "Explicitly applied GPU delegate, and the model graph will be completely" in run(*gpu).stdout
    phone.faults.fallback = True
    done = run(*gpu)
    assert (done.returncode, "WARN: GPU acceleration is unsupported on this platform.\n" in done.stdout) == (0, True)
    assert "Replacing" not in done.stderr
    phone.faults.crash = Next(Crash(134, stdout="half"))
    done = run()
    assert (done.returncode, done.stdout) == (134, "half")
    phone.faults.crash = Next(Crash(126, stderr="not executable: 64-bit ELF file\n"))
    done = run()
    assert (done.returncode, done.stderr) == (126, "not executable: 64-bit ELF file\n")
    phone.faults.truncate = Next(Truncate(lines=9, program=True))
    done = adb.shell(f"{run.command} 2>&1; echo __RC__=$?")
    assert "Inference timings" not in done.stdout and done.stdout.endswith("__RC__=0\n")
    phone.faults.fails = Next(True)
    done = run()
    assert (done.returncode, "Inference timings in us" in done.stdout) == (1, True)
    assert "failed to invoke.\n" in done.stderr
    phone.faults.heats = Next(Hot(3, 47.0, capped=0.5))
    status = "dumpsys thermalservice | grep -o 'Thermal Status: .'"
    out = adb.out(f"{status}; {run.command} >/dev/null; {status}")
    assert out == "Thermal Status: 0\nThermal Status: 3\n"
    assert adb.out(status) == "Thermal Status: 0\n"


def test_a_stuck_program_dies_of_sigkill_alone(adb: Client, phone: StandIn, model: Path) -> None:
    run = Program(adb, phone, model)
    phone.faults.stuck = True
    begun = "until grep -q 'at least 77 iterations' out; do sleep 0.05; done"  # and SIGTERM is ignored from there on
    ended = "kill $!; sleep 0.2; pidof benchmark_model; echo $!; kill -9 $!; wait $!; echo $?"
    out = adb.out(f"{run.command.replace(' &&', ';')} --num_runs=77 >out 2>&1 & {begun}; {ended}")
    found, started, code = out.split()
    assert (found, code) == (started, "137")
    assert phone.leftovers() == {}
