"""Ask a user for what is missing, and never ask twice: of two programs that do so at once, one shows the question.

    python examples/never_ask_twice.py TENANT_ID WORK_ORDER_ID

A worker must be running. Run it in two terminals at once, or twice in a row: the question is shown once.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from zlib import crc32

from core_tables import Accepted, Ledger, Refused

TIMEOUT_S = 30.0
REASON = 1  # reason codes are your own


def ask(ledger: Ledger, tenant_id: str, work_order_id: str, field: str, prompt: str) -> bool:
    """Whether it is up to this program to show a prompt: its event is the one that was accepted."""
    order = ledger.work_order(tenant_id, work_order_id, reason_code=REASON)
    outcome = order.ask(field, prompt_dedupe_key=prompt, status="CLARIFY").outcome(TIMEOUT_S)
    if isinstance(outcome, Refused) or outcome is None:
        sys.exit(f"not asked: {outcome.sentence if outcome else 'not decided yet; is a worker running?'}")
    return outcome == Accepted()


def main(tenant_id: str, work_order_id: str) -> None:
    """Create the work order, unless it is there, and ask for the city."""
    with Ledger.connect() as ledger:
        order = ledger.work_order(tenant_id, work_order_id, reason_code=REASON)
        correlation_id = crc32(work_order_id.encode()) + 1  # in your program: the id of the conversation
        created = order.create(correlation_id=correlation_id, requester_user_id="ada", missing_fields=["city"])
        created.outcome(TIMEOUT_S)
        if ask(ledger, tenant_id, work_order_id, "city", f"{work_order_id}:city"):
            print("Which city?")
        else:
            print("somebody has asked already")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    main(**vars(parser.parse_args()))
