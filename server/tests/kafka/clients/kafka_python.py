"""kafka-python: topics, a producer, and a group that grows, shrinks and comes back."""

import sys
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

server = sys.argv[1]
topic, group = "kafka-python", "group-python"
PARTITIONS, RECORDS = 6, 600
NOW = int(time.time() * 1000) - 3_600_000


class Member(threading.Thread):
    """Reads in a thread of its own, as members do that have to join together, and commits what it has read."""

    def __init__(self):
        super().__init__()
        self.messages, self.parts, self.failed, self.stop = [], set(), None, threading.Event()
        self.start()

    def run(self):
        try:
            consumer = KafkaConsumer(
                topic,
                bootstrap_servers=server,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=6000,
                heartbeat_interval_ms=500,
            )
            while not self.stop.is_set():
                for some in consumer.poll(timeout_ms=1000).values():
                    self.messages.extend(some)
                self.parts = set(consumer.assignment())
                consumer.commit()
            consumer.close()
        except BaseException as error:
            self.failed = error
        self.parts = set()

    def end(self):
        self.stop.set()
        self.join()
        assert self.failed is None, self.failed


def until(what, members, done, within=60):
    end = time.monotonic() + within
    while not done():
        assert not any(m.failed for m in members), [m.failed for m in members]
        assert time.monotonic() < end, f"{what}: {[(len(m.messages), len(m.parts)) for m in members]} messages and partitions"
        time.sleep(0.05)


def spread(members):
    parts = [p for m in members for p in m.parts]
    return len(parts) == len(set(parts)) == PARTITIONS and all(m.parts for m in members)


def numbers(members):
    return {int(message.value) for m in members for message in m.messages}


admin = KafkaAdminClient(bootstrap_servers=server)
admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
producer = KafkaProducer(bootstrap_servers=server, acks="all")
for n in range(RECORDS):
    producer.send(topic, key=b"key-%d" % (n % 60), value=b"%d" % n, headers=[("n", b"%d" % n)], timestamp_ms=NOW + n)
producer.flush(60)

two = [Member(), Member()]
until("two share", two, lambda: numbers(two) == set(range(RECORDS)) and spread(two))
assert all(message.headers == [("n", message.value)] for m in two for message in m.messages)
two[0].end()
until("one has everything", two[1:], lambda: spread(two[1:]))
two[1].end()

for n in range(RECORDS, RECORDS + 50):
    producer.send(topic, key=b"key-%d" % n, value=b"%d" % n, timestamp_ms=NOW + n)
producer.flush(60)
one = [Member()]
until("it goes on", one, lambda: len(one[0].messages) >= 50)
one[0].end()
assert sorted(int(message.value) for message in one[0].messages) == list(range(RECORDS, RECORDS + 50))

# By time, without a group.
reader = KafkaConsumer(bootstrap_servers=server)
parts = [TopicPartition(topic, p) for p in range(PARTITIONS)]
reader.assign(parts)
for part, found in reader.offsets_for_times({part: NOW + RECORDS for part in parts}).items():
    if found is None:
        reader.seek_to_end(part)
    else:
        reader.seek(part, found.offset)
again, end = [], time.monotonic() + 60
while len(again) < 50 and time.monotonic() < end:
    for some in reader.poll(timeout_ms=500).values():
        again.extend(int(message.value) for message in some)
assert sorted(again) == list(range(RECORDS, RECORDS + 50)), again
reader.close()
admin.delete_topics([topic])
