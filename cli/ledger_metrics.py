"""The metrics of the ledger as a whole, which no worker can show: lanes that nobody has, and drift."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from core_tables.consumer.metric_families import counter, gauge
from core_tables.kafka.log import LogEnd
from core_tables.projection.postgres.lanes import LanePosition

Source = Literal["postgres", "kafka", "group", "drift"]
SOURCES: Final[tuple[Source, ...]] = get_args(Source)


@dataclass(frozen=True)
class LedgerView:
    """What was found in one round. What could not be asked for is None, and its metrics are then absent.

    Attributes:
        first_lane: the lane of partition 0.
        positions: the rows of the lanes, by lane.
        ends: the ends of the logs, by partition.
        starts: their first offsets.
        owned: how many lanes a worker has.
        drifting: how many work orders differ from the fold of their ledger rows, of those that are known.
    """

    first_lane: int = 0
    positions: Mapping[int, LanePosition] | None = None
    ends: Mapping[int, LogEnd] | None = None
    starts: Mapping[int, int] | None = None
    owned: int | None = None
    drifting: int | None = None
    failed: Mapping[Source, str] = field(default_factory=dict)


class LedgerCollector(Collector):
    """Collects the metrics of the last round."""

    def __init__(self, view: Callable[[], LedgerView], compared: Callable[[], int]) -> None:
        """`view` gives what the last round found, nothing if it is too old; `compared` how many work orders were compared."""
        self._view = view
        self._compared = compared

    def collect(self) -> Iterator[Metric]:
        """All metrics but those of the process."""
        view = self._view()
        answers = {source: float(source not in view.failed) for source in SOURCES}
        yield gauge("monitor_source_answers", "Whether what the monitor asks answered the last time", answers, "source")
        if view.positions is not None:
            lanes = {str(lane): row for lane, row in sorted(view.positions.items())}
            yield gauge("ledger_lanes", "How many lanes the topic has", {(): len(lanes)})
            applied = {name: row.applied for name, row in lanes.items()}
            yield gauge("ledger_lane_applied_offset", "The next offset to be folded", applied, "lane")
            audited = {name: row.audited for name, row in lanes.items()}
            yield gauge(
                "ledger_lane_audited_offset", "The next offset whose outcome is to be published", audited, "lane"
            )
            folds = [str(row.fold_version) for row in lanes.values()]
            versions = {fold: folds.count(fold) for fold in folds}
            yield gauge(
                "database_fold_versions", "How many lanes a fold of this version wrote", versions, "fold_version"
            )
        if view.ends is not None:
            ends = {str(view.first_lane + partition): end for partition, end in sorted(view.ends.items())}
            highs = {name: end.high for name, end in ends.items()}
            yield gauge("ledger_lane_log_end_offset", "The end of the lane's log", highs, "lane")
            stables = {name: end.stable for name, end in ends.items()}
            yield gauge("ledger_lane_last_stable_offset", "The end of what is committed", stables, "lane")
        if view.starts is not None:
            starts = {str(view.first_lane + partition): start for partition, start in sorted(view.starts.items())}
            yield gauge("ledger_lane_first_offset", "The first offset of the lane's log", starts, "lane")
        if view.owned is not None:
            yield gauge("ledger_lanes_owned", "How many lanes a worker has", {(): view.owned})
        if view.drifting is not None:
            text = "Work orders that are not the fold of their ledger rows, of those that were compared"
            yield gauge("drift_work_orders", text, {(): view.drifting})
        yield counter(
            "drift_compared",
            "Work orders that were compared with the fold of their ledger rows",
            {(): self._compared()},
        )
