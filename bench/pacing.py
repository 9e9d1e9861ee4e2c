"""An open-loop schedule, and percentiles of what it measured."""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

WARM_S: Final = 1.0  # at the start of a schedule, sent but not counted: connections, plans and code paths warm up


class Spread(NamedTuple):
    """Percentiles in milliseconds. With fewer than 1,000 values p99.9 is the largest of them."""

    samples: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


def spread(seconds: Sequence[float]) -> Spread:
    """The percentiles (nearest rank) of durations. Raises ValueError if there are none."""
    if not seconds:
        raise ValueError("nothing was measured; the run was too short")
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Spread(len(ordered), *(1000 * ordered[min(last, int(len(ordered) * part))] for part in (0.5, 0.99, 0.999)))


def pace(rate: float, seconds: float, send: Callable[[float], None]) -> float:
    """Call `send` at each time of a schedule, with that time; return how late a call was at most, in milliseconds.

    The schedule does not wait for answers: if the system stalls, what is due in the meantime is late and counts as late.
    """
    started = time.monotonic() + 0.01
    latest = 0.0
    for number in range(int(rate * seconds)):
        due = started + number / rate
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)
        send(due)
        latest = max(latest, time.monotonic() - due)
    return 1000 * latest
