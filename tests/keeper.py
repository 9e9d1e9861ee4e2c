"""Waits for the process that started it to die; if that did not say that it had cleared up, clears up after it.

Python starts it as a script, in a session of its own: Ctrl-C and the end of a terminal do not reach it, and it imports next to
nothing. Its standard input is a pipe from the run: `DONE`, or nothing more once the run has died. A process that was forked from
the run may hold the pipe open, so it also looks at who its parent is.
"""

import os
import select
import sys
from pathlib import Path

DONE = b"done"
PAUSE_S = 0.5


def main() -> None:
    """The arguments are the process id of the run and the file of its notes."""
    parent, notes = int(sys.argv[1]), sys.argv[2]
    while os.getppid() == parent:
        if select.select([0], [], [], PAUSE_S)[0]:
            if os.read(0, len(DONE)) == DONE:
                return
            break
    os.chdir(Path(__file__).parents[1])
    os.execv(sys.executable, [sys.executable, "-m", "tests.leftovers", notes])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
