"""A group that is at work while the node that looks after it is killed: a classic one, or one of the sort that is given.

Says which one that is, goes on once it is told that it is gone, and asserts that nothing was lost or read twice, and that nobody shared out anew.
"""

import select
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

servers, sort = sys.argv[1], sys.argv[2]
topic, group, PARTITIONS = f"failover-{sort}", f"survivors-{sort}", 6
SETTINGS = {"classic": {"session.timeout.ms": 10000, "heartbeat.interval.ms": 500}, "consumer": {"group.protocol": "consumer"}}
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
LATER = {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError._TRANSPORT, KafkaError._TIMED_OUT}

admin = AdminClient({"bootstrap.servers": servers})
admin.create_topics([NewTopic(topic, PARTITIONS, 3)])[topic].result(30)
producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
seen, parts, changes, stop, failed = [], [0, 0], [], threading.Event(), []
lock = threading.Lock()


def commit(consumer, message):
    """Until the new coordinator takes it: on the way there a commit may fail for the moment, and be made again."""
    while True:
        try:
            return consumer.commit(message, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in LATER:
                raise
            time.sleep(0.1)


def consume(number):
    try:
        consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
            | SETTINGS[sort]
        )
        changed = lambda _, some: changes.append((number, len(some)))
        consumer.subscribe([topic], on_assign=changed, on_revoke=changed)
        while not stop.is_set():
            message = consumer.poll(0.1)
            parts[number] = len(consumer.assignment())
            if message is None:
                continue
            if message.error():
                assert message.error().code() in PASSING, message.error()
                continue
            commit(consumer, message)
            with lock:
                seen.append(int(message.value()))
        consumer.close()
    except BaseException as error:
        failed.append(error)


def wait(what, done, within=60):
    end = time.monotonic() + within
    while not done():
        assert not failed, failed
        assert time.monotonic() < end, f"{what}: {len(seen)} of {sent} are read, {parts} are assigned after {changes}"
        time.sleep(0.05)


def send(count):
    global sent
    for _ in range(count):
        producer.produce(topic, key=str(sent), value=str(sent))
        sent += 1
        producer.poll(0)
        time.sleep(0.002)


sent = 0
threads = [threading.Thread(target=consume, args=[number]) for number in range(2)]
for thread in threads:
    thread.start()
wait("both have a part", lambda: all(parts) and sum(parts) == PARTITIONS)
send(300)
before = len(changes)
described = admin.describe_consumer_groups([group])[group].result(30)
members = sorted(m.member_id for m in described.members)
print(described.coordinator.id, flush=True)
# It is killed while records come.
while not select.select([sys.stdin], [], [], 0)[0]:
    send(10)
send(1000)
assert producer.flush(60) == 0
wait("everything is read", lambda: len(set(seen)) == sent)
assert len(seen) == sent, f"{len(seen) - sent} were read twice"
assert len(changes) == before, f"it was shared out anew: {changes}"
described = admin.describe_consumer_groups([group])[group].result(30)
assert sorted(m.member_id for m in described.members) == members, "they are the same"
stop.set()
for thread in threads:
    thread.join()
