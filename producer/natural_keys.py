"""The idempotency key of an act that can happen only once, made from what tells it from every other act of its kind."""

from hashlib import sha256

from core_tables.schemas.vocabulary import MAX_IDEMPOTENCY_KEY_BYTES, EventType


def natural_key(event_type: EventType, *parts: str | int) -> str:
    """`EVENT_TYPE:part:part`, or with a hash in place of parts that are too long for a key.

    At most the first part is a free text, so two different lists of parts never give one key.
    """
    text = ":".join(map(str, parts))
    key = f"{event_type}:{text}" if parts else event_type
    if len(key.encode(errors="surrogatepass")) <= MAX_IDEMPOTENCY_KEY_BYTES:
        return key
    return f"{event_type}:{sha256(text.encode(errors='surrogatepass')).hexdigest()}"
