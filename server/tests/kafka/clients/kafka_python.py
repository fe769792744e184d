"""kafka-python: topics, a producer, and a group that grows, shrinks and comes back."""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

server = sys.argv[1]
topic, group = "kafka-python", "group-python"
PARTITIONS, RECORDS = 6, 600
NOW = int(time.time() * 1000) - 3_600_000


def consumer():
    return KafkaConsumer(
        topic,
        bootstrap_servers=server,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )


def poll(consumers, done, within=60):
    messages, end = [], time.monotonic() + within
    while not done(messages):
        assert time.monotonic() < end, f"{len(messages)} messages, {[len(c.assignment()) for c in consumers]} partitions"
        for c in consumers:
            for some in c.poll(timeout_ms=50).values():
                messages.extend(some)
    return messages


def spread(consumers):
    parts = [p for c in consumers for p in c.assignment()]
    return len(parts) == len(set(parts)) == PARTITIONS and all(c.assignment() for c in consumers)


admin = KafkaAdminClient(bootstrap_servers=server)
admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
producer = KafkaProducer(bootstrap_servers=server, acks="all")
for n in range(RECORDS):
    producer.send(topic, key=b"key-%d" % (n % 60), value=b"%d" % n, headers=[("n", b"%d" % n)], timestamp_ms=NOW + n)
producer.flush(60)

two = [consumer(), consumer()]
messages = poll(two, lambda all: len(all) >= RECORDS and spread(two))
# Two share in turn: what the first had read before the second came and not committed may be read twice.
assert sorted({int(m.value) for m in messages}) == list(range(RECORDS))
assert all(m.headers == [("n", m.value)] for m in messages)
for c in two:
    c.commit()
two.pop(0).close()
poll(two, lambda _: spread(two))
two.pop().close()

for n in range(RECORDS, RECORDS + 50):
    producer.send(topic, key=b"key-%d" % n, value=b"%d" % n, timestamp_ms=NOW + n)
producer.flush(60)
one = consumer()
messages = poll([one], lambda all: len(all) == 50)
assert sorted(int(m.value) for m in messages) == list(range(RECORDS, RECORDS + 50))
one.commit()
at = one.offsets_for_times({TopicPartition(topic, p): NOW + RECORDS for p in range(PARTITIONS)})
for part, found in at.items():
    if found is not None:
        one.seek(part, found.offset)
again = poll([one], lambda all: len(all) == 50)
assert sorted(int(m.value) for m in again) == list(range(RECORDS, RECORDS + 50))
one.close()
admin.delete_topics([topic])
