"""The sentences on zeros, before and after a search."""

from amc_tf.report.sparse_notes import SHOWN, sparsity_notes


def test_channel_pruning_leaves_no_zeros_to_speak_of():
    assert sparsity_notes(None) == sparsity_notes(None, "no") == []


def test_unsupported_operators_have_a_line_each_up_to_a_number():
    notes = sparsity_notes([f"operator {number}" for number in range(SHOWN + 2)])
    assert "not the network faster" in notes[0]
    assert notes[1:-1] == [f"  operator {number}" for number in range(SHOWN)]
    assert notes[-1].strip() == "and 2 more."
    assert len(sparsity_notes(["one"], "processor")) == 2


def test_a_supported_network_has_its_condition_and_the_lack_of_this_computer():
    assert "2/3" in sparsity_notes(())[0] and len(sparsity_notes(())) == 1
    assert sparsity_notes((), "Not on this processor.")[1] == "Not on this processor."
