"""A scheduler that decides, by a seed, who runs next: one actor at a time, switched at every call to an edge.

An actor is a greenlet: it runs until it hands the baton back, at its next edge. So a seed replays a run. With threads, which the
operating system must switch, a run took two to four times as long.
"""

import random
from collections.abc import Callable

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """The process of an actor was killed: nothing catches this, and nothing runs after it."""


class Actor:
    """Something with a stack of its own, such as a thread of a worker, that runs when it is given the baton."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self.killed = False
        self.done = False
        self.wakes_at = 0  # the turn until which its process is stopped
        self.error: BaseException | None = None
        self._run = run
        self._greenlet = greenlet(self._body)

    def _body(self) -> None:
        try:
            if not self.killed:
                self._run()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.done = True

    def resume(self) -> None:
        """Give the actor the baton until its next edge, or its end."""
        self._greenlet.parent = getcurrent()
        self._greenlet.switch()

    def edge(self) -> None:
        """Called by the actor itself: hand the baton back, and continue when it returns."""
        self._greenlet.parent.switch()
        if self.killed:
            raise Killed

    def kill(self) -> None:
        """End the actor as kill -9 would, at the edge it waits at."""
        self.killed = True
        while not self.done:
            self.resume()


class Scheduler:
    """Picks actors at random, and owns time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.turns = 0
        self.actors: list[Actor] = []
        self.current: Actor | None = None

    def start(self, name: str, run: Callable[[], None]) -> Actor:
        """A new actor, which waits for its turn."""
        actor = Actor(name, run)
        self.actors.append(actor)
        return actor

    def edge(self) -> None:
        """An edge is called: its caller may lose the baton here."""
        if self.current is not None:
            self.current.edge()

    def turn(self) -> None:
        """Let one actor run to its next edge; a little time passes, now and then much."""
        self.turns += 1
        self.now += self.chance.choice((0.001, 0.005, 0.02, 0.02, 0.3))
        self.actors = [actor for actor in self.actors if not actor.done]
        awake = [actor for actor in self.actors if actor.wakes_at <= self.turns]
        if not awake:
            return
        self.current = self.chance.choice(awake)
        self.current.resume()
        self.current = None
