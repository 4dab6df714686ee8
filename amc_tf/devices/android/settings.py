"""Settings of an AdbDevice, checked."""

from dataclasses import dataclass

from amc_tf.checks import is_whole

DELEGATES = ("xnnpack", "gpu", "nnapi", "none")
ANSWER_SECONDS = 20.0  # limit of a short command on the phone


@dataclass(frozen=True)
class AdbSettings:
    """How an AdbDevice measures; each field is an argument of AdbDevice, which says what it means.

    Raises:
        ValueError: a value is out of range.
    """

    num_threads: int
    cpu_mask: str
    delegate: str
    timeout: float
    max_celsius: float
    cool_down: float
    retries: int
    reconnect: float
    min_battery: int
    fixed_performance: bool

    def __post_init__(self):
        if not is_whole(self.num_threads) or self.num_threads < 1:
            raise ValueError(f"num_threads is {self.num_threads!r}; a whole number of 1 or more is expected.")
        if self.delegate not in DELEGATES:
            raise ValueError(f"delegate is {self.delegate!r}; on a phone it is one of {', '.join(DELEGATES)}.")
        if self.timeout <= 0:
            raise ValueError(f"timeout is {self.timeout!r}; a positive number of seconds is expected.")
        if not is_whole(self.retries) or self.retries < 0:
            raise ValueError(f"retries is {self.retries!r}; a whole number of 0 or more is expected.")
        for name, value in (("reconnect", self.reconnect), ("cool_down", self.cool_down)):
            if not value >= 0:
                raise ValueError(f"{name} is {value!r}; a number of 0 or more is expected.")
        if not 0 <= self.min_battery <= 100:
            raise ValueError(f"min_battery is {self.min_battery!r}; a percentage from 0 to 100 is expected.")
        if not self.max_celsius > 0:
            raise ValueError(f"max_celsius is {self.max_celsius!r}; a number of degrees above 0 is expected.")

    @property
    def answer_seconds(self) -> float:
        """Limit of a short command on the phone."""
        return min(ANSWER_SECONDS, self.timeout)
