"""Transactions of librdkafka, which knows their first protocol: what readers see of them, who fences whom, offsets that are committed in them, and many small ones.

Its topics have as many replicas as is given, or one.
"""

import random
import sys
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

server, tag = sys.argv[1], sys.argv[2]
replicas = int(sys.argv[3]) if sys.argv[3:] else 1
PARTITIONS = 3
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"
LEVELS = {COMMITTED: IsolationLevel.READ_COMMITTED, UNCOMMITTED: IsolationLevel.READ_UNCOMMITTED}

admin = AdminClient({"bootstrap.servers": server})


def create(name, partitions=PARTITIONS):
    topic = f"{tag}-{name}"
    admin.create_topics([NewTopic(topic, partitions, replicas)])[topic].result(30)
    return topic


def producer(name):
    p = Producer({"bootstrap.servers": server, "transactional.id": f"{tag}-{name}"})
    p.init_transactions(60)
    return p


def consumer(isolation, **more):
    settings = {"bootstrap.servers": server, "group.id": tag, "isolation.level": isolation, "auto.offset.reset": "earliest"}
    return Consumer(settings | {"enable.auto.commit": False, "enable.partition.eof": True} | more)


def ends(topic, isolation, partitions=PARTITIONS):
    asked = admin.list_offsets({TopicPartition(topic, n): OffsetSpec.latest() for n in range(partitions)}, isolation_level=LEVELS[isolation])
    return {part.partition: found.result(30).offset for part, found in asked.items()}


def until(what, done, within=30):
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def settle(topic, partitions=PARTITIONS):
    """Waits until no transaction is open: a commit is answered before all partitions have its marker."""
    until(f"a transaction stays open in {topic}", lambda: ends(topic, COMMITTED, partitions) == ends(topic, UNCOMMITTED, partitions))


def read(topic, isolation, partitions=PARTITIONS):
    """All that this reader sees, up to the end: keys and values of each partition."""
    found, ended = {n: [] for n in range(partitions)}, set()
    c = consumer(isolation)
    c.assign([TopicPartition(topic, n, 0) for n in range(partitions)])

    def step():
        message = c.poll(0.1)
        if message is None:
            return False
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.add(message.partition())
        else:
            found[message.partition()].append((message.key(), message.value().decode()))
        return len(ended) == partitions

    until(f"the end of {topic}", step)
    c.close()
    return found


def values(topic, isolation, partitions=PARTITIONS):
    return {n: [value for _, value in some] for n, some in read(topic, isolation, partitions).items()}


def some(c, count, within):
    """So many messages, or those that come within so many seconds."""
    messages, end = [], time.monotonic() + within
    while len(messages) < count and time.monotonic() < end:
        message = c.poll(0.05)
        if message is not None and message.error() is None:
            messages.append(message)
        elif message is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
    return messages


def failed(what):
    try:
        what()
    except KafkaException as error:
        return error.args[0]
    raise AssertionError("it does not fail")


def is_fenced(error):
    assert error.fatal() and error.code() == KafkaError._FENCED, repr(error)


def visibility():
    topic = create("visible")
    committed, sent = {n: [] for n in range(PARTITIONS)}, {n: [] for n in range(PARTITIONS)}
    p, other = producer("visible"), producer("other")
    for turn in range(3):
        p.begin_transaction()
        for n in range(30):
            p.produce(topic, f"{turn}-{n}", partition=n % PARTITIONS)
            sent[n % PARTITIONS].append(f"{turn}-{n}")
            if turn != 1:
                committed[n % PARTITIONS].append(f"{turn}-{n}")
        if turn == 1:
            assert p.flush(30) == 0
            p.abort_transaction(30)
        else:
            p.commit_transaction(30)
    settle(topic)
    assert values(topic, COMMITTED) == committed
    assert values(topic, UNCOMMITTED) == sent
    # A marker has an offset, as a record has.
    assert ends(topic, UNCOMMITTED) == {n: 33 for n in range(PARTITIONS)}
    # An empty one is none.
    p.begin_transaction()
    p.commit_transaction(30)
    p.begin_transaction()
    p.abort_transaction(30)
    assert ends(topic, UNCOMMITTED) == {n: 33 for n in range(PARTITIONS)}

    # Nobody reads past an open one who reads what is committed.
    p.begin_transaction()
    for value in ["open 1", "open 2"]:
        p.produce(topic, value, partition=0)
    assert p.flush(30) == 0
    other.begin_transaction()
    other.produce(topic, "later", partition=0)
    other.commit_transaction(30)
    until("the later one has ended", lambda: ends(topic, UNCOMMITTED)[0] == 37)
    assert ends(topic, COMMITTED)[0] == 33
    patient, hasty = consumer(COMMITTED), consumer(UNCOMMITTED)
    for c in [patient, hasty]:
        c.assign([TopicPartition(topic, 0, 33)])
    assert some(patient, 1, 1.5) == []
    assert [m.value() for m in some(hasty, 3, 30)] == [b"open 1", b"open 2", b"later"]
    p.commit_transaction(30)
    assert [m.value() for m in some(patient, 3, 30)] == [b"open 1", b"open 2", b"later"]
    for c in [patient, hasty]:
        c.close()
    settle(topic)
    assert ends(topic, COMMITTED) == {0: 38, 1: 33, 2: 33}


