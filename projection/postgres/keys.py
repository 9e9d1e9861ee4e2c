"""What statements are asked with: the keys of rows, and the positions of lanes."""

from msgspec import Struct

from core_tables.schemas.reasons import StopCause


class WorkOrderName(Struct, frozen=True, gc=False):
    """A work order."""

    tenant_id: str
    work_order_id: str

    @property
    def key(self) -> tuple[str, str]:
        """The same as a tuple."""
        return self.tenant_id, self.work_order_id


class AttemptName(Struct, frozen=True, gc=False):
    """A step attempt."""

    tenant_id: str
    work_order_id: str
    step_id: str
    attempt_index: int


class IdempotencyKey(Struct, frozen=True, gc=False):
    """An idempotency key of a work order."""

    tenant_id: str
    work_order_id: str
    idempotency_key: str


class Correlation(Struct, frozen=True, gc=False):
    """A correlation_id of a tenant, as text."""

    tenant_id: str
    correlation_id: str


class RecordName(Struct, frozen=True, gc=False):
    """A record: its tenant, and its event id."""

    tenant_id: str
    event_id: int


class LaneName(Struct, frozen=True, gc=False):
    """A lane."""

    lane: int


class Registration(Struct, frozen=True, gc=False):
    """A writer schema that is registered for a lane, from an offset on."""

    lane: int
    fingerprint: str
    first_offset: int


class Move(Struct, frozen=True, gc=False, order=True):
    """What a batch does to a lane: from `applied` at `epoch` to `reached`; below `audited` all is audited."""

    lane: int
    applied: int
    epoch: int
    reached: int
    audited: int


class Position(Struct, frozen=True, gc=False):
    """A lane, and the next offset to fold or to audit in it."""

    lane: int
    reached: int


class LaneStop(Struct, frozen=True, gc=False):
    """Why and where a lane stopped: `event_id` is that of the first record that was not folded."""

    lane: int
    event_id: int
    cause: StopCause
    sentence: str
    worker: str
