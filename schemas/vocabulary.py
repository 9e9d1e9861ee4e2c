"""The contract's enums and limits (sections 1 to 5): the one place that spells their symbols and numbers.

Symbols are plain strings with literal types, so that they go to Avro, Postgres and JSON without a conversion.
"""

from typing import Final, Literal, get_args

EventType = Literal[
    "WORK_ORDER_CREATED",
    "FIELD_SET",
    "FIELD_CONFLICT_RESOLVED",
    "FIELD_ASKED",
    "STATUS_CHANGED",
    "STEP_STARTED",
    "STEP_FINISHED",
    "STEP_FAILED",
    "STEP_RETRY_SCHEDULED",
    "LEASE_ACQUIRED",
    "LEASE_RENEWED",
    "LEASE_RELEASED",
    "EXTERNAL_APPROVAL_REQUESTED",
    "EXTERNAL_APPROVAL_RESOLVED",
    "WORK_ORDER_CANCELED",
]
WorkOrderStatus = Literal["DRAFT", "CLARIFY", "CONFIRM", "EXECUTING", "DONE", "REFUSED", "FAILED", "CANCELED"]
ConfirmationState = Literal["NOT_REQUIRED", "PENDING", "CONFIRMED", "EXPIRED"]
AttemptStatus = Literal["SCHEDULED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"]
LeaseState = Literal["ACTIVE", "EXPIRED", "RELEASED"]
OutcomeKind = Literal["ACCEPTED", "REPLAYED", "REFUSED"]
Severity = Literal["INFO", "WARN", "ERROR"]

EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
STATUSES: Final[tuple[WorkOrderStatus, ...]] = get_args(WorkOrderStatus)
PENDING_STATUSES: Final[frozenset[str]] = frozenset({"DRAFT", "CLARIFY", "CONFIRM"})
CLOSED_STATUSES: Final[frozenset[str]] = frozenset({"DONE", "REFUSED", "FAILED", "CANCELED"})
CREATED_STATUSES: Final[frozenset[str]] = PENDING_STATUSES | {"EXECUTING"}

ENGINE: Final = "SELENE_OS_CORE_TABLES"
LEDGER_TOPIC: Final = "core-tables.ledger.v1"
AUDIT_TOPIC: Final = "core-tables.audit.v1"
PARTITIONS: Final = 12
UNATTRIBUTED: Final = "_unattributed"

SCHEMA_VERSION: Final = 1
MAX_I64: Final = 2**63 - 1
MAX_U32: Final = 2**32 - 1
MAX_U128: Final = 2**128 - 1
MAX_ATTEMPT_INDEX: Final = 2**31 - 1
MAX_TTL_MS: Final = 300_000
NS_PER_MS: Final = 1_000_000
MAX_VALUE_BYTES: Final = 20 * 1024
MAX_PAYLOAD_BYTES: Final = 16 * 1024
MAX_TENANT_ID_BYTES: Final = 64
MAX_WORK_ORDER_ID_BYTES: Final = 128
MAX_STEP_ID_BYTES: Final = 96
MAX_HASH_BYTES: Final = 128
MAX_IDEMPOTENCY_KEY_BYTES: Final = 128
MAX_JSON_KEYS: Final = 64
MAX_PROMPT_DEDUPE_KEYS: Final = 256
MAX_JSON_BYTES: Final = 16 * 1024

NS_PER_HOUR: Final = 3_600_000_000_000
WARM_WINDOW_NS: Final = 30 * 24 * NS_PER_HOUR
HOT_WINDOW_NS: Final = 72 * NS_PER_HOUR
DEFAULT_TOP_N: Final = 10
MAX_TOP_N: Final = 100
