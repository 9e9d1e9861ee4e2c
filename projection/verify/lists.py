"""The pending lists in Redis, compared with the fold."""

from collections.abc import Mapping

from msgspec.structs import replace

from core_tables.projection.cache.entries import entry_of
from core_tables.projection.cache.pending_cache import PendingCache, StoredList, list_name
from core_tables.projection.fold.pending import PendingRecord, pending_record
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.verify.facts import LedgerFacts
from core_tables.projection.verify.report import Difference


class CachedLists:
    """The cached lists of the lanes whose label is at the offset of the snapshot.

    `not_compared` says which other lists may be there, and why they were not read. `lanes_ahead` are the lanes whose label is
    at a later offset: their lists cannot be compared with this snapshot.
    """

    def __init__(self, cache: PendingCache | None, facts: LedgerFacts) -> None:
        """Read the lists. Without a cache there are none."""
        self._facts = facts
        self._cached: dict[tuple[int, str], StoredList] = {}  # by lane and name of the list
        self._expected: dict[tuple[int, str], list[PendingRecord]] = {}
        self.not_compared: list[str] = []
        self.lanes_ahead: list[int] = []
        for lane, offset in facts.applied.items():
            if cache is None:
                break
            self._read(cache, lane, offset)
            if cache.failed is not None:  # it is not asked again for some seconds, so the other lanes would look empty
                self.not_compared.append(
                    f"the cached lists from lane {lane} on were not compared: the cache does not answer ({cache.failed})"
                )
                break

    def _read(self, cache: PendingCache, lane: int, offset: int) -> None:
        label = cache.label(lane) or ""
        position = label.rpartition(":")[2]
        if position != str(offset):
            self.lanes_ahead += [lane] if position.isdecimal() and int(position) > offset else []
            return
        for name in cache.list_names(lane, label):
            found = cache.read_list(lane, name)
            if cache.failed is not None:
                return
            if found.label != label:
                self.lanes_ahead.append(lane)
                return
            if found.records is None:
                self.not_compared.append(
                    f"lane {lane}: the cached list {name} was not compared: it is malformed, or was dropped just now"
                )
            else:
                self._cached[lane, name] = found
                self._expected[lane, name] = []

    def add(self, folded: Mapping[WorkOrderKey, WorkOrder]) -> None:
        """Add folded work orders to the lists that they belong in."""
        if not self._cached:
            return
        for (tenant_id, _), state in folded.items():
            record = pending_record(state)
            if record is not None:
                name = list_name(record.work_order_status, tenant_id, state.origin.requester_user_id or "")
                expected = self._expected.get((self._facts.lane_of(tenant_id), name))
                if expected is not None:
                    expected.append(replace(record, missing_fields=list(record.missing_fields)))

    def differences(self) -> list[Difference]:
        """The cached lists that differ from the fold, down to their markers."""
        return [
            Difference(None, None, "cache", f"lane {lane}: the list {name} differs from the ledger")
            for (lane, name), cached in self._cached.items()
            if not _is_right(cached, self._expected[lane, name])
        ]


def _is_right(cached: StoredList, expected: list[PendingRecord]) -> bool:
    """Whether a list has the records down to its marker, as equal values under the keys that they belong under."""
    by_entry = {entry: record for record in expected if (entry := entry_of(record)) < cached.marker}
    places = [entry.partition(b"\0")[0] for entry in cached.entries]
    wanted = sorted(by_entry)
    return places == [entry.partition(b"\0")[0] for entry in wanted] and cached.records == [
        by_entry[entry] for entry in wanted
    ]
