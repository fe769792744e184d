"""Epochs of leaders, as librdkafka has them (KIP-320): says who leads, reads on once it is told that this node is gone, and goes on from positions of the epoch before."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

servers, topic, RECORDS = sys.argv[1], "epochs-librdkafka", 100
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}

admin = AdminClient({"bootstrap.servers": servers})
admin.create_topics([NewTopic(topic, 1, 3)])[topic].result(30)
producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})


def consumer():
    made = Consumer({"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "error", "enable.auto.commit": False})
    return made


def write(start):
    for n in range(start, start + RECORDS):
        producer.produce(topic, partition=0, value=str(n))
        # Batches of a few records each.
        if n % 7 == 0:
            producer.flush(60)
    assert producer.flush(60) == 0


def read(consumer, start):
    epochs, end = [], time.monotonic() + 60
    while len(epochs) < RECORDS:
        assert time.monotonic() < end, f"{len(epochs)} of {RECORDS} records"
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            assert message.error().code() in PASSING, message.error()
            continue
        assert (int(message.value()), message.offset()) == (start + len(epochs),) * 2, (message.offset(), message.value())
        epochs.append(message.leader_epoch())
    return epochs


def commit(consumer, epoch):
    at = TopicPartition(topic, 0, consumer.position([TopicPartition(topic, 0)])[0].offset, leader_epoch=epoch)
    assert consumer.commit(offsets=[at], asynchronous=False)[0].error is None
    is_at = consumer.committed([TopicPartition(topic, 0)], timeout=30)[0]
    assert (is_at.offset, is_at.leader_epoch) == (at.offset, epoch), is_at


write(0)
first = consumer()
first.assign([TopicPartition(topic, 0, 0)])
epochs = read(first, 0)
assert min(epochs) > 0, epochs
position = first.position([TopicPartition(topic, 0)])[0]
assert (position.offset, position.leader_epoch) == (RECORDS, epochs[-1]), position
commit(first, epochs[-1])
print(admin.list_topics(topic).topics[topic].partitions[0].leader, flush=True)
sys.stdin.readline()
write(RECORDS)
later = read(first, RECORDS)
assert later == sorted(later) and later[-1] > epochs[-1], (epochs[-1], later)
# Whoever goes on from the position asks first where its epoch has ended.
second = consumer()
second.assign([TopicPartition(topic, 0)])
assert read(second, RECORDS) == later
commit(second, later[-1])
first.close()
second.close()
