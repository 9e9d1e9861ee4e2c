"""The reads (contract, section 1): tenant-scoped, in one pipelined round trip each, enforced by the database."""

from core_tables.projection.postgres.due_reads import DueReads
from core_tables.projection.postgres.ledger_reads import LedgerReads
from core_tables.projection.postgres.pending_reads import PendingReads
from core_tables.projection.postgres.record_reads import RecordReads


class Reads(RecordReads, LedgerReads, DueReads, PendingReads):
    """The reads, as the reader's role; the cache is optional. Thread-safe, and right in a forked process.

    Each read raises UnavailableError if Postgres has not answered within READ_TIMEOUT_S, or by the deadline of `until`.
    A read that may answer with many rows gives a page of at most 1,000, and what to ask for the next one with.
    """
