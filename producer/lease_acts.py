"""The acts on the lease of a work order."""

from datetime import timedelta
from typing import Unpack

from core_tables.producer.act import ActOptions, LeaseClaim
from core_tables.producer.acts import Acts, Made
from core_tables.producer.moments import milliseconds, nanoseconds
from core_tables.schemas import events
from core_tables.schemas.vocabulary import EventType


class LeaseActs(Acts[Made]):
    """A lease is asked for, made to last longer, or given back."""

    def acquire_lease(
        self,
        owner_id: str,
        token_hash: str,
        *,
        ttl: timedelta,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """LEASE_ACQUIRED, for at most 5 minutes. Give a hash of the token, never the token.

        Key: the hash and `created_at`. Sending the same event again is a replay; asking again later is another act, which the
        ledger decides by itself.
        """
        payload = events.LeaseAcquired(milliseconds(ttl))
        return self._lease("LEASE_ACQUIRED", LeaseClaim(owner_id, token_hash), payload, idempotency_key, options)

    def renew_lease(
        self,
        owner_id: str,
        token_hash: str,
        *,
        ttl: timedelta,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """LEASE_RENEWED: the lease that is held lasts `ttl` from now. Key: the hash and `created_at`."""
        payload = events.LeaseRenewed(milliseconds(ttl))
        return self._lease("LEASE_RENEWED", LeaseClaim(owner_id, token_hash), payload, idempotency_key, options)

    def release_lease(
        self,
        owner_id: str,
        token_hash: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """LEASE_RELEASED. Key: the hash and `created_at`."""
        lease = LeaseClaim(owner_id, token_hash)
        return self._lease("LEASE_RELEASED", lease, events.LeaseReleased(), idempotency_key, options)

    def _lease(
        self, event_type: EventType, lease: LeaseClaim, payload: events.Payload, key: str | None, options: ActOptions
    ) -> Made:
        at = nanoseconds(options.get("created_at", self._clock()), "created_at")
        return self._act(
            event_type, payload, key, {**options, "created_at": at}, once=(lease.token_hash, at), lease=lease
        )
