"""How long ago something that runs after an end was at that end."""


class CaughtUp:
    """When a position was last known to be at the end that it follows, in seconds of a monotonic clock.

    The end moves all the time, so the position is compared with where the end was before: once it has reached that, it was caught
    up as of then. No time of a record is looked at, so neither a replay nor a wrong clock changes the answer.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self._goal = 0
        self._goal_at = now

    def note(self, position: int, end: int, now: float) -> None:
        """Note where the position is, and where the end was at `now` or after it."""
        if position >= self._goal:
            self.at = max(self.at, self._goal_at)
            self._goal, self._goal_at = end, now
        if position >= end:
            self.at = max(self.at, now)

    def behind_s(self, now: float) -> float:
        """How many seconds ago the position was at the end."""
        return max(0.0, now - self.at)
