"""Schedule: which algorithm proposes which trial. It is fixed beforehand, so that a resumed search does the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_tf.search.proposers.sensitivity import Sensitivity, samples_to_measure
from amc_tf.search.trial import Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

UNIFORM = 1  # number of the uniform plan's trial; trial 0 is the unpruned network
_SCAN_SHARE = 0.2  # most of the episodes that a sensitivity scan may take
_WARMUP = 0.25  # share of the agent's and the refinement's trials in which the agent acts at random: 100 of 400
_REFINEMENT_SHARE = 1 / 3  # share of these trials, the last ones, that are the refinement's alone


@dataclass(frozen=True)
class Schedule:
    """Which algorithm proposes each trial.

    Trial 0 is the unpruned network and trial 1 the uniform plan. If `paper` is True, all others are the agent's, as in
    the paper. Otherwise these follow, in this order: the plans of one threshold, the samples of a sensitivity scan, the
    greedy plan that uses them; then agent and refinement take turns; the last third of these turns is the refinement's.

    Attributes:
        episodes: Number of trials after the uniform plan.
        samples: (unit's index, width) of the networks of the sensitivity scan; empty if the sensitivity is known
            already, or if the scan would take more than 20 % of the episodes.
        greedy: Whether there is a greedy plan.
        paper: Whether this is the paper's schedule.
        thresholds: Number of plans that cut all units at one threshold.
    """

    episodes: int
    samples: tuple[tuple[int, int], ...] = ()
    greedy: bool = False
    paper: bool = False
    thresholds: int = 0

    @classmethod
    def of(
        cls,
        units: Sequence["Unit"],
        episodes: int,
        table: Sensitivity | None = None,
        paper: bool = False,
        trials: Sequence[Trial] = (),
        thresholds: int = 0,
    ) -> "Schedule":
        """The schedule of a search.

        If the sensitivity scan (at most 3 widths per unit) fits in 20 % of the episodes, it runs first.

        Args:
            units: In the order in which they are decided.
            episodes: Number of trials after the uniform plan.
            table: Known sensitivity of the units, or None.
            paper: Whether all trials after the uniform plan are the agent's.
            trials: Trials of the search so far. They tell whether the search began with a scan: a search that is
                resumed with more episodes keeps that decision.
            thresholds: Number of plans that cut all units at one threshold.
        """
        if paper:
            return cls(episodes, paper=True)
        thresholds = min(thresholds, episodes)
        if table is not None:
            return cls(episodes, greedy=episodes > thresholds, thresholds=thresholds)
        samples = samples_to_measure(units)
        scans = 0 < len(samples) <= min(_SCAN_SHARE * episodes, episodes - thresholds - 1)
        if samples and len(trials) > UNIFORM + 1 + thresholds:
            scans = trials[UNIFORM + 1 + thresholds].kind == "sensitivity"
        return cls(episodes, samples if scans else (), scans, thresholds=thresholds)

    def kind(self, number: int) -> str:
        """Which algorithm proposes the trial of that number: one of trial.KINDS."""
        if number <= UNIFORM:
            return "uniform" if number == UNIFORM else "base"
        place = number - self.first_sample
        if place < 0:
            return "threshold"
        if place < len(self.samples):
            return "sensitivity"
        place -= len(self.samples)
        if self.greedy and place == 0:
            return "greedy"
        turn = number - self._first_turn
        if not self.paper and (turn % 2 or turn >= round((1 - _REFINEMENT_SHARE) * self._turns)):
            return "refined"
        return "agent"

    @property
    def total(self) -> int:
        """Number of trials."""
        return UNIFORM + 1 + self.episodes

    @property
    def first_sample(self) -> int:
        """Number of the trial of the first sensitivity sample, if there is one."""
        return UNIFORM + 1 + self.thresholds

    @property
    def first_learned(self) -> int:
        """Number of the first trial that the agent learns from, its episode 0."""
        return UNIFORM + 1 if self.paper else UNIFORM

    @property
    def warmup(self) -> int:
        """Number of the agent's first episodes, counted from `first_learned`, in which it acts at random."""
        return self._first_turn - self.first_learned + int(_WARMUP * self._turns)

    @property
    def acting(self) -> int:
        """Number of episodes, counted from `first_learned`, until the agent no longer acts."""
        if self.paper:
            return self.episodes
        return self._first_turn - self.first_learned + max(1, round((1 - _REFINEMENT_SHARE) * self._turns))

    @property
    def _first_turn(self) -> int:
        """Number of the first trial that the agent or the refinement proposes."""
        return self.first_sample + len(self.samples) + self.greedy

    @property
    def _turns(self) -> int:
        """Number of trials that the agent and the refinement propose."""
        return self.total - self._first_turn
