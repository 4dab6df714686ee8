"""Evaluator: widths -> Outcome. A candidate is the .tflite that would ship, without fine-tuning."""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.data.splits import Split
from amc_tf.errors import ConversionError
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.reconstruct import Reconstruction
from amc_tf.search.rewards import Reward
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.metrics import Metric
from amc_tf.search.scoring.racing import Race, right_to_win
from amc_tf.search.trial import Outcome
from amc_tf.tflite.runtime.scorer import Scorer, outputs
from amc_tf.tflite.slicing.bn_recalibration import Statistics
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from amc_tf.tflite.slicing.shapes import Shapes
from amc_tf.tflite.slicing.weight_formulas import Weights

_FILES = 4  # newest candidates that are kept in memory, since they may be measured next


@dataclass(frozen=True)
class Scoring:
    """On what and by what candidates are scored.

    Attributes:
        split: Examples that candidates are scored on. Without labels, agreement with the original network is scored.
        metric: (labels, outputs) -> number, the larger the better; None for accuracy.
        reward: Reward of the search. Scoring stops early if a candidate cannot get a reward above `beat`; None to score
            every candidate on all examples.
    """

    split: Split
    metric: Metric | None = None
    reward: Reward | None = None


class Evaluator:
    """Makes candidates and scores them. Several threads may call it at once.

    Args:
        pruner: Makes the plans and the weights.
        cost: Cost of a plan.
        base: The .tflite of the original network.
        scorer: Runs .tflite files.
        calibration: Examples for weight reconstruction and BatchNorm recalibration.
        scoring: On what and by what candidates are scored.
        reconstruct: Whether the kept weights compensate for the dropped ones, see pruning.reconstruct.

    Attributes:
        eval_set: The examples of `scoring`.
        candidates: Makes the files of candidates.

    Raises:
        ValueError: The labels do not fit the outputs, or the model's own predictions hold NaN.
        ConversionError: The network for BatchNorm recalibration cannot be converted.
    """

    def __init__(
        self,
        pruner: Pruner,
        cost: Cost,
        base: bytes,
        scorer: Scorer,
        calibration: Split,
        scoring: Scoring,
        reconstruct: bool = True,
    ):
        self.pruner, self.cost = pruner, cost
        self._base, self._reward = base, scoring.reward
        # Racing scores a part of the examples, which must be a random one. A caller's metric keeps the caller's order.
        split = scoring.split if scoring.metric is not None else _shuffled(scoring.split)
        self.eval_set = EvalSet.of(split, base, scorer, scoring.metric)
        self._reconstruction = Reconstruction(pruner, calibration.inputs) if reconstruct else None
        try:
            self.candidates: Candidates | Converted = Candidates(pruner)
            self._recalibration = Statistics(pruner, calibration.inputs, scorer)
        except ConversionError as error:
            warnings.warn(
                f"The converter makes each candidate, which takes seconds instead of milliseconds, because a "
                f".tflite of this network cannot be rewritten: {error}",
                stacklevel=2,
            )
            self.candidates = Converted(pruner)
            self._recalibration = Statistics(pruner, calibration.inputs, scorer, Converted)
        self._files: dict[str, bytes] = {}  # plan digest -> .tflite of the newest candidates
        self._lock = threading.Lock()  # for _files

    def __call__(self, widths: Sequence[int], beat: float | None = None) -> Outcome:
        """The outcome of the plan that keeps `widths[i]` channels of unit i.

        Args:
            widths: Widths of all units.
            beat: Reward of the best candidate so far. Scoring stops early if the candidate almost certainly gets no
                higher reward, see scoring.racing. None: it is scored on all examples.

        Raises:
            BadPredictions: The candidate's predictions hold NaN or infinity.
            ConversionError: The runtime cannot run the candidate.
            RunDirError: There is no room for the candidate's file.
        """
        widths = tuple(int(w) for w in widths)
        base_cost, base_accuracy = self.base_cost, self.eval_set.base_accuracy
        if widths == self.pruner.full:  # the original network with its own BatchNorm statistics
            return Outcome(base_accuracy, base_cost, base_accuracy, base_cost)
        cost = float(self.cost(widths))
        accuracy, scored = self._score(self.tflite(widths), self._race(beat, cost, base_cost))
        examples = None if scored == len(self.eval_set) else scored
        return Outcome(accuracy, cost, base_accuracy, base_cost, examples=examples)

    @property
    def shapes(self) -> Shapes:
        """The shapes of candidates.

        Raises:
            ConversionError: They cannot be predicted.
        """
        return self.candidates.shapes if isinstance(self.candidates, Candidates) else Shapes(self.pruner)

    @property
    def base_cost(self) -> float:
        """Cost of the unpruned network."""
        return float(self.cost(self.pruner.full))

    def tflite(self, widths: Sequence[int]) -> bytes:
        """The .tflite of the candidate of these widths."""
        if tuple(widths) == self.pruner.full:
            return self._base
        plan = self.pruner.plan(widths)
        with self._lock:
            if plan.digest in self._files:
                return self._files[plan.digest]
        file = self.candidates(plan, self.weights(plan))
        with self._lock:
            self._files[plan.digest] = file
            while len(self._files) > _FILES:
                del self._files[next(iter(self._files))]
        return file

    def weights(self, plan: Plan) -> Weights:
        """Weights of the smaller network: sliced, reconstructed, with recalibrated BatchNorm; layer path -> arrays."""
        sliced = self.pruner.sliced(plan)
        if all(mask.all() for mask in plan.values()):
            return sliced
        if self._reconstruction is not None:
            sliced = self._reconstruction(plan, sliced)
        return self._recalibration(plan, sliced)

    def _score(self, tflite: bytes, race: Race | None) -> tuple[float, int]:
        """Accuracy of a candidate, and the number of examples that it was scored on."""
        if race is None:
            return self.eval_set.accuracy(tflite), len(self.eval_set)
        scored, predictions = 0, []
        with self.eval_set.scorer.load(tflite, self.eval_set.dataset) as loaded:
            for look in race.looks:
                predictions.append(outputs(loaded.run(scored, look)))
                scored = look
                accuracy = self.eval_set.score([np.concatenate(arrays) for arrays in zip(*predictions, strict=True)])
                if race.lost(round(accuracy * scored), scored):
                    break
        return accuracy, scored

    def _race(self, beat: float | None, cost: float, base_cost: float) -> Race | None:
        """The race of a candidate of this cost; None if it must be scored on all examples."""
        examples = len(self.eval_set)
        if self.eval_set.metric is not None or self._reward is None or not self.eval_set.one_each:
            return None
        right = right_to_win(self._reward, beat, cost, self.eval_set.base_accuracy, base_cost, examples)
        return None if right is None else Race(examples, right)


def _shuffled(split: Split) -> Split:
    return split.take(np.random.default_rng(0).permutation(len(split)))
