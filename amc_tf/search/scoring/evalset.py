"""Sample: examples that networks are scored on, and by what."""

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
    """Examples that networks are scored on; may be used from several threads at once.

    Attributes:
        split: the examples, in the order in which they are scored.
        labels: of the examples, or what the original network says of them.
        metric: (labels, outputs) -> number, the larger the better; None for accuracy.
        yes_above: see metrics.score.
        base_accuracy: of the original network, by the metric where there is one.
        one_each: whether every example is right or wrong as a whole, unlike an image whose pixels have labels.
        scorer: runs .tflite files.
        held: the inputs, where its workers read them.
    """

    split: Split
    labels: np.ndarray
    metric: Metric | None
    yes_above: float
    base_accuracy: float
    one_each: bool
    scorer: Scorer = field(repr=False)
    held: SharedDataset = field(repr=False)
    # A caller's metric may keep a state, as those of Keras do.
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(
        cls, split: Split, base: bytes, scorer: Scorer, metric: Metric | None = None, yes_above: float | None = None
    ) -> "EvalSet":
        """Reads what the original network says of the examples; where they have no labels, that is what is right.

        Args:
            split, metric, scorer: see the attributes.
            base: .tflite of the original network.
            yes_above: as of another sample of the same network; None to decide it by these examples.

        Raises:
            ValueError: the labels do not fit the outputs, or the original network's predictions hold NaN.
        """
        held = scorer.share(split.inputs)
        found = outputs(scorer.run(base, held))
        yes_above = threshold(found[0]) if yes_above is None else yes_above
        labels = as_labels(found[0], yes_above) if split.labels is None else split.labels
        try:
            accuracy = score(metric, labels, found, yes_above)
        except BadPredictions as error:
            raise ValueError(
                "The model's own predictions hold NaN or infinity on the given data; check its weights and the "
                "preprocessing of the data."
            ) from error
        one_hot = labels.ndim == 2 and labels.shape == found[0].shape
        one_each = one_hot or labels.shape in ((len(split),), (len(split), 1))
        return cls(split, labels, metric, yes_above, accuracy, one_each, scorer, held)

    def __len__(self) -> int:
        return len(self.split)

    def on(self, scorer: Scorer) -> "EvalSet":
        """The same examples with another scorer, where this one's is closed."""
        return replace(self, scorer=scorer, held=scorer.share(self.split.inputs))

    def accuracy(self, tflite: bytes) -> float:
        """Of a .tflite made from the original network.

        Raises:
            BadPredictions: its predictions hold NaN or infinity.
            ConversionError: the runtime cannot run it.
            RunDirError: no room for its file.
        """
        return self.score(outputs(self.scorer.run(tflite, self.held)))

    def score(self, found: Sequence[np.ndarray]) -> float:
        """Of outputs for the first len(found[0]) examples."""
        with self._turn:
            return score(self.metric, self.labels[: len(found[0])], found, self.yes_above)
