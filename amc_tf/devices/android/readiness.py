"""HeatGate: waits until a phone is fit for a measurement: cool, with free clocks and a battery that needs no saving."""

import time
from collections.abc import Callable, Mapping

from amc_tf.devices.android.phone_info import State
from amc_tf.errors import DeviceError


class Throttled(DeviceError):
    """The phone was too hot, or held its clocks down, for longer than `cool_down`."""


class HeatGate:
    """Lets a measurement begin only if the phone is cool.

    Args:
        name: of the phone.
        ask: returns the phone's state.
        max_celsius: highest temperature of the battery.
        cool_down: seconds to wait for that.
        min_battery: least charge, percent.
    """

    def __init__(self, name: str, ask: Callable[[], State], max_celsius: float, cool_down: float, min_battery: int):
        self._name, self._ask = name, ask
        self._max_celsius, self._cool_down, self._min_battery = max_celsius, cool_down, min_battery
        self._caps: dict[str, int] = {}  # policy -> highest clock that the phone allowed so far, kHz

    def wait(self) -> State:
        """Returns the phone's state as soon as it is cool.

        Raises:
            Throttled: the phone does not cool down in time.
            DeviceError: something else is wrong, which waiting does not mend.
        """
        until = time.monotonic() + self._cool_down
        while True:
            state = self._ask()
            self._refuse(state)
            heat = throttled(state, self._caps) or self._warm(state)
            if heat is None:
                self._caps.update(state.caps or {})  # none of the caps is lower than before
                return state
            if time.monotonic() >= until:
                waited = f" even after {self._cool_down:.0f} s" if self._cool_down else ""
                raise Throttled(
                    f"{self._name} is too hot to measure{waited} ({heat}): put it where it is cooler, take it out of "
                    f"its case, or allow a longer cool_down."
                )
            time.sleep(min(5.0, self._cool_down / 20))

    def _warm(self, state: State) -> str | None:
        if state.battery_celsius is not None and state.battery_celsius > self._max_celsius:
            return f"its battery has {state.battery_celsius} degrees Celsius, more than {self._max_celsius}"
        return None

    def _refuse(self, state: State) -> None:
        if state.overridden:
            raise DeviceError(
                f"The thermal status of {self._name} is set by hand, so heat would not show: run `adb shell cmd "
                f"thermalservice reset`."
            )
        if state.low_power:
            raise DeviceError(f"The battery saver of {self._name} is on and holds its clocks down: switch it off.")
        if state.battery_percent is not None and state.battery_percent < self._min_battery:
            raise DeviceError(
                f"The battery of {self._name} has {state.battery_percent} %, less than {self._min_battery} %, and "
                f"phones save power then: charge it, or allow a lower min_battery."
            )


def throttled(state: State, caps: Mapping[str, int]) -> str | None:
    """How the phone throttles, None if it does not.

    The signs are its own thermal status, and caps of the clocks below earlier ones. A cap below the processor's highest
    clock is no sign by itself, since many makers set one for good.

    Args:
        state: of the phone now.
        caps: policy -> highest clock allowed earlier, kHz.
    """
    if state.thermal_status:
        return f"its thermal status is {state.thermal_status}"
    for policy, khz in (state.caps or {}).items():
        if khz < caps.get(policy, 0):
            return f"{policy} may run at {khz // 1000} MHz, before at {caps[policy] // 1000} MHz"
    return None
