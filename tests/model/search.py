"""Search with a budget of your own: `python tests/model/search.py --crashes 1 --lost-replies 1 --failovers 1`.

`--of cache` searches the cache. It prints how many states there are, or the shortest way to what is wrong.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Search; 1 if something was found."""
    sys.path.insert(0, str(ROOT))  # run as a script: the package is two folders up
    from tests.model import cache_world, restart_world
    from tests.model.cache import CacheRule
    from tests.model.explore import Found, explore
    from tests.model.restart_rule import RestartRule

    faults = sorted({*restart_world.Budget._fields, *cache_world.Budget._fields})
    args = _arguments(faults)
    worlds = {"restart-rule": restart_world.Budget._fields, "cache": cache_world.Budget._fields}
    budget = {fault: getattr(args, fault) for fault in faults if getattr(args, fault)}
    if foreign := budget.keys() - set(worlds[args.of]):
        sys.exit(f"the {args.of} has no {', '.join(sorted(foreign))}")
    started = time.monotonic()
    found: Found
    if args.of == "cache":
        scenario = cache_world.Scenario(cache_world.Budget(**budget), records=args.records)
        found = explore(CacheRule(scenario), args.limit)
    else:
        rule = restart_world.Scenario(restart_world.Budget(**budget), records=args.records)
        found = explore(RestartRule(rule), args.limit)
    print(f"{args.of}, {args.records} records, {budget}: {found.states} states in {time.monotonic() - started:.1f} s")
    for label in found.trace:
        print(f"    {label}")
    print(found.violation or "it holds")
    return int(found.violation is not None)


def _arguments(faults: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search every interleaving of two workers under a budget of faults.")
    parser.add_argument("--of", choices=["restart-rule", "cache"], default="restart-rule")
    parser.add_argument("--records", type=int, default=3)
    parser.add_argument("--limit", type=int, default=20_000_000, help="states (about 1 KiB each)")
    for fault in faults:
        parser.add_argument(f"--{fault.replace('_', '-')}", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
