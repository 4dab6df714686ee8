"""EvalSet: the examples, labels and metric that networks are scored with."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.errors import BadPredictions
from amc_tf.search.scoring.metrics import Metric, as_labels, score, threshold
from amc_tf.tflite.runtime.scorer import Scorer, SharedDataset, outputs


@dataclass(frozen=True)
class EvalSet:
    """Examples that networks are scored on. Several threads may use it at once.

    Attributes:
        split: The examples, in the order in which they are scored.
        labels: Labels of the examples; without any, the predictions of the original network.
        metric: (labels, outputs) -> number, the larger the better; None for accuracy.
        yes_above: See metrics.threshold.
        base_accuracy: Accuracy, or metric, of the original network.
        one_each: Whether each example has one label. False for instance for an image whose pixels have labels.
        scorer: Runs .tflite files.
        dataset: The inputs, in memory shared with the scorer's workers.
    """

    split: Split
    labels: np.ndarray
    metric: Metric | None
    yes_above: float
    base_accuracy: float
    one_each: bool
    scorer: Scorer = field(repr=False)
    dataset: SharedDataset = field(repr=False)
    # A caller's metric may have a state, as those of Keras have.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(
        cls, split: Split, base: bytes, scorer: Scorer, metric: Metric | None = None, yes_above: float | None = None
    ) -> "EvalSet":
        """Runs the original network on the examples. Without labels, its predictions become the labels.

        Args:
            split, metric, scorer: See the attributes.
            base: The .tflite of the original network.
            yes_above: That of another EvalSet of the same network; None to choose it from these examples.

        Raises:
            ValueError: The labels do not fit the outputs, or the original network's predictions hold NaN.
        """
        dataset = scorer.share(split.inputs)
        predictions = outputs(scorer.run(base, dataset))
        yes_above = threshold(predictions[0]) if yes_above is None else yes_above
        labels = as_labels(predictions[0], yes_above) if split.labels is None else split.labels
        try:
            accuracy = score(metric, labels, predictions, yes_above)
        except BadPredictions as error:
            raise ValueError(
                "The model's own predictions hold NaN or infinity on the given data; check its weights and the "
                "preprocessing of the data."
            ) from error
        one_hot = labels.ndim == 2 and labels.shape == predictions[0].shape
        one_each = one_hot or labels.shape in ((len(split),), (len(split), 1))
        return cls(split, labels, metric, yes_above, accuracy, one_each, scorer, dataset)

    def __len__(self) -> int:
        return len(self.split)

    def on(self, scorer: Scorer) -> "EvalSet":
        """The same examples with another scorer, for when this one is closed."""
        return replace(self, scorer=scorer, dataset=scorer.share(self.split.inputs))

    def accuracy(self, tflite: bytes) -> float:
        """Accuracy, or metric, of a .tflite with the outputs of the original network.

        Raises:
            BadPredictions: Its predictions hold NaN or infinity.
            ConversionError: The runtime cannot run it.
            RunDirError: There is no room for its file.
        """
        return self.score(outputs(self.scorer.run(tflite, self.dataset)))

    def score(self, predictions: Sequence[np.ndarray]) -> float:
        """Accuracy, or metric, of the outputs for the first len(predictions[0]) examples."""
        with self._lock:
            return score(self.metric, self.labels[: len(predictions[0])], predictions, self.yes_above)
