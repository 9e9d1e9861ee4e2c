"""What the acts on a work order share. The subclasses have one method for each event type (contract, section 4)."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from core_tables.producer.act import Act, ActOptions, LeaseClaim, NowNs
from core_tables.producer.natural_keys import natural_key
from core_tables.schemas.events import Payload
from core_tables.schemas.vocabulary import EventType

Made = TypeVar("Made")


class Acts(ABC, Generic[Made]):
    """What becomes of an act is up to the subclass: an event as a value, an append, or one that is awaited."""

    def __init__(self, clock: NowNs) -> None:
        self._clock = clock

    @abstractmethod
    def _do(self, act: Act) -> Made:
        """Make of an act what this class makes of it."""

    def _act(
        self,
        event_type: EventType,
        payload: Payload,
        idempotency_key: str | None,
        options: ActOptions,
        *,
        once: tuple[str | int, ...] = (),
        correlation_id: int | None = None,
        step_id: str | None = None,
        step_input_hash: str | None = None,
        lease: LeaseClaim | None = None,
    ) -> Made:
        """Do an act. Unless it was given a key, it has that of `once`: what tells it from every other act of its type."""
        act = Act(
            event_type=event_type,
            payload=payload,
            idempotency_key=natural_key(event_type, *once) if idempotency_key is None else idempotency_key,
            options=options,
            correlation_id=correlation_id,
            step_id=step_id,
            step_input_hash=step_input_hash,
            lease=lease,
        )
        return self._do(act)
