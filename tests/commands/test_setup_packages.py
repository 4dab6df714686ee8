"""`amc-tf setup`: its output, its repairs and its exit codes."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from amc_tf.commands import setup_packages
from amc_tf.isolated import folder, packages
from amc_tf.isolated.folder import Folder
from tests.isolated import toy


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> toy.Toy:
    """The only package, in a wheelhouse."""
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheelhouse"))
    monkeypatch.setattr(folder, "tensorflow_version", lambda: "2.20.0")
    monkeypatch.setattr(packages, "tensorflow_version", lambda: "2.20.0")
    only = toy.wheel(tmp_path / "wheelhouse")
    toy.unpack_without_pip(monkeypatch, tmp_path / "wheelhouse")
    monkeypatch.setattr(setup_packages, "PACKAGES", {only.name: only})
    return only


def setup(*arguments: str) -> Result:
    return CliRunner().invoke(setup_packages.setup, arguments, prog_name="amc-tf setup")


def test_a_second_setup_changes_nothing(package) -> None:
    first, second = setup(), setup()
    path = str(Folder(package).path)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == second.stdout == f"amc-toy: {path}\n"
    assert "installing" in first.stderr and second.stderr == ""


def test_check_reports_that_all_is_as_installed(package) -> None:
    setup()
    done = setup("--check")
    assert done.exit_code == 0 and "every file as installed" in done.stdout and "repaired" not in done.stdout


def test_check_repairs_a_changed_file(package) -> None:
    setup()
    module = Folder(package).path / "amc_toy.py"
    module.write_text("raise ImportError\n")
    done = setup("--check")
    assert done.exit_code == 0 and "repaired (amc_toy.py is not the file that was installed)" in done.stdout
    assert module.read_text() == toy.BODY


def test_check_installs_nothing(package) -> None:
    done = setup("--check")
    assert done.exit_code == 0 and "not installed yet" in done.stdout and not Folder(package).exists


def test_a_complete_package_that_cannot_be_imported_is_an_error(tmp_path, package) -> None:
    toy.wheel(tmp_path / "wheelhouse", "import amc_toy_that_is_nowhere\n")
    setup()
    done = setup("--check")
    assert done.exit_code == 1 and "No module named 'amc_toy_that_is_nowhere'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_failure_is_one_sentence_and_an_exit_code(package, monkeypatch) -> None:
    monkeypatch.setenv("AMC_TF_OFFLINE", "1")
    done = setup()
    assert done.exit_code == 1 and done.stderr.startswith("amc-tf setup: amc-toy has to be installed into")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_package_is_wrong_usage() -> None:
    assert setup("torch").exit_code == 2
