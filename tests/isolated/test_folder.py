"""Folders of isolated packages: pip fills each one once, completely or not at all; an error is one sentence."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from amc_tf.errors import SetupError
from amc_tf.isolated import folder as folders
from amc_tf.isolated import install, packages, provide
from amc_tf.isolated.folder import MANIFEST, Folder
from amc_tf.isolated.packages import PACKAGES, SETUPTOOLS
from tests.isolated import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a wheelhouse that pip must use instead of an index."""
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheelhouse"))
    monkeypatch.delenv("AMC_TF_OFFLINE", raising=False)
    for module in (folders, install, packages):
        monkeypatch.setattr(module, "tensorflow_version", lambda: "2.20.0")
    provide._folder.cache_clear()
    return tmp_path


@pytest.fixture
def package(home: Path) -> toy.Toy:
    return toy.wheel(home / "wheelhouse")


@pytest.fixture
def unpacked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.unpack_without_pip(monkeypatch, home / "wheelhouse")


def provided(package: toy.Toy) -> Path:
    """`provide` for a package outside of PACKAGES. The folder is checked again, as in another process."""
    provide._folder.cache_clear()
    return provide._folder(package, Folder(package).path)


def leftovers(home: Path) -> list[str]:
    """The entries of a cache that are neither locks nor complete folders."""
    found = (home / "cache" / "packages").glob("*")
    return sorted(path.name for path in found if path.suffix != ".lock" and not (path / MANIFEST).is_file())


def value(path: Path) -> str:
    command = [sys.executable, "-c", "import amc_toy; print(amc_toy.VALUE)"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True)
    return done.stdout.strip()


def test_pip_installs_with_one_line_and_only_again_after_damage(package, home, capfd, monkeypatch) -> None:
    path = provided(package)
    said = capfd.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "amc-toy 1.0" in said.err and str(path) in said.err
    assert value(path) == "42" and leftovers(home) == []
    listed = json.loads((path / MANIFEST).read_bytes())["files"]
    assert {"amc_toy.py", "amc_toy-1.0.dist-info/METADATA"} <= set(listed)
    with monkeypatch.context() as offline:
        offline.setenv("AMC_TF_OFFLINE", "1")  # and it does not need pip
        assert provided(package) == path
    assert capfd.readouterr().err == ""
    made_again(package, home, capfd, _change, "amc_toy.py is not the file that was installed")


def _change(path: Path) -> None:
    (path / "amc_toy.py").write_text("VALUE = 43\n")  # of the same length


def _lose(path: Path) -> None:
    (path / "amc_toy.py").unlink()


def _plant(path: Path) -> None:
    (path / "json.py").write_text("raise SystemExit('planted')\n")


def _plant_compiled(path: Path) -> None:
    (path / "json.pyc").write_bytes(b"of no source")


def _list(path: Path, files: object) -> None:
    (path / MANIFEST).write_text(json.dumps({"files": files}))


def _tear(path: Path) -> None:
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:20])


def _replace_by_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no folder\n")


def _replace_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    _change(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_change, "amc_toy.py is not the file that was installed"),
        (_lose, "amc_toy.py is missing"),
        (_plant, "json.py was not installed with it"),
        (_plant_compiled, "json.pyc was not installed with it"),
        (_tear, "cannot be read and compared"),
        (lambda path: (path / MANIFEST).write_text("[]"), "cannot be read and compared"),
        (lambda path: (path / MANIFEST).unlink(), "cannot be read and compared"),
        (lambda path: _list(path, {}), "its list of files is empty"),
        (lambda path: _list(path, {"/dev/zero": "", "../lock": ""}), "../lock is missing"),
        (lambda path: _list(path, ["amc_toy.py"]), "cannot be read and compared"),
        (_replace_by_a_file, "cannot be read and compared"),
        (_replace_by_a_link, "amc_toy.py is not the file that was installed"),
    ],
)
@pytest.mark.usefixtures("unpacked")
def test_a_damaged_folder_is_made_again(package, home, capfd, damage, said: str) -> None:
    made_again(package, home, capfd, damage, said)


def made_again(package, home, capfd, damage, said: str) -> None:
    path = provided(package)
    damage(path)
    capfd.readouterr()
    assert provided(package) == path
    (line,) = capfd.readouterr().err.splitlines()
    assert "installing amc-toy" in line and "(it is damaged: " in line and said in line
    assert value(path) == "42" and [name for name in leftovers(home) if name != "elsewhere"] == []


