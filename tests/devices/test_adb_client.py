"""One phone through the real clients, old and new; what the stand-in cannot do, through a program that says it."""

import importlib.util
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amc_tf.devices.android.adb_client import Adb, devices, find_adb
from amc_tf.devices.android.adb_errors import LinkLost, StorageFull, TimedOut
from amc_tf.errors import DeviceError
from tests.devices.clients import CLIENTS
from tests.standin_adbd import Next, StandIn, Truncate, Vanish
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=CLIENTS, ids=lambda path: Path(path).parent.name)
def client(request) -> str:
    return request.param


@pytest.fixture
def phone(standin: StandIn) -> StandIn:
    """Healthy again; what a test pushes may stay."""
    standin.faults.clear()
    return standin


def opened(phone: StandIn, client: str = CLIENTS[-1], **arguments) -> Adb:
    return Adb(phone.serial, adb=client, environment=phone.env, **arguments)


# Which program.


def test_the_program_is_the_argument_else_adb_else_on_the_path_else_of_adbutils(tmp_path) -> None:
    given, named, on_path = (_program(tmp_path / name, "") for name in ("given", "named", "bin/adb"))
    environment = {"ADB": str(named), "PATH": str(on_path.parent)}
    assert find_adb(given, environment) == str(given)
    assert find_adb(None, environment) == str(named)
    assert find_adb(None, {"PATH": str(on_path.parent)}) == str(on_path)
    assert find_adb(None, {"PATH": ""}).endswith("adbutils/binaries/adb")


def test_no_program(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="no adb on this computer: install"):
        find_adb(None, {"PATH": str(tmp_path)})
    with pytest.raises(DeviceError, match="argument adb names 'nosuch'"):
        find_adb("nosuch", {"PATH": ""})
    with pytest.raises(DeviceError, match="variable ADB names 'nosuch'"):
        find_adb(None, {"PATH": "", "ADB": "nosuch"})


def test_a_program_for_another_computer(tmp_path) -> None:
    broken = tmp_path / "adb"
    broken.write_bytes(b"\x7fELF nothing that runs")
    broken.chmod(0o755)
    with pytest.raises(DeviceError, match="cannot be run"):
        devices(str(broken), {})


# Which phone.


def test_the_only_phone_a_named_one_and_two(phone, client, tmp_path) -> None:
    opened(phone, client)
    assert Adb(adb=client, environment=phone.env).serial == phone.serial
    with StandIn(tmp_path) as other:
        Adb(other.serial, adb=client, environment=phone.env)
        assert set(devices(client, phone.env)) >= {phone.serial, other.serial}
        with pytest.raises(DeviceError, match=f"2 phones are connected .*{other.serial}.*ANDROID_SERIAL"):
            Adb(adb=client, environment=phone.env)
        assert Adb(adb=client, environment=phone.env | {"ANDROID_SERIAL": other.serial}).serial == other.serial
        other.faults.offline = True
        wait_for(lambda: devices(client, phone.env).get(other.serial) != "device")
        assert Adb(adb=client, environment=phone.env).serial == phone.serial
    _disconnect(client, phone, other.serial)


def test_no_phone(tmp_path, client) -> None:
    with StandIn(tmp_path) as phone:
        with pytest.raises(DeviceError, match="adb sees no phone: connect one"):
            Adb(adb=client, environment=phone.env)
        with pytest.raises(LinkLost, match="knows no phone nosuch .connected: none"):
            Adb("nosuch", adb=client, environment=phone.env, patience=0.1)
        phone.faults.offline = True
        with pytest.raises(LinkLost, match="cannot be connected to .*refused"):
            opened(phone, client, patience=0.1)


