"""Schedule: who decides which trial; fixed beforehand, so that a search that goes on does as it would have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_tf.search.proposers.sensitivity import Sensitivity, points
from amc_tf.search.trial import Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

UNIFORM = 1  # number of the trial; 0 is the unpruned network
_TABLE_SHARE = 0.2  # of the episodes at most that measuring a sensitivity table may take
_WARMUP = 0.25  # of the episodes that are the agent's: the paper's 100 of 400
_LAST = 1 / 3  # of them that refinement has for itself


@dataclass(frozen=True)
class Schedule:
    """Who decides each trial.

    Trial 0 is the unpruned network and trial 1 the uniform plan. As in the paper all others are the agent's; or, where
    `paper` is False, there follow the plans of one threshold, where there are such, the points of a sensitivity table
    and the greedy plan that the table leads to; then the agent and the refinement take turns, and the last third is the
    refinement's.

    Attributes:
        episodes: Trials after the uniform plan.
        thresholds: How many plans of one threshold for all units there are.
        points: (unit's index, width) of the networks that the table is measured on; empty where it is known already or
            would take too much of the episodes.
        greedy: Whether there is a greedy plan.
        paper: Whether it is the paper's schedule.
    """

    episodes: int
    points: tuple[tuple[int, int], ...] = ()
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

        Args:
            units: In the order in which they are decided.
            episodes: Trials after the uniform plan.
            table: What is known of the units' sensitivity.
            paper: Whether all are to be the agent's.
            trials: Of the search so far: one that is given more episodes does not change its mind about the table.
            thresholds: How many plans of one threshold for all units there are.
        """
        if paper:
            return cls(episodes, paper=True)
        thresholds = min(thresholds, episodes)
        if table is not None:
            return cls(episodes, greedy=episodes > thresholds, thresholds=thresholds)
        wanted = points(units)
        affordable = 0 < len(wanted) <= min(_TABLE_SHARE * episodes, episodes - thresholds - 1)
        if wanted and len(trials) > UNIFORM + 1 + thresholds:
            affordable = trials[UNIFORM + 1 + thresholds].kind == "sensitivity"
        return cls(episodes, wanted if affordable else (), affordable, thresholds=thresholds)

    def kind(self, number: int) -> str:
        """Who decides the trial of that number: one of outcome.KINDS."""
        if number <= UNIFORM:
            return "uniform" if number == UNIFORM else "base"
        place = number - self.table
        if place < 0:
            return "threshold"
        if place < len(self.points):
            return "sensitivity"
        place -= len(self.points)
        if self.greedy and place == 0:
            return "greedy"
        turn = number - self._first
        if not self.paper and (turn % 2 or turn >= round((1 - _LAST) * self._turns)):
            return "refined"
        return "agent"

    @property
    def total(self) -> int:
        """How many trials there are."""
        return UNIFORM + 1 + self.episodes

    @property
    def table(self) -> int:
        """Number of the trial that measures the first point of the table, if any does."""
        return UNIFORM + 1 + self.thresholds

    @property
    def taught(self) -> int:
        """Number of the first trial that the agent learns from, its episode 0."""
        return UNIFORM + 1 if self.paper else UNIFORM

    @property
    def warmup(self) -> int:
        """How many of the agent's episodes, counted from `taught`, are random where it is the agent that acts."""
        return self._first - self.taught + int(_WARMUP * self._turns)

    @property
    def acting(self) -> int:
        """How many episodes, counted from `taught`, there are until the agent acts no more."""
        if self.paper:
            return self.episodes
        return self._first - self.taught + max(1, round((1 - _LAST) * self._turns))

    @property
    def _first(self) -> int:
        """Number of the first trial that the agent or the refinement decides."""
        return self.table + len(self.points) + self.greedy

    @property
    def _turns(self) -> int:
        """How many trials the agent and the refinement decide."""
        return self.total - self._first
