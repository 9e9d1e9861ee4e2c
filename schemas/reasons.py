"""The reason codes of the contract (section 2), and the errors that carry them."""

from typing import ClassVar, Final, Literal

from msgspec import Struct

ReasonCode = Literal[
    "OS_WORK_ORDER_APPEND_ONLY_VIOLATION",
    "OS_WORK_ORDER_IDEMPOTENCY_REPLAY",
    "OS_WORK_ORDER_TENANT_SCOPE_VIOLATION",
    "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED",
    "OS_WORK_ORDER_CANCEL_INVALID_STATE",
    "LEASE_HELD_BY_OTHER",
    "LEASE_TOKEN_INVALID",
    "LEASE_NOT_FOUND",
    "LEASE_TTL_OUT_OF_BOUNDS",
]

APPEND_ONLY_VIOLATION: Final = "OS_WORK_ORDER_APPEND_ONLY_VIOLATION"
IDEMPOTENCY_REPLAY: Final = "OS_WORK_ORDER_IDEMPOTENCY_REPLAY"
TENANT_SCOPE_VIOLATION: Final = "OS_WORK_ORDER_TENANT_SCOPE_VIOLATION"
CONTRACT_VALIDATION_FAILED: Final = "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED"
CANCEL_INVALID_STATE: Final = "OS_WORK_ORDER_CANCEL_INVALID_STATE"
LEASE_HELD_BY_OTHER: Final = "LEASE_HELD_BY_OTHER"
LEASE_TOKEN_INVALID: Final = "LEASE_TOKEN_INVALID"  # noqa: S105 - a reason code, no secret
LEASE_NOT_FOUND: Final = "LEASE_NOT_FOUND"
LEASE_TTL_OUT_OF_BOUNDS: Final = "LEASE_TTL_OUT_OF_BOUNDS"


class Violation(Struct, frozen=True, gc=False):
    """Why a record is refused: a code, the field at fault where there is one, and a sentence of at most 256 bytes."""

    reason_code: ReasonCode
    field: str | None
    sentence: str


def contract_failure(field: str | None, sentence: str) -> Violation:
    """The violation of most rules: input breaks the contract."""
    return Violation(CONTRACT_VALIDATION_FAILED, field, sentence)


class CoreTablesError(Exception):
    """Root of our errors: a message, whether trying again can help, a reason code where the contract has one."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, reason_code: ReasonCode | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason_code = reason_code
        self.field = field


class ContractError(CoreTablesError):
    """Input breaks a rule of the contract. Nothing was sent."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.sentence, reason_code=violation.reason_code, field=violation.field)
        self.violation = violation


class UnavailableError(CoreTablesError):
    """A dependency does not answer: `dependency` is kafka, postgres or redis. Trying again later can help."""

    retryable = True

    def __init__(self, dependency: Literal["kafka", "postgres", "redis"], message: str) -> None:
        super().__init__(message)
        self.dependency = dependency


class ClosedError(CoreTablesError):
    """A ledger or its reads were used after they had been closed. Nothing was sent."""


class SetupError(CoreTablesError):
    """Something is missing or not as expected; `init` or an operator repairs it. `subject` says what sort of thing."""

    def __init__(self, message: str, subject: Literal["topic", "database", "permission", "machine"]) -> None:
        super().__init__(message)
        self.subject = subject


class FatalClientError(CoreTablesError):
    """A client of Kafka cannot be used any more, whatever it is asked: only a new process can continue."""


class UnknownSchemaError(CoreTablesError):
    """A record was written with a schema this release does not know: deploy the worker before the producers."""


StopCause = Literal[
    "schema",  # a record has a schema that this release does not know
    "record",  # the Kafka client cannot read a record
    "defect",  # our code is wrong, or somebody else changed the tables
    "records_lost",  # the ledger topic lost records
    "audit_lost",  # the audit topic lost records, or holds others than ours
    "topic",
    "database",
    "permission",
    "machine",
]


class LaneStoppedError(CoreTablesError):
    """A lane cannot continue without a person: nothing is skipped; the message names the cause and the next step."""

    def __init__(self, message: str, cause: StopCause = "defect") -> None:
        super().__init__(message)
        self.cause = cause


def stop_cause(error: CoreTablesError) -> StopCause:
    """Why a lane stops that stops with this error."""
    match error:
        case UnknownSchemaError():
            return "schema"
        case SetupError(subject=subject):
            return subject
        case LaneStoppedError(cause=cause):
            return cause
        case _:
            return "defect"