def test_a_phone_that_needs_a_moment(phone, client) -> None:
    phone.faults.offline = True
    threading.Timer(0.5, lambda: setattr(phone.faults, "offline", False)).start()
    assert opened(phone, client, patience=10.0).shell("echo hello").output == "hello"


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("authorizing", LinkLost, "is authorizing: wake it up"),
        ("bootloader", DeviceError, "state 'bootloader', not running Android"),
        (
            "no permissions (missing udev rules? user is in the plugdev group); see [http://x]",
            DeviceError,
            "udev rules",
        ),
        ("unauthorized", DeviceError, "has not authorised this computer"),
    ],
)
def test_states_of_a_phone_on_a_cable(tmp_path, state, error, words) -> None:
    program = _program(tmp_path / "adb", f"printf 'List of devices attached\\nX1\\t{state}\\n\\n'")
    with pytest.raises(error, match=words):
        Adb("X1", adb=program, patience=0.0)
    with pytest.raises(error, match=words):
        Adb(adb=program, environment={}, patience=0.0)


def test_several_phones_of_which_none_is_ready(tmp_path) -> None:
    program = _program(tmp_path / "adb", "printf 'List of devices attached\\nX1\\toffline\\nX2\\tunauthorized\\n'")
    with pytest.raises(DeviceError, match="X1 is offline, X2 is unauthorized"):
        Adb(adb=program, environment={})


@pytest.mark.parametrize("prefix", ["error: ", "adb: "], ids=["old", "new"])
@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("device offline", LinkLost, "X1 is offline: wake it up"),
        ("device still authorizing", LinkLost, "X1 is still connecting"),
        ("device unauthorized.", DeviceError, "X1 has not authorised this computer"),
        ("device 'X1' not found", LinkLost, "was lost while running a command .*not found"),
        ("closed", LinkLost, "was lost while running a command .*closed"),
        ("failed to check server version: protocol fault", DeviceError, "port of the adb server is taken"),
        ("", LinkLost, "was lost while running a command"),
    ],
)
def test_what_a_client_says_of_a_command_that_it_could_not_run(tmp_path, prefix, said, error, words) -> None:
    script = f"case $1 in devices) printf 'X1\\tdevice\\n';; -s) echo \"{prefix}{said}\" >&2; exit 1;; esac"
    adb = Adb("X1", adb=_program(tmp_path / "adb", script))
    with pytest.raises(error, match=words) as raised:
        adb.shell("true")
    assert isinstance(raised.value, LinkLost) == (error is LinkLost)


# The server.


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["web server", "closes"])
def test_another_program_on_the_port_of_the_server(phone, client, answer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_answer, args=(other, answer), daemon=True).start()
        env = phone.env | {"ANDROID_ADB_SERVER_PORT": str(other.getsockname()[1])}
        with pytest.raises(DeviceError, match="taken by another program.*ANDROID_ADB_SERVER_PORT"):
            devices(client, env)


def test_a_server_that_never_answers(phone, client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = phone.env | {"ANDROID_ADB_SERVER_PORT": str(silent.getsockname()[1])}
        with pytest.raises(TimedOut, match="adb start-server did not end within 1 s.*kill-server"):
            devices(client, env, timeout=0.6)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("* failed to start daemon\nadb: cannot connect to daemon", "cannot be started .adb: cannot connect to daemon"),
        ("something new", "adb start-server failed .something new"),
    ],
)
def test_a_server_that_does_not_start(tmp_path, said, words) -> None:
    with pytest.raises(DeviceError, match=words):
        devices(str(_program(tmp_path / "adb", f"echo '{said}' >&2; exit 1")), {})


# Commands.


def test_words_arrive_as_they_are(phone, client) -> None:
    words = ["printf", "%s|", "a b", "it's", '"$HOME"', "*", "", "ü", "a\\nb"]
    reply = opened(phone, client).shell(words)
    assert (reply.output, reply.status) == ('a b|it\'s|"$HOME"|*||ü|a\\nb|', 0)


@pytest.mark.parametrize(
    ("line", "output", "status"),
    [
        ("exit 7", "", 7),
        ("echo a; echo b >&2; false", "a\nb", 1),
        ("printf 'no end of line'", "no end of line", 0),
        ("echo __RC__=5; exit 3", "__RC__=5", 3),
        ("nosuchcommand 2>/dev/null", "", 127),
        ("cat", "", 0),  # has nothing to read, so it does not wait
        ("kill -9 $$", "", 137),
    ],
)
def test_output_and_status(phone, client, line, output, status) -> None:
    if "kill" in line:
        line = "sh -c 'kill -9 $$' 2>/dev/null"
    reply = opened(phone, client).shell(line)
    assert (reply.output.removesuffix("Killed").strip("\n"), reply.status) == (output, status)


