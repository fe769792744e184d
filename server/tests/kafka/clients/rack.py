"""A client that stands in a rack: says when it has read the half, goes on once it is told that the node of its rack is gone, and has all records once."""

import sys
import time

from confluent_kafka import Consumer, KafkaError

servers, rack, total = sys.argv[1], sys.argv[2], int(sys.argv[3])
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}

consumer = Consumer(
    {
        "bootstrap.servers": servers,
        "client.rack": rack,
        "group.id": "near",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # Some requests for each partition.
        "max.partition.fetch.bytes": 4096,
        "queued.min.messages": 1,
    }
)
consumer.subscribe(["near"])
seen, end = [], time.monotonic() + 120
half = total // 2
while len(seen) < total:
    assert time.monotonic() < end, f"{len(seen)} of {total} are read"
    message = consumer.poll(1)
    if message is None:
        continue
    if message.error():
        assert message.error().code() in PASSING, message.error()
        continue
    seen.append(int(message.value()))
    if len(seen) == half:
        print("half", flush=True)
        sys.stdin.readline()
assert sorted(seen) == list(range(total)), "lost, or read twice"
consumer.close()
