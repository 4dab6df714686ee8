"""What tools/compare_methods.py prints and draws of choices; the searches behind them have tests of their own."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "tools" / "compare_methods.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("compare_methods", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def choice(reporting: float, evaluations: int = 3) -> dict:
    return {
        "widths": [8], "reward": reporting + 0.01, "reporting": reporting, "kept": 0.4951, "evaluations": evaluations,
        "best": [0.0, *[0.5 + 0.1 * n for n in range(evaluations)]],
    }  # fmt: skip


CHOICES = {("uniform", 0): choice(0.8, 1), ("agent", 0): choice(0.85), ("agent", 1): choice(0.83)}


def test_a_row_a_method_with_mean_and_spread(tool):
    tuned = {("agent", 0): 0.88, ("agent", 1): 0.86}
    head, _, uniform, agent = tool.report("net", 0.9, CHOICES, tuned, 2).split("\n")
    assert "base 90.0%" in head and "after 2 epochs" in head
    assert uniform == "| uniform | 1 | 0.4951 | 81.00 | 80.00 | +0.00 |  |  |"
    assert "| 84.00 (83.00 to 85.00) | +4.00 (+3.00 to +5.00) |" in agent
    assert agent.endswith("| 87.00 (86.00 to 88.00) | -3.00 (-4.00 to -2.00) |")


def test_the_picture_is_drawn(tool, tmp_path):
    tool.draw("net", CHOICES, tmp_path / "methods.png")
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_stored_is_not_made_again(tool, tmp_path):
    path = tmp_path / "one.json"
    assert tool.stored(path, lambda: {"a": 1}) == {"a": 1} == json.loads(path.read_text())
    assert tool.stored(path, lambda: {"a": 2}) == {"a": 1}
