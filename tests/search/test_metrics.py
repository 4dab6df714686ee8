"""Accuracy for every usual shape of labels, and what a metric may return."""

import numpy as np
import pytest

from amc_tf.search.scoring.metrics import BadPredictions, accuracy, as_labels, score, threshold

P = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])


@pytest.mark.parametrize("labels", [[0, 2, 1, 1], [[0], [2], [1], [1]], np.eye(3)[[0, 2, 1, 1]], [0.0, 2.0, 1.0, 1.0]])
def test_class_numbers_columns_and_one_hot_rows(labels):
    assert accuracy(np.array(labels), P) == 0.75


def test_one_output_is_split_at_a_half_or_at_zero():
    assert accuracy(np.array([0, 1, 1]), np.array([[0.2], [0.7], [0.4]])) == pytest.approx(2 / 3)
    logits = np.array([[-2.0], [0.3], [4.0]])
    assert accuracy(np.array([0, 1, 1]), logits, threshold(logits)) == 1
    assert accuracy(np.array([-1, 1, 1]), logits, threshold(logits)) == 1


def test_every_pixel_counts_in_a_segmentation():
    outputs = np.zeros((2, 3, 3, 4))
    outputs[..., 1] = 1
    labels = np.ones((2, 3, 3), int)
    labels[0, 0, 0] = 2
    assert accuracy(labels, outputs) == pytest.approx(17 / 18)


@pytest.mark.parametrize(
    ("labels", "says"),
    [([0, 1, 2, 3], "0 to 3"), ([-1, 0, 0, 0], "-1"), ([[0, 1]] * 4, "shape"), ([0.5, 1, 1, 1], "type")],
)
def test_labels_that_do_not_fit_are_refused(labels, says):
    with pytest.raises(ValueError, match=says):
        accuracy(np.array(labels), P)


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        (np.array([3.0, 50.0, 78.0, 9.0]), P[:, :1]),  # a regression
        (np.array([0, 1, 2, 3]), P[:, :1]),  # four classes for a yes or no
        (P * 3, P),  # several numbers, no classes
        (np.ones((4, 3)), P),  # several labels at once
    ],
)
def test_what_is_no_classification_asks_for_a_metric(labels, outputs):
    with pytest.raises(ValueError, match="give a metric"):
        accuracy(labels, outputs)


def test_where_a_single_output_says_yes_is_decided_once():
    logits = np.array([[0.2], [0.7], [0.4]])  # of a candidate; the original's went from -3 to 5
    assert accuracy(np.array([1, 1, 1]), logits, threshold(np.array([[-3.0], [5.0]]))) == 1


def test_nan_predictions_are_a_failed_trial():
    with pytest.raises(BadPredictions):
        score(None, np.zeros(4, int), [P * np.nan])


def test_a_metric_gets_labels_and_predictions():
    assert score(lambda labels, outputs: (labels == outputs).mean(), P, [P]) == 1
    assert score(lambda labels, outputs: len(outputs), P, [P, P]) == 2
    for bad in (None, "good", float("nan"), [1, 2]):
        with pytest.raises(ValueError, match="metric"):
            score(lambda labels, outputs, bad=bad: bad, P, [P])


def test_labels_of_the_original_agree_with_it():
    assert accuracy(as_labels(P, threshold(P)), P) == 1
    assert accuracy(as_labels(P[:, :1], threshold(P[:, :1])), P[:, :1]) == 1
