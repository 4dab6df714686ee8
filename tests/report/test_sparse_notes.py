"""What is said of zeros before and after a search."""

from amc_tf.report.sparse_notes import MOST, told


def test_channels_leave_no_zeros_to_speak_of():
    assert told(None) == told(None, "no") == []


def test_obstacles_are_told_one_by_one_up_to_some():
    said = told([f"obstacle {number}" for number in range(MOST + 2)])
    assert "not the network faster" in said[0]
    assert said[1:-1] == [f"  obstacle {number}" for number in range(MOST)]
    assert said[-1].strip() == "and 2 more."
    assert len(told(["one"], "here")) == 2


def test_without_obstacles_the_condition_is_told_and_what_this_computer_lacks():
    assert "2/3" in told(())[0] and len(told(())) == 1
    assert told((), "Not on this processor.")[1] == "Not on this processor."
