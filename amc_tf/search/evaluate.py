"""Evaluator: a plan's widths -> Outcome. Without fine-tuning, on images that calibration never sees."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from amc_tf.data import Split
from amc_tf.graph.rewrite import masked
from amc_tf.pruning.batchnorm import Network
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.pruning.plan import Plan
from amc_tf.search.metrics import BadPredictions, Metric, as_labels, score, threshold
from amc_tf.search.outcome import Outcome


class Evaluator:
    """Scores candidates on one copy of the network whose dropped channels are dead.

    A network with dead channels computes what the pruned one does, so nothing is built or traced for a candidate.

    Args:
        pruning: makes the plans.
        cost: widths -> cost.
        calibration: the examples that BatchNorm statistics are measured on.
        reward: the examples that candidates are scored on; without labels, agreement with the original is scored.
        metric: (labels, outputs) -> number, the larger the better; default: accuracy.
        batch_size: examples a step.

    Raises:
        ValueError: the labels do not fit the outputs, or the model's own predictions hold NaN.
    """

    def __init__(
        self,
        pruning: ChannelPruning,
        cost: Callable[[Sequence[int]], float],
        calibration: Split,
        reward: Split,
        metric: Metric | None = None,
        batch_size: int = 128,
    ):
        self.pruning, self.cost, self.metric = pruning, cost, metric
        self._calibration, self._reward = calibration, reward
        self._network = Network(pruning.model, batch_size)
        self._outcomes: dict[str, Outcome] = {}
        self._turn = threading.Lock()  # a search evaluates in several threads, and there is one network
        self._yes_above: float | None = None  # decided once, by what the original says to the reward examples
        self._labels, self.base_accuracy = self.base(reward)

    def __call__(self, widths: Sequence[int], beat: float | None = None) -> Outcome:
        """The outcome of keeping `widths[i]` channels of unit i, on all examples whatever there is to beat.

        Raises:
            BadPredictions: the candidate's predictions hold NaN or infinity.
        """
        widths = tuple(int(w) for w in widths)
        if widths == self.pruning.full:  # nothing pruned: the network as it came, with its own statistics
            return Outcome(self.base_accuracy, self.base_cost, self.base_accuracy, self.base_cost)
        plan = self.pruning.plan(widths)
        with self._turn:
            if plan.digest not in self._outcomes:
                self._prepare(plan)
                accuracy = self.score(self._labels, self._network.predict(self._reward.inputs))
                self._outcomes[plan.digest] = Outcome(
                    accuracy, float(self.cost(widths)), self.base_accuracy, self.base_cost
                )
            return self._outcomes[plan.digest]

    @property
    def base_cost(self) -> float:
        """What the unpruned network costs."""
        return float(self.cost(self.pruning.full))

    def base(self, split: Split) -> tuple[np.ndarray, float]:
        """Labels of a split, the network's own answers where it has none, and the accuracy of the network as it came.

        Raises:
            ValueError: the labels do not fit the outputs, or the predictions hold NaN.
        """
        self._network.weights = self.pruning.weights
        outputs = self._network.predict(split.inputs)
        if self._yes_above is None:
            self._yes_above = threshold(outputs[0])
        labels = as_labels(outputs[0]) if split.labels is None else split.labels
        try:
            return labels, self.score(labels, outputs)
        except BadPredictions as error:
            raise ValueError(
                "The model's own predictions hold NaN or infinity on the given data; check its weights and the "
                "preprocessing of the data."
            ) from error

    def score(self, labels: np.ndarray, outputs: Sequence[np.ndarray]) -> float:
        """The caller's metric, or the accuracy, of outputs of this network or of one made from it."""
        return score(self.metric, labels, outputs, self._yes_above)

    def weights(self, plan: Plan) -> dict[str, tuple[np.ndarray, ...]]:
        """The full weights with the BatchNorm statistics that the plan was scored with: layer path -> arrays."""
        if all(mask.all() for mask in plan.values()):
            return self.pruning.weights
        self._prepare(plan)
        return self._network.weights

    def _prepare(self, plan: Plan) -> None:
        kept = plan.kept(self.pruning.groups)
        self._network.weights = masked(self.pruning.groups, kept, self.pruning.weights)
        self._network.recalibrate(self._calibration.inputs)
