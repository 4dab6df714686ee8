"""What is in the environment already is used, where it can be imported; else the folder beside it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from amc_tf.isolated import provide
from amc_tf.isolated.packages import Package

FOUND = Package("amc-toy", "amc_toy", needs=("amc_toy_needs",))


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


def test_what_can_be_imported_is_used(environment) -> None:
    assert provide.in_place(FOUND)
    assert "amc_toy" not in sys.modules  # it was tried elsewhere


def test_another_version_is_not(environment, monkeypatch) -> None:
    monkeypatch.setattr(Package, "versions", property(lambda self: {"amc-toy": "1.1.0"}))
    assert not provide.in_place(FOUND)


def test_what_lacks_something_is_not(environment) -> None:
    (environment / "amc_toy_needs.py").unlink()
    assert not provide.in_place(FOUND)


def test_what_cannot_be_imported_is_not(environment) -> None:
    (environment / "amc_toy.py").write_text("raise ImportError('broken')\n")
    assert not provide.in_place(FOUND)
    assert provide.import_failure(FOUND, None) == "ImportError: broken"


def test_what_can_be_imported_but_not_used_is_not(environment) -> None:
    broken = replace(FOUND, use="raise SystemError('made for another NumPy')")
    assert not provide.in_place(broken)
    assert provide.import_failure(broken, None) == "SystemError: made for another NumPy"


def test_what_is_not_there_is_not() -> None:
    assert not provide.in_place(FOUND)
