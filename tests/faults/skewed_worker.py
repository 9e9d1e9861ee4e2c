"""A worker whose wall clock jumps by an hour, forwards and backwards, at every look at it: `skewed_worker`."""

import itertools
import sys
import time

from core_tables.cli.main import main

HOUR_S = 3600.0

if __name__ == "__main__":
    real, jumps = time.time, itertools.cycle((HOUR_S, 0.0, -HOUR_S))
    time.time = lambda: real() + next(jumps)
    time.time_ns = lambda: int(time.time() * 1e9)
    sys.argv[1:] = ["worker", "--batch", "100"]
    main()
