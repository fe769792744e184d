"""A group that is at work while the node that looks after it is killed.

Says which one that is, goes on once it is told that it is gone, and asserts that nothing was lost or read twice, and that nobody shared out anew.
"""

import select
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

servers = sys.argv[1]
topic, group, PARTITIONS = "failover", "survivors", 6
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}

admin = AdminClient({"bootstrap.servers": servers})
admin.create_topics([NewTopic(topic, PARTITIONS, 3)])[topic].result(30)
producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
seen, assigned, stop, failed = [], [], threading.Event(), []
lock = threading.Lock()


def consume():
    try:
        consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 10000,
                "heartbeat.interval.ms": 500,
            }
        )
        consumer.subscribe([topic], on_assign=lambda _, parts: assigned.append(len(parts)))
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                assert message.error().code() in PASSING, message.error()
                continue
            consumer.commit(message, asynchronous=False)
            with lock:
                seen.append(int(message.value()))
        consumer.close()
    except BaseException as error:
        failed.append(error)


def wait(what, done, within=60):
    end = time.monotonic() + within
    while not done():
        assert not failed, failed
        assert time.monotonic() < end, f"{what}: {len(seen)} of {sent} are read, assigned {assigned}"
        time.sleep(0.05)


def send(count):
    global sent
    for _ in range(count):
        producer.produce(topic, key=str(sent), value=str(sent))
        sent += 1
        producer.poll(0)
        time.sleep(0.002)


sent = 0
threads = [threading.Thread(target=consume) for _ in range(2)]
for thread in threads:
    thread.start()
wait("both have a part", lambda: sum(assigned[-2:]) == PARTITIONS and len(assigned) >= 2)
send(300)
before = len(assigned)
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
assert len(assigned) == before, f"it was shared out anew: {assigned}"
described = admin.describe_consumer_groups([group])[group].result(30)
assert sorted(m.member_id for m in described.members) == members, "they are the same"
stop.set()
for thread in threads:
    thread.join()
