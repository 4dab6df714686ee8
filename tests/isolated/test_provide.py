"""A package of the environment is used if it works; else the isolated folder."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from amc_tf.isolated import provide
from amc_tf.isolated.packages import Package

TOY = Package("amc-toy", "amc_toy", needs=("amc_toy_needs",))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch) -> Path:
    """A folder on the path with a distribution amc-toy 1.0, which can be imported."""
    (tmp_path / "amc_toy.py").write_text("import amc_toy_needs\n")
    (tmp_path / "amc_toy_needs.py").write_text("")
    info = tmp_path / "amc_toy-1.0.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: amc-toy\nVersion: 1.0.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Package, "versions", property(lambda self: {"amc-toy": "1.0.2"}))
    provide.in_place.cache_clear()
    yield tmp_path
    provide.in_place.cache_clear()


def test_a_package_that_can_be_imported_is_used(environment) -> None:
    assert provide.in_place(TOY)
    assert "amc_toy" not in sys.modules  # a separate process tried it


def test_another_version_is_not_used(environment, monkeypatch) -> None:
    monkeypatch.setattr(Package, "versions", property(lambda self: {"amc-toy": "1.1.0"}))
    assert not provide.in_place(TOY)


def test_a_package_that_lacks_a_module_is_not_used(environment) -> None:
    (environment / "amc_toy_needs.py").unlink()
    assert not provide.in_place(TOY)


def test_a_package_that_cannot_be_imported_is_not_used(environment) -> None:
    (environment / "amc_toy.py").write_text("raise ImportError('broken')\n")
    assert not provide.in_place(TOY)
    assert provide.import_failure(TOY, None) == "ImportError: broken"


def test_a_package_that_imports_but_does_not_work_is_not_used(environment) -> None:
    broken = replace(TOY, use="raise SystemError('made for another NumPy')")
    assert not provide.in_place(broken)
    assert provide.import_failure(broken, None) == "SystemError: made for another NumPy"


def test_a_missing_package_is_not_used() -> None:
    assert not provide.in_place(TOY)
