"""`make kube`: brings Core Tables up in a cluster, shows it scaling and surviving, and takes it down again."""

import sys
import time
from typing import Final

from .cluster import NAMESPACE, Cluster
from .images import LOAD, build_image, load_images
from .journey import Journey, set_up

_BEGUN: Final = time.monotonic()


def _say(line: str) -> None:
    print(f"{time.monotonic() - _BEGUN:6.1f} s  {line}", flush=True)


def main() -> int:
    """The exit code: 0 if everything held."""
    cluster = Cluster()
    if why := cluster.why_not():
        print(f"{why}; see that `kubectl get nodes` answers, and try again", file=sys.stderr)
        return 1
    try:
        build_image(_say)
        load_images(_say)
        world = set_up(cluster, _say)
        try:
            report = Journey(cluster, world, _say).run()
        finally:
            world.close()
    except Exception as error:
        _say(f"FAILED: {type(error).__name__}: {error}")
        print(cluster.diagnosis(), file=sys.stderr)
        print(
            f"\nIt failed, and everything is still in the namespace {NAMESPACE}. See above what its pods say; if a pod has no "
            f"image, set {LOAD} (CONTRIBUTING.md).\nThen: kubectl delete namespace {NAMESPACE}",
            file=sys.stderr,
        )
        return 1
    _say("everything holds; take it down")
    cluster.remove()
    print("\nseconds from append to outcome, of events appended meanwhile:")
    print("\n".join(report))
    print("\nEvery append was decided once and as the contract says; tables, cache and audit agree with the topic.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
