"""The acts on the external approval of a work order."""

from typing import Unpack

from core_tables.producer.act import ActOptions
from core_tables.producer.acts import Acts, Made
from core_tables.producer.moments import Moment, nanoseconds
from core_tables.schemas import events


class ApprovalActs(Acts[Made]):
    """Somebody outside is asked, and answers."""

    def request_approval(
        self,
        request_id: str,
        *,
        target_user_id: str,
        expires_at: Moment,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """EXTERNAL_APPROVAL_REQUESTED. Key: the request."""
        payload = events.ExternalApprovalRequested(request_id, target_user_id, nanoseconds(expires_at, "expires_at"))
        return self._act("EXTERNAL_APPROVAL_REQUESTED", payload, idempotency_key, options, once=(request_id,))

    def resolve_approval(
        self, request_id: str, decision: str, *, idempotency_key: str | None = None, **options: Unpack[ActOptions]
    ) -> Made:
        """EXTERNAL_APPROVAL_RESOLVED. Key: the request, as the first answer to it counts."""
        payload = events.ExternalApprovalResolved(request_id, decision)
        return self._act("EXTERNAL_APPROVAL_RESOLVED", payload, idempotency_key, options, once=(request_id,))