def fencing():
    topic = create("fenced", 1)
    first = producer("fenced")
    first.begin_transaction()
    first.produce(topic, "first")
    first.commit_transaction(30)
    first.begin_transaction()
    first.produce(topic, "lost 1")
    assert first.flush(30) == 0
    # The next one of that name ends what was open, and then the one before can do nothing more.
    second = producer("fenced")
    assert ends(topic, COMMITTED, 1) == ends(topic, UNCOMMITTED, 1)
    first.produce(topic, "lost 2")
    is_fenced(failed(lambda: first.flush(30)))
    is_fenced(failed(lambda: first.commit_transaction(30)))
    second.begin_transaction()
    second.produce(topic, "second")
    second.commit_transaction(30)
    second.begin_transaction()
    second.produce(topic, "lost 3")
    assert second.flush(30) == 0
    third = producer("fenced")
    is_fenced(failed(lambda: second.commit_transaction(30)))
    is_fenced(failed(second.begin_transaction))
    third.begin_transaction()
    third.produce(topic, "third")
    third.commit_transaction(30)
    settle(topic, 1)
    assert values(topic, COMMITTED, 1)[0] == ["first", "second", "third"]
    assert values(topic, UNCOMMITTED, 1)[0] == ["first", "lost 1", "second", "lost 3", "third"]


def committed(c, topic, partitions):
    """What is committed, once no transaction has more of it open."""
    return {part.partition: part.offset for part in c.committed([TopicPartition(topic, n) for n in range(partitions)], 30) if part.offset >= 0}


def work(c, p, topic, out, at, up_to):
    """Takes records from one topic to the other until so many offsets are committed; every third transaction is aborted."""
    turn, end = 0, time.monotonic() + 60
    while sum(at.values()) < up_to:
        assert time.monotonic() < end, f"{at} after {turn} turns"
        messages = some(c, 15, 0.5)
        if not messages:
            continue
        then = dict(at)
        p.begin_transaction()
        for message in messages:
            p.produce(out, b"did " + message.value(), partition=message.partition())
            then[message.partition()] = message.offset() + 1
        positions = [TopicPartition(topic, n, offset) for n, offset in then.items()]
        p.send_offsets_to_transaction(positions, c.consumer_group_metadata(), 30)
        if turn == 1:
            # It is not committed yet; who wants to know for certain has to wait.
            error = failed(lambda: c.committed(positions, 1))
            assert error.code() == KafkaError._TIMED_OUT, error
        if turn % 3 == 1:
            assert p.flush(30) == 0
            p.abort_transaction(30)
            assert committed(c, topic, 2) == at
            for part in positions:
                c.seek(TopicPartition(topic, part.partition, at.get(part.partition, 0)))
        else:
            p.commit_transaction(30)
            at |= then
            assert committed(c, topic, 2) == at
        turn += 1


def offsets(protocol):
    each = 90
    topic, out = create(f"in-{protocol}", 2), create(f"out-{protocol}", 2)
    p = producer(f"fill-{protocol}")
    for kept in [False, True]:
        p.begin_transaction()
        for n in range(each):
            for part in range(2):
                p.produce(topic, str(n) if kept else "never", partition=part)
        if kept:
            p.commit_transaction(30)
        else:
            assert p.flush(30) == 0
            p.abort_transaction(30)
    settle(topic, 2)

    def member():
        c = consumer(COMMITTED, **{"group.id": f"{tag}-{protocol}", "group.protocol": protocol})
        c.subscribe([topic])
        return c

    # Those that are never seen, and their marker, come before.
    last, at = 2 * each + 1, {}
    first, p = member(), producer(f"work-{protocol}")
    work(first, p, topic, out, at, last + each // 2)
    gone = first.consumer_group_metadata()
    first.close()
    # Who has left the group commits nothing in it any more.
    p.begin_transaction()
    p.produce(out, "too late", partition=0)
    error = failed(lambda: p.send_offsets_to_transaction([TopicPartition(topic, 0, 0)], gone, 30))
    assert error.code() == KafkaError.UNKNOWN_MEMBER_ID and error.txn_requires_abort(), repr(error)
    p.abort_transaction(30)
    # Another one takes over.
    second, p = member(), producer(f"work-{protocol}")
    assert committed(second, topic, 2) == at
    work(second, p, topic, out, at, 2 * last)
    assert at == {0: last, 1: last}
    second.close()
    settle(out, 2)
    wanted = [f"did {n}" for n in range(each)]
    assert values(out, COMMITTED, 2) == {0: wanted, 1: wanted}
    assert sum(len(some) for some in values(out, UNCOMMITTED, 2).values()) > 2 * each


def many():
    topic, dice, sent = create("many"), random.Random(tag), 0
    wanted, found = {}, {}
    p = producer("many")
    for n in range(200):
        kept = dice.random() < 0.7
        p.begin_transaction()
        for _ in range(dice.randint(1, 5)):
            key, value = b"key-%d" % dice.randrange(20), f"{n}-{sent}"
            p.produce(topic, value, key)
            sent += 1
            if kept:
                wanted.setdefault(key, []).append(value)
        if kept:
            p.commit_transaction(30)
        else:
            assert p.flush(30) == 0
            p.abort_transaction(30)
    settle(topic)
    for some in read(topic, COMMITTED).values():
        for key, value in some:
            found.setdefault(key, []).append(value)
    assert found == wanted
    assert sum(len(some) for some in values(topic, UNCOMMITTED).values()) == sent


visibility()
fencing()
offsets("classic")
offsets("consumer")
many()
