"""Asks again and again about a consumer group, waiting a second each time, until its input ends: `servers group`."""

import sys
import threading

from confluent_kafka import KafkaException

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import admin_client
from core_tables.kafka.group import answered, questions

servers, group = sys.argv[1:]
ended = threading.Event()


def wait_for_the_end() -> None:
    sys.stdin.read()
    ended.set()


threading.Thread(target=wait_for_the_end, daemon=True).start()
admin = admin_client(KafkaSettings(servers))
while not ended.wait(0.1):
    try:
        answered(questions(admin, [group])[group], 1.0)
        print("answered", flush=True)
    except KafkaException:
        print("not answered", flush=True)
