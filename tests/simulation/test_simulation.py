"""The real worker under thousands of schedules, and proof that the simulation sees what it must."""

import os

import pytest

from .defects import DEFECTS, Plant
from .simulation import Simulation, ViolationError

SEEDS = int(os.environ.get("SEEDS", "1200"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
CHUNK = 100


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, CHUNK))
def test_no_schedule_breaks_an_invariant(first: int) -> None:
    """A failure names its seed; `FIRST_SEED=<seed> SEEDS=1 make simulate` plays it again."""
    turns = 0
    faults: dict[str, int] = {}
    for seed in range(first, min(first + CHUNK, FIRST_SEED + SEEDS)):
        run = Simulation(seed)
        try:
            run.execute()
        finally:
            run.close()
        turns += run.turns
        for fault, count in run.faults.items():
            faults[fault] = faults.get(fault, 0) + count
    print(f"seeds from {first}: {turns} turns, {faults}")


def test_a_seed_replays_its_run() -> None:
    runs = []
    for _ in range(2):
        run = Simulation(11)
        try:
            run.execute()
        finally:
            run.close()
        runs.append((run.turns, run.faults, run.database.tables.lanes))
    assert runs[0] == runs[1]


@pytest.mark.parametrize(("plant", "seeds"), DEFECTS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_defect_is_found(plant: Plant, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    change = plant(monkeypatch)
    for seed in seeds:
        run = Simulation(seed)
        change(run)
        try:
            run.execute()
        except ViolationError as violation:
            print(f"{plant.__name__}: {violation}")
            return
        finally:
            run.close()
    pytest.fail(f"{plant.__name__} went unseen in {len(seeds)} seeds")
