"""When something that is done once per period is due again."""

from collections.abc import Callable

Clock = Callable[[], float]  # monotonic seconds


class Timer:
    """Due at once, and then a period after each restart."""

    def __init__(self, clock: Clock, period_s: float) -> None:
        self._clock = clock
        self._period_s = period_s
        self._due_at = 0.0

    def due(self) -> bool:
        """Whether the period is over."""
        return self._clock() >= self._due_at

    def restart(self) -> None:
        """Start a period."""
        self._due_at = self._clock() + self._period_s

    def expire(self) -> None:
        """End the period now."""
        self._due_at = 0.0