def test_the_callers_input_is_left_alone(phone, client) -> None:
    code = (
        "import json, sys; from amc_tf.devices.android.adb_client import Adb; "
        "serial, adb, env = json.loads(sys.argv[1]); "
        "Adb(serial, adb=adb, environment=env).shell('cat'); print(sys.stdin.read())"
    )
    given = [sys.executable, "-c", code, json.dumps([phone.serial, client, phone.env])]
    root = Path(__file__).parents[2]
    done = subprocess.run(given, input="mine", capture_output=True, text=True, cwd=root, check=True, timeout=30)
    assert done.stdout == "mine\n"


def test_an_old_phone_has_a_status_too(tmp_path, client) -> None:
    with StandIn(tmp_path, sdk=23) as phone:
        phone.faults.old = True
        reply = opened(phone, client).shell("echo a; echo b; exit 7")
    assert (reply.output, reply.status) == ("a\nb", 7)


def test_a_command_that_takes_too_long(phone, client) -> None:
    with pytest.raises(TimedOut, match=f"{phone.serial} did not finish `adb shell` within 0 s"):
        opened(phone, client).shell("sleep 3", timeout=0.3)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("vanish", Vanish(0.1, away=0.1)), ("truncate", Truncate(lines=1))],
    ids=["gone", "cut"],
)
def test_half_of_an_answer_is_none(phone, client, name, fault) -> None:
    adb = opened(phone, client)
    setattr(phone.faults, name, Next(fault, when="sleep"))
    with pytest.raises(LinkLost, match="lost while running a command"):
        adb.shell("echo a; sleep 0.5; echo b")
    adb.wait(10.0)
    assert adb.shell("echo c").output == "c"


def test_a_phone_that_withdraws_its_permission(phone, client) -> None:
    adb = opened(phone, client)
    phone.faults.unauthorized = True
    with pytest.raises(DeviceError, match="authorised|is offline|was lost"):
        adb.shell("true")
    with pytest.raises(DeviceError, match="has not authorised"):
        adb.wait(5.0)


# Files.


@pytest.mark.parametrize("size", [0, 10, 70_000, 2_500_000])
def test_a_file_arrives(phone, client, tmp_path, size) -> None:
    local = tmp_path / "a file's name"
    local.write_bytes(bytes(i * i % 251 for i in range(size)))
    opened(phone, client).push(local, "/data/local/tmp/there")
    there = phone.path("/data/local/tmp/there")
    assert there.read_bytes() == local.read_bytes()
    there.unlink()


def test_a_file_that_does_not_arrive(phone, client, tmp_path) -> None:
    local = tmp_path / "file"
    local.write_bytes(b"x" * 300_000)
    adb = opened(phone, client)
    with pytest.raises(DeviceError, match="'.*none' cannot be read .No such file"):
        adb.push(tmp_path / "none", "/data/local/tmp/x")
    with pytest.raises(DeviceError, match="refused a file .remote couldn't create file"):
        adb.push(local, "/system/x")
    phone.faults.full = 1000
    with pytest.raises(StorageFull, match="is full: no space was left in /data/local/tmp while copying file"):
        adb.push(local, "/data/local/tmp/x")
    phone.faults.full = None
    local.write_bytes(bytes(1 << 25))  # so much that it is still on its way when the phone goes
    phone.faults.vanish = Next(Vanish(0.0, away=0.1), when="push")
    with pytest.raises(LinkLost, match="lost while copying file .adb: error"):
        adb.push(local, "/data/local/tmp/x")
    adb.wait(10.0)
    adb.shell("rm -f /data/local/tmp/x")


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _answer(server: socket.socket, answer: bytes) -> None:
    """Says the same to whoever calls, until the server is closed."""
    while True:
        try:
            caller, _ = server.accept()
        except OSError:
            return
        with caller:
            caller.sendall(answer)


def _disconnect(client: str, phone: StandIn, serial: str) -> None:
    subprocess.run([client, "disconnect", serial], env=phone.env, check=True, capture_output=True, timeout=20)