@pytest.mark.usefixtures("unpacked")
def test_a_damaged_folder_without_network_is_one_sentence(package, home, capfd, monkeypatch) -> None:
    _lose(provided(package))
    capfd.readouterr()
    monkeypatch.setenv("AMC_TF_OFFLINE", "1")
    with pytest.raises(SetupError, match="damaged: amc_toy.py is missing.* AMC_TF_OFFLINE is set: unset it, or run"):
        provided(package)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("unpacked")
def test_a_link_to_a_complete_folder_is_accepted(package, home, capfd) -> None:
    path = provided(package)
    path.rename(home / "other disk")
    path.symlink_to(home / "other disk")
    capfd.readouterr()
    assert provided(package) == path and capfd.readouterr().err == ""


@pytest.mark.usefixtures("unpacked")
def test_bytecode_is_no_damage(package) -> None:
    path = provided(package)
    assert value(path) == "42"
    shutil.rmtree(path / "__pycache__", ignore_errors=True)
    assert Folder(package).fault() is None


@pytest.mark.parametrize("difference", ["python", "tensorflow", "list"])
def test_environments_do_not_mix(package, home, monkeypatch, difference: str) -> None:
    before = Folder(package).path
    if difference == "python":
        monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-399")
    elif difference == "tensorflow":
        monkeypatch.setattr(folders, "tensorflow_version", lambda: "2.21.0")
    else:
        toy.wheel(home / "wheelhouse", "VALUE = 1\n")
    assert Folder(package).path != before


def test_offline_is_one_sentence_and_leaves_nothing(package, home, monkeypatch) -> None:
    monkeypatch.setenv("AMC_TF_OFFLINE", "1")
    with pytest.raises(SetupError) as caught:
        provided(package)
    path = Folder(package).path
    said = str(caught.value)
    assert "amc-tf setup amc-toy" in said and path.name in said and str(path.parent) in said and "2.20.0" in said
    assert "AMC_TF_OFFLINE is set" in said and "wheelhouse" not in said
    assert len(said.splitlines()) == 1 and not (home / "cache").exists()


@pytest.mark.parametrize(
    ("retries", "said"),
    [("0", "no package index that could be reached has amc-toy==1.0"), ("1", "the package index could not be reached")],
)
def test_no_network_is_one_sentence_and_leaves_nothing(package, home, monkeypatch, retries: str, said: str) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody listens
    monkeypatch.setenv("PIP_RETRIES", retries)  # of which pip says nothing if there is none
    with pytest.raises(SetupError, match=f"could not be installed .*{said}.*run `amc-tf setup amc-toy`") as caught:
        provided(package)
    assert len(str(caught.value).splitlines()) == 1 and leftovers(home) == []
    assert not Folder(package).exists


def test_a_file_with_another_hash_is_refused(package, home) -> None:
    before = (package.folder / "amc-toy.txt").read_text()
    toy.wheel(home / "wheelhouse", "VALUE = 1\n")
    (package.folder / "amc-toy.txt").write_text(before)
    with pytest.raises(SetupError, match="amc-toy==1.0 from file.*is not the file that was tested"):
        provided(package)
    assert leftovers(home) == [] and not Folder(package).exists


