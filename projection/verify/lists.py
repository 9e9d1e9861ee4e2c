"""The pending lists in Redis, compared with the fold."""

from collections.abc import Mapping

from msgspec.structs import replace

from core_tables.projection.cache.pending_cache import PendingCache, list_name
from core_tables.projection.fold.pending import PendingRecord, pending_record
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.verify.facts import LedgerFacts
from core_tables.projection.verify.report import Difference


class CachedLists:
    """The cached lists of the lanes whose label is at the offset of the snapshot. Those of other lanes cannot be compared."""

    def __init__(self, cache: PendingCache | None, facts: LedgerFacts) -> None:
        """Read the lists. Without a cache there are none."""
        self._facts = facts
        self._cached: dict[tuple[int, str], list[PendingRecord]] = {}  # by lane and name of the list
        self._expected: dict[tuple[int, str], list[PendingRecord]] = {}
        if cache is not None:
            for lane, offset in facts.applied.items():
                self._read(cache, lane, offset)

    def _read(self, cache: PendingCache, lane: int, offset: int) -> None:
        label = cache.label(lane)
        if label is None or label.rpartition(":")[2] != str(offset):
            return
        for name in cache.list_names(lane, label):
            found = cache.read_list(lane, name)
            if found.label == label and found.records is not None:
                self._cached[lane, name] = found.records
                self._expected[lane, name] = []

    def add(self, folded: Mapping[WorkOrderKey, WorkOrder]) -> None:
        """Add folded work orders to the lists that they belong in."""
        if not self._cached:
            return
        for (tenant_id, _), state in folded.items():
            record = pending_record(state)
            if record is not None:
                name = list_name(tenant_id, state.origin.requester_user_id or "")
                expected = self._expected.get((self._facts.lane_of(tenant_id), name))
                if expected is not None:
                    expected.append(replace(record, missing_fields=list(record.missing_fields)))

    def differences(self) -> list[Difference]:
        """The cached lists that differ from the fold."""
        return [
            Difference(None, None, "cache", f"lane {lane}: the list {name} differs from the ledger")
            for (lane, name), cached in self._cached.items()
            if sorted(cached, key=_id) != sorted(self._expected[lane, name], key=_id)
        ]


def _id(record: PendingRecord) -> str:
    return record.work_order_id
