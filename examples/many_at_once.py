"""Create many work orders at once with asyncio, and read what became of them.

    python examples/many_at_once.py TENANT_ID COUNT

A worker must be running. Run it again, and each is a replay.
"""

import asyncio
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from zlib import crc32

from core_tables import AsyncLedger, Reads

TIMEOUT_S = 30.0


async def create(ledger: AsyncLedger, tenant_id: str, work_order_id: str) -> str:
    """Create one; what became of it."""
    order = ledger.work_order(tenant_id, work_order_id, reason_code=1)
    correlation_id = crc32(work_order_id.encode()) + 1  # in your program: the id of the conversation
    receipt = await order.create(correlation_id=correlation_id, requester_user_id="ada")
    return type(await receipt.outcome(TIMEOUT_S)).__name__


async def main(tenant_id: str, count: int) -> None:
    """Create them, then read them."""
    names = [f"many-{number}" for number in range(count)]
    async with await AsyncLedger.connect() as ledger:
        outcomes = await asyncio.gather(*(create(ledger, tenant_id, name) for name in names))
        print("outcomes:", dict(Counter(outcomes)))
        records = await asyncio.gather(*(ledger.read(Reads.current, tenant_id, name) for name in names))
        print("statuses:", dict(Counter(record.work_order_status for record in records if record is not None)))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("count", type=int)
    asyncio.run(main(**vars(parser.parse_args())))