def test_a_full_disk_is_one_sentence_and_leaves_nothing(home, monkeypatch) -> None:
    package = toy.wheel(home / "wheelhouse", f"VALUE = 42\nTEXT = {'x' * (1 << 20)!r}\n")
    disk = home / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        monkeypatch.setenv("AMC_TF_CACHE", str(disk / "cache"))
        with pytest.raises(SetupError, match=f"cannot be installed into '{disk}.*no room left.*AMC_TF_CACHE"):
            provided(package)
        assert [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_cache_that_pythonpath_cannot_name_is_one_sentence(package, home, monkeypatch) -> None:
    monkeypatch.setenv("AMC_TF_CACHE", str(home / f"one{os.pathsep}two"))
    with pytest.raises(SetupError, match=f"one{os.pathsep}two' holds '{os.pathsep}'.*AMC_TF_CACHE"):
        provided(package)


def test_a_cache_that_cannot_be_written_is_one_sentence(package, home, monkeypatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("AMC_TF_CACHE", str(home / "file" / "cache"))
    with pytest.raises(SetupError, match="Not a directory.*AMC_TF_CACHE"):
        provided(package)


@pytest.mark.usefixtures("unpacked")
def test_a_copied_folder_is_complete(package, home, monkeypatch) -> None:
    path = provided(package)
    monkeypatch.setenv("AMC_TF_CACHE", str(home / "other"))
    shutil.copytree(path, Folder(package).path)  # with new times, as from another computer
    monkeypatch.setenv("AMC_TF_OFFLINE", "1")
    assert value(provided(package)) == "42"


SCRIPT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # as amc-tf has it
from pathlib import Path
from amc_tf.isolated import folder, provide
from tests.isolated import toy
folder.tensorflow_version = lambda: "2.20.0"
package = toy.Toy("amc-toy", "amc_toy", folder=Path(sys.argv[1]))
print(provide._folder(package, folder.Folder(package).path))
"""


def started(package: toy.Toy) -> subprocess.Popen:
    """Another process that needs the package."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(package.folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


SLOW = """
import os, pathlib, time
pathlib.Path(os.environ["AMC_TOY_MARK"]).touch()
time.sleep(float(os.environ["AMC_TOY_SECONDS"]))
"""


@pytest.fixture
def slow(home: Path, monkeypatch) -> toy.Toy:
    """A package whose build touches the file `home / "mark"` and then takes a minute."""
    monkeypatch.setenv("AMC_TOY_MARK", str(home / "mark"))
    monkeypatch.setenv("AMC_TOY_SECONDS", "60")
    return toy.source(home / "wheelhouse", SLOW)


def until_marked(home: Path, process: subprocess.Popen) -> None:
    """Waits until the source is being built."""
    deadline = time.monotonic() + 60
    while not (home / "mark").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert (home / "mark").exists(), process.communicate()


def test_two_processes_install_it_once(slow, home, monkeypatch) -> None:
    package = slow
    monkeypatch.setenv("AMC_TOY_SECONDS", "3")  # time for the other process to reach the lock
    both = [started(package), started(package)]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert {out.strip() for out, _ in ends} == {str(Folder(package).path)}
    assert sum(err.count("installing") for _, err in ends) == 1
    assert sum(err.count("waiting for another process, which installs amc-toy") for _, err in ends) == 1
    assert value(Folder(package).path) == "42" and leftovers(home) == []


def test_a_killed_installation_is_repeated_by_the_next_use(slow, home, monkeypatch) -> None:
    first = started(slow)
    until_marked(home, first)
    family = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    assert not Folder(slow).exists and leftovers(home) != []
    monkeypatch.setenv("AMC_TOY_SECONDS", "0")
    try:
        assert value(provided(slow)) == "42"
        assert leftovers(home) == []
    finally:
        for process in family:
            process.kill()


@pytest.mark.usefixtures("unpacked")
def test_remnants_of_a_kill_are_swept_at_the_next_installation(package, home) -> None:
    path = provided(package)
    (path.parent / f"{path.name}.partial-abc").mkdir()
    _lose(path)
    provided(package)
    assert leftovers(home) == []


def _download(package, wheelhouse: Path, tools: Path | None = None) -> None:
    """Fetches the packages of a list with the pip settings of this computer, not those of `home`.

    Args:
        tools: Folder with what builds a source package.
    """
    environment = {name: text for name, text in os.environ.items() if name not in ("PIP_NO_INDEX", "PIP_FIND_LINKS")}
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    if tools:
        command += ["--no-build-isolation", "--no-binary", ",".join(package.sources)]
        environment["PYTHONPATH"] = str(tools)
    command += [word for path in package.requirements for word in ("-r", str(path))]
    subprocess.run([*command, "-d", str(wheelhouse)], check=True, env=environment)


def test_the_agents_packages_are_installed_from_a_wheelhouse_alone(home) -> None:
    """That is, each one but gym is a wheel, which pip only unpacks; gym is built, and nothing else is needed for it."""
    package, wheelhouse, tools = PACKAGES["tf-agents"], home / "wheelhouse", home / "tools"
    _download(SETUPTOOLS, wheelhouse)
    for wheel in wheelhouse.glob("*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(tools)
    _download(package, wheelhouse, tools)
    lines = "".join(path.read_text() for path in package.requirements).replace("\\\n", "").splitlines()
    (home / "gym.txt").write_text("\n".join(line for line in lines if line.startswith("gym==")))
    path = provided(toy.Toy("gym", "gym", sources=package.sources, folder=home))
    assert leftovers(home) == []
    wheels = [zipfile.ZipFile(path).namelist() for path in wheelhouse.glob("*.whl")]
    assert len(wheels) + len(package.sources) == len(package.versions) + len(SETUPTOOLS.versions)
    there = {name.partition("/")[0].removesuffix(".py") for names in wheels for name in names}
    assert set(package.needs) <= there | {entry.name for entry in path.iterdir()}


def test_pip_settings_on_targets_and_versions_do_not_apply(package, home, monkeypatch) -> None:
    """The settings file names the wheelhouse, among many settings that would break the installation.

    The wheelhouse is relative to the working directory. pip unpacks beside the folder, not among the temporary files.
    """
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_QUIET", "3")
    monkeypatch.setenv("TMPDIR", os.devnull)
    monkeypatch.chdir(home)
    (home / "constraints.txt").write_text("amc-toy<1\n")
    (home / "pip.conf").write_text(
        textwrap.dedent(f"""
        [global]
        no-index = true
        find-links = wheelhouse
        constraint = {home / "constraints.txt"}
        require-virtualenv = true
        quiet = 2
        only-binary = :none:
        no-binary = amc-toy
        [install]
        user = true
        prefix = {home / "prefix"}
        dry-run = true
        """)
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / "pip.conf"))
    assert value(provided(package)) == "42"
    assert not (home / "prefix").exists()


def test_settings_that_cannot_be_read_are_one_sentence(package, home, monkeypatch) -> None:
    (home / "pip.conf").write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / "pip.conf"))
    with pytest.raises(SetupError, match="the settings of pip cannot be read .*pip.conf") as caught:
        provided(package)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def bare(home: Path, monkeypatch) -> Iterator[Path]:
    """An environment without pip, such as uv makes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "bare")], check=True)
    monkeypatch.setattr(sys, "executable", str(home / "bare" / "bin" / "python"))
    yield home


def test_without_pip_the_bundled_one_installs(package, bare) -> None:
    assert value(provided(package)) == "42"
    assert not list((bare / "bare").rglob("site-packages/pip"))


def test_without_any_pip_it_is_one_sentence(package, bare, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SetupError, match="has not: install pip.*uv pip install pip.*amc-tf setup"):
        provided(package)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="it has this very refusal on these Pythons")
def test_a_python_too_new_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    with pytest.raises(SetupError, match="tflite-runtime has no wheels for Python 3.12 or newer.*3.12"):
        install.install(Folder(PACKAGES["tflite-runtime"]))


@pytest.mark.parametrize("package", [*PACKAGES.values(), SETUPTOOLS], ids=lambda package: package.name)
def test_lists_are_exact(package) -> None:
    text = "".join(path.read_text() for path in package.requirements)
    lines = text.replace("\\\n", " ").splitlines()
    assert package.name in package.versions and set(package.sources) <= set(package.versions)
    for line in lines:
        assert line.split()[0].count("==") == 1 and "--hash=sha256:" in line, line


@pytest.mark.parametrize("tensorflow", ["2.19.1", "2.20.0", "2.21.0"])
def test_tf_keras_matches_the_tensorflow_version(monkeypatch, tensorflow: str) -> None:
    monkeypatch.setattr(packages, "tensorflow_version", lambda: tensorflow)
    assert PACKAGES["tf-agents"].versions["tf-keras"].split(".")[:2] == tensorflow.split(".")[:2]


def test_a_tensorflow_too_new_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(packages, "tensorflow_version", lambda: "2.22.0")
    with pytest.raises(SetupError, match="TensorFlow 2.19, 2.20, 2.21, and this is TensorFlow 2.22.0"):
        provide.provide("tf-agents")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_installation_leaves_nothing(slow, home, monkeypatch, number: int) -> None:
    """Nothing stays in the cache or among the temporary files."""
    temporary = home / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = started(slow)
    until_marked(home, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=30)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    assert process.returncode != 0 and leftovers(home) == [] and not Folder(slow).exists
    assert list(temporary.iterdir()) == []
