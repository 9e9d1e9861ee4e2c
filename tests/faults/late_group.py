"""Asks about groups of a simulated broker that answers later than is waited for: `ours`, or by the `client`'s own timeout."""

import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from core_tables.kafka.group import answered, questions

ANSWERS_MS = 400
WAITS_S = 0.2

admin = AdminClient(
    {"bootstrap.servers": "simulated", "test.mock.num.brokers": 1, "test.mock.broker.rtt": ANSWERS_MS, "log_level": 0}
)
admin.list_topics(timeout=10)
for number in range(4):
    group = f"group-{number}"
    try:
        if sys.argv[1] == "client":
            admin.describe_consumer_groups([group], request_timeout=WAITS_S)[group].result(10)
        else:
            answered(questions(admin, [group])[group], WAITS_S)
    except KafkaException:
        print("not answered", flush=True)
# The simulated broker refuses such a question once the coordinator is found, so those before it have found theirs, too.
try:
    answered(questions(admin, ["last"])["last"], 10)
except KafkaException:
    print("refused", flush=True)
