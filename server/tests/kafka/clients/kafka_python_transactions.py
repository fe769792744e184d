"""Transactions of kafka-python: what readers see of them, who fences whom, and offsets that are committed in them."""

import random
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError, ProducerFencedError
from kafka.structs import OffsetAndMetadata

server, tag = sys.argv[1], sys.argv[2]
replicas = int(sys.argv[3]) if sys.argv[3:] else 1
PARTITIONS, TRANSACTIONS = 3, 50
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"

admin = KafkaAdminClient(bootstrap_servers=server)


def create(name):
    topic = f"{tag}-{name}"
    admin.create_topics([NewTopic(topic, PARTITIONS, replicas)])
    return topic, [TopicPartition(topic, n) for n in range(PARTITIONS)]


def producer(name):
    p = KafkaProducer(bootstrap_servers=server, transactional_id=f"{tag}-{name}")
    p.init_transactions()
    return p


def consumer(isolation, **more):
    return KafkaConsumer(bootstrap_servers=server, isolation_level=isolation, auto_offset_reset="earliest", enable_auto_commit=False, **more)


def until(what, done, within=30):
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def poll(c, millis=100):
    return [message for some in c.poll(timeout_ms=millis).values() for message in some]


def settle(parts):
    """Waits until no transaction is open: a commit is answered before all partitions have its marker."""
    readers = [consumer(COMMITTED), consumer(UNCOMMITTED)]
    until(f"a transaction stays open in {parts}", lambda: readers[0].end_offsets(parts) == readers[1].end_offsets(parts))
    for c in readers:
        c.close()


def read(isolation, parts):
    """All that this reader sees in each partition, up to its end."""
    found = [[] for _ in parts]
    c = consumer(isolation)
    c.assign(parts)
    ends = c.end_offsets(parts)

    def step():
        for message in poll(c):
            found[message.partition].append(message.value.decode())
        return all(c.position(part) >= ends[part] for part in parts)

    until(f"the end is not reached: {ends}", step)
    c.close()
    return found


def failed(what):
    try:
        what()
    except KafkaError as error:
        return error
    raise AssertionError("it does not fail")


def visibility():
    topic, parts = create("visible")
    committed, sent, dice, p = [[] for _ in parts], [[] for _ in parts], random.Random(tag), producer("visible")
    for turn in range(TRANSACTIONS):
        kept = turn == 0 or dice.random() < 0.7
        p.begin_transaction()
        for n in range(9):
            p.send(topic, b"%d-%d" % (turn, n), partition=n % PARTITIONS)
            for some in [sent, committed] if kept else [sent]:
                some[n % PARTITIONS].append(f"{turn}-{n}")
        if kept:
            p.commit_transaction()
        else:
            p.flush(30)
            p.abort_transaction()
    settle(parts)
    assert read(COMMITTED, parts) == committed
    assert read(UNCOMMITTED, parts) == sent

    # Nobody reads past an open one who reads what is committed.
    patient, hasty = consumer(COMMITTED), consumer(UNCOMMITTED)
    at = hasty.end_offsets(parts)[parts[0]]
    assert at == TRANSACTIONS * 4, "a marker has an offset, as a record has"
    p.begin_transaction()
    p.send(topic, b"open", partition=0)
    p.flush(30)
    plain = KafkaProducer(bootstrap_servers=server)
    plain.send(topic, b"later", partition=0).get(30)
    assert patient.end_offsets(parts)[parts[0]] == at
    assert hasty.end_offsets(parts)[parts[0]] == at + 2
    for c in [patient, hasty]:
        c.assign(parts[:1])
        c.seek(parts[0], at)
    assert poll(patient, 1500) == []
    for c in [hasty, patient]:
        seen = []
        until("what follows is read", lambda: seen.extend(m.value for m in poll(c)) or len(seen) >= 2)
        assert seen == [b"open", b"later"], seen
        if c is hasty:
            p.commit_transaction()
        c.close()
    p.close()
    plain.close()


def fencing():
    topic, parts = create("fenced")
    first = producer("fenced")
    first.begin_transaction()
    first.send(topic, b"lost", partition=0).get(30)
    second = producer("fenced")
    error = failed(first.commit_transaction)
    assert isinstance(error, ProducerFencedError), repr(error)
    second.begin_transaction()
    second.send(topic, b"kept", partition=0)
    second.commit_transaction()
    second.close()
    settle(parts)
    assert read(COMMITTED, parts) == [["kept"], [], []]
    assert read(UNCOMMITTED, parts) == [["lost", "kept"], [], []]


def offsets():
    each, group = 60, f"{tag}-group"
    topic, parts = create("in")
    out, outs = create("out")
    p = producer("work")
    p.begin_transaction()
    for n in range(each):
        for part in range(PARTITIONS):
            p.send(topic, b"%d" % n, partition=part)
    p.commit_transaction()
    settle(parts)
    at = dict.fromkeys(parts, 0)

    def committed(c):
        return {part: c.committed(part) or 0 for part in parts}

    # The second one reads on where the first one has ended.
    for up_to in [each * PARTITIONS // 2, each * PARTITIONS]:
        c, turn, end = consumer(COMMITTED, group_id=group, max_poll_records=15), 0, time.monotonic() + 60
        c.subscribe([topic])
        while sum(at.values()) < up_to:
            assert time.monotonic() < end, f"{at} after {turn} turns"
            messages = poll(c, 500)
            if not messages:
                continue
            then = dict(at)
            p.begin_transaction()
            for message in messages:
                p.send(out, b"did " + message.value, partition=message.partition)
                then[TopicPartition(topic, message.partition)] = message.offset + 1
            positions = {part: OffsetAndMetadata(offset, f"turn {turn}", -1) for part, offset in then.items() if offset > at[part]}
            p.send_offsets_to_transaction(positions, c.group_metadata())
            if turn % 3 == 1:
                p.flush(30)
                p.abort_transaction()
                assert committed(c) == at
                for part in positions:
                    c.seek(part, at[part])
            else:
                p.commit_transaction()
                at = then
                until(f"what was sent is committed: {at}", lambda: committed(c) == at)
            turn += 1
        c.close()
    p.close()
    assert at == dict.fromkeys(parts, each)
    settle(outs)
    assert read(COMMITTED, outs) == [[f"did {n}" for n in range(each)]] * PARTITIONS
    assert sum(len(some) for some in read(UNCOMMITTED, outs)) > each * PARTITIONS


visibility()
fencing()
offsets()
