"""Evaluator: a plan's widths -> Outcome. Every candidate is the .tflite that would ship, without fine-tuning."""

import threading
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.errors import ConversionError
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.reconstruct import Reconstruction
from amc_tf.search.rewards import Reward
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.metrics import Metric
from amc_tf.search.scoring.racing import Race, needed
from amc_tf.search.trial import Outcome
from amc_tf.tflite.runtime.scorer import Scorer, outputs
from amc_tf.tflite.slicing.bn_recalibration import Statistics
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from amc_tf.tflite.slicing.shapes import Shapes
from amc_tf.tflite.slicing.weight_formulas import Weights

_FILES = 4  # candidates that are kept for whoever measures them next


class Evaluator:
    """Makes candidates and scores them; may be called from several threads at once.

    Args:
        pruning: makes the plans.
        cost: widths -> cost.
        calibration: the examples that weights are reconstructed on and BatchNorm statistics measured.
        reward_split: the examples that candidates are scored on; without labels, agreement with the original is scored.
        base: the .tflite of the original network.
        scorer: runs .tflite files.
        metric: (labels, outputs) -> number, the larger the better; default: accuracy.
        reward: what the search rewards: a candidate that cannot earn more than `beat` is not scored to the end.
        reconstruct: whether the kept weights are to make up for the dropped ones, see pruning.reconstruct.

    Attributes:
        sample: the examples of `reward_split`.
        candidates: makes the files of candidates.

    Raises:
        ValueError: the labels do not fit the outputs, or the model's own predictions hold NaN.
        ConversionError: the network that measures BatchNorm statistics cannot be converted.
    """

    def __init__(
        self,
        pruning: Pruner,
        cost: Callable[[Sequence[int]], float],
        calibration: Split,
        reward_split: Split,
        base: bytes,
        scorer: Scorer,
        metric: Metric | None = None,
        reward: Reward | None = None,
        reconstruct: bool = True,
    ):
        self.pruning, self.cost = pruning, cost
        self._base, self._reward = base, reward
        # A part of the examples stands for all of them only in a random order; a caller's metric gets them in theirs.
        split = reward_split if metric is not None else _shuffled(reward_split)
        self.sample = EvalSet.of(split, base, scorer, metric)
        self._reconstruction = Reconstruction(pruning, calibration.inputs) if reconstruct else None
        try:
            self.candidates: Candidates | Converted = Candidates(pruning)
            self._statistics = Statistics(pruning, calibration.inputs, scorer)
        except ConversionError as error:
            warnings.warn(
                f"Each candidate is made by the converter, which takes seconds instead of milliseconds, because a "
                f".tflite of this network cannot be rewritten: {error}",
                stacklevel=2,
            )
            self.candidates = Converted(pruning)
            self._statistics = Statistics(pruning, calibration.inputs, scorer, Converted)
        self._files: dict[str, bytes] = {}  # the last few
        self._turn = threading.Lock()

    def __call__(self, widths: Sequence[int], beat: float | None = None) -> Outcome:
        """The outcome of keeping `widths[i]` channels of unit i.

        Args:
            widths: of all units.
            beat: the reward of the best candidate so far; one that almost certainly earns no more (see search.racing)
                is scored on a part of the examples only. None: on all of them.

        Raises:
            BadPredictions: the candidate's predictions hold NaN or infinity.
            ConversionError: the runtime cannot run the candidate.
            RunDirError: no room for the candidate's file.
        """
        widths = tuple(int(w) for w in widths)
        base_cost = self.base_cost
        if widths == self.pruning.full:  # nothing pruned: the network as it came, with its own statistics
            return Outcome(self.sample.base_accuracy, base_cost, self.sample.base_accuracy, base_cost)
        cost = float(self.cost(widths))
        accuracy, seen = self._score(self.tflite(widths), self._race(beat, cost, base_cost))
        examples = None if seen == len(self.sample) else seen
        return Outcome(accuracy, cost, self.sample.base_accuracy, base_cost, examples=examples)

    @property
    def shapes(self) -> Shapes:
        """The shapes of candidates.

        Raises:
            ConversionError: they cannot be foretold.
        """
        return self.candidates.shapes if isinstance(self.candidates, Candidates) else Shapes(self.pruning)

    @property
    def base_cost(self) -> float:
        """What the unpruned network costs."""
        return float(self.cost(self.pruning.full))

    def tflite(self, widths: Sequence[int]) -> bytes:
        """The candidate of these widths."""
        if tuple(widths) == self.pruning.full:
            return self._base
        plan = self.pruning.plan(widths)
        with self._turn:
            if plan.digest in self._files:
                return self._files[plan.digest]
        file = self.candidates(plan, self.weights(plan))
        with self._turn:
            self._files[plan.digest] = file
            while len(self._files) > _FILES:
                del self._files[next(iter(self._files))]
        return file

    def weights(self, plan: Plan) -> Weights:
        """The smaller network's weights, reconstructed, with the BatchNorm statistics that it has: path -> arrays."""
        sliced = self.pruning.sliced(plan)
        if all(mask.all() for mask in plan.values()):
            return sliced
        if self._reconstruction is not None:
            sliced = self._reconstruction(plan, sliced)
        return self._statistics(plan, sliced)

    def _score(self, tflite: bytes, race: Race | None) -> tuple[float, int]:
        """Accuracy of a candidate, and of how many examples."""
        if race is None:
            return self.sample.accuracy(tflite), len(self.sample)
        seen, found = 0, []
        with self.sample.scorer.load(tflite, self.sample.held) as loaded:
            for part in race.parts:
                found.append(outputs(loaded.run(seen, part)))
                seen = part
                accuracy = self.sample.score([np.concatenate(arrays) for arrays in zip(*found, strict=True)])
                if race.lost(round(accuracy * seen), seen):
                    break
        return accuracy, seen

    def _race(self, beat: float | None, cost: float, base_cost: float) -> Race | None:
        """The race that a candidate of this cost is in, if it is one of right and wrong examples."""
        examples = len(self.sample)
        if self.sample.metric is not None or self._reward is None or not self.sample.one_each:
            return None
        wanted = needed(self._reward, beat, cost, self.sample.base_accuracy, base_cost, examples)
        return None if wanted is None else Race(examples, wanted)


def _shuffled(split: Split) -> Split:
    return split.take(np.random.default_rng(0).permutation(len(split)))
