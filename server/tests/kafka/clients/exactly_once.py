"""Records that are taken from one topic to another in transactions, while a node is killed: each of them arrives once, and in order.

Says when a third of them is done, and goes on meanwhile, up to two thirds, until it is told that the node is gone. Its topics have as many replicas as is given last,
or three.
"""

import os
import random
import select
import sys
import threading
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

servers, tag = sys.argv[1], sys.argv[2]
RECORDS = int(sys.argv[3]) if sys.argv[3:] else 3000
replicas = int(sys.argv[4]) if sys.argv[4:] else 3
source, target, PARTITIONS, KEYS, BATCH = f"{tag}-source", f"{tag}-target", 4, 50, 20
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
LATER = PASSING | {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
}
SETTINGS = {"bootstrap.servers": servers, "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.auto.commit": False}

dice = random.Random(tag)
parts = [TopicPartition(source, n) for n in range(PARTITIONS)]
told, changes, stuck, counts = False, [], [], {"committed": 0, "aborted": 0, "failed": 0, "producers": 0}


def again(what, within=60):
    """Until it is done: what may be made again as it is, is."""
    end = time.monotonic() + within
    while True:
        try:
            return what()
        except KafkaException as failed:
            error = failed.args[0]
            if error.fatal() or error.txn_requires_abort() or not (error.retriable() or error.code() in LATER) or time.monotonic() > end:
                raise
            time.sleep(0.1)


def new_producer():
    counts["producers"] += 1
    p = Producer({"bootstrap.servers": servers, "transactional.id": f"{tag}-mover"})
    again(lambda: p.init_transactions(30))
    return p


def abort():
    """Ends the transaction; or another producer of that name does."""
    global producer
    try:
        again(lambda: producer.abort_transaction(5), 10)
    except KafkaException as error:
        print(f"aborting: {error}", file=sys.stderr)
        producer = new_producer()


def rewind():
    """Back to what is committed."""
    assigned = consumer.assignment()
    if assigned:
        back = again(lambda: consumer.committed(assigned, 10))
        consumer.assign([TopicPartition(part.topic, part.partition, max(part.offset, 0)) for part in back])


def send_offsets(positions):
    """In a thread: when its coordinator goes away, librdkafka may wait for it in vain, and longer than it is told to (its issues 5456 and 5511)."""
    sender, failed, member = producer, [], consumer.consumer_group_metadata()

    def send():
        try:
            again(lambda: sender.send_offsets_to_transaction(positions, member, 5), 10)
        except KafkaException as error:
            failed.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(20)
    if thread.is_alive():
        stuck.append(sender)
        raise KafkaException(KafkaError(KafkaError._FATAL, "it is stuck", True))
    if failed:
        raise failed[0]


def move(messages):
    """One transaction; how many records it has moved."""
    global producer
    then = {message.partition(): message.offset() + 1 for message in messages}
    try:
        producer.begin_transaction()
        for message in messages:
            try:
                producer.produce(target, message.value(), message.key())
            except KafkaException as error:
                # It has failed by now. Why, and what to do about it, the next call says.
                if error.args[0].code() != KafkaError._STATE:
                    raise
                break
        positions = [TopicPartition(source, n, offset) for n, offset in then.items()]
        send_offsets(positions)
        if dice.random() < 0.1:
            producer.flush(5)
            abort()
            rewind()
            counts["aborted"] += 1
            return 0
        again(lambda: producer.commit_transaction(10), 20)
        counts["committed"] += 1
        return len(messages)
    except KafkaException as failed:
        print(f"moving: {failed}", file=sys.stderr)
        counts["failed"] += 1
        if failed.args[0].fatal():
            producer = new_producer()
        else:
            abort()
        rewind()
        # Whether it was committed is what the positions say.
        return None


def committed():
    return sum(max(part.offset, 0) for part in again(lambda: consumer.committed(parts, 10)))


def ends(topic, isolation):
    asked = {TopicPartition(topic, n): OffsetSpec.latest() for n in range(PARTITIONS)}
    return {part.partition: found.result(30).offset for part, found in admin.list_offsets(asked, isolation_level=isolation).items()}


admin = AdminClient({"bootstrap.servers": servers})
for created in admin.create_topics([NewTopic(topic, PARTITIONS, replicas) for topic in [source, target]]).values():
    created.result(30)
filler = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
for n in range(RECORDS):
    filler.produce(source, str(n), f"key-{n % KEYS}")
assert filler.flush(60) == 0

consumer = Consumer(SETTINGS | {"group.id": f"{tag}-movers", "session.timeout.ms": 10000, "heartbeat.interval.ms": 500})
consumer.subscribe([source], on_assign=lambda *_: changes.append("assigned"), on_revoke=lambda *_: changes.append("revoked"))
producer, done, end, said = new_producer(), 0, time.monotonic() + 100, False
while done < RECORDS:
    assert time.monotonic() < end, f"{done} of {RECORDS} are done after {changes}: {counts}"
    if not said and done >= RECORDS // 3:
        print("go", flush=True)
        said = True
    if said and not told:
        wait = None if done >= RECORDS * 2 // 3 else 0
        told = bool(select.select([sys.stdin], [], [], wait)[0])
    before, messages = len(changes), []
    for message in consumer.consume(BATCH, 0.2):
        if not message.error():
            messages.append(message)
        else:
            assert message.error().retriable() or message.error().code() in LATER, message.error()
    if len(changes) != before:
        # It was shared out anew: who has the partitions now reads on from what is committed.
        rewind()
    elif messages:
        moved = move(messages)
        done = committed() if moved is None else done + moved
print(counts, changes, len(stuck), file=sys.stderr)
assert committed() == done == RECORDS, f"{committed()} of {RECORDS} are committed"
consumer.close()

# The node may still be missed by some: it is asked for by others.
admin, waited = AdminClient({"bootstrap.servers": servers}), time.monotonic() + 30
while again(lambda: ends(target, IsolationLevel.READ_COMMITTED)) != again(lambda: ends(target, IsolationLevel.READ_UNCOMMITTED)):
    assert time.monotonic() < waited, "a transaction stays open"
    time.sleep(0.1)
reader, found, ended = Consumer(SETTINGS | {"group.id": f"{tag}-reader", "enable.partition.eof": True}), {}, set()
reader.assign([TopicPartition(target, n, 0) for n in range(PARTITIONS)])
while len(ended) < PARTITIONS:
    assert time.monotonic() < waited, f"{sum(map(len, found.values()))} are read, up to the end of {ended}"
    message = reader.poll(0.1)
    if message is None:
        continue
    if not message.error():
        found.setdefault(message.key().decode(), []).append(int(message.value()))
    elif message.error().code() == KafkaError._PARTITION_EOF:
        ended.add(message.partition())
reader.close()
for n in range(KEYS):
    assert found[f"key-{n}"] == list(range(n, RECORDS, KEYS)), f"key-{n}: {found[f'key-{n}']}"
assert len(found) == KEYS
assert {part.partition: part.offset for part in again(lambda: Consumer(SETTINGS | {"group.id": f"{tag}-movers"}).committed(parts, 10))} == ends(source, IsolationLevel.READ_UNCOMMITTED)
if stuck:
    # They would be waited for.
    sys.stdout.flush()
    os._exit(0)
