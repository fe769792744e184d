"""librdkafka of today through confluent-kafka: topics, an idempotent producer, and a group that grows, shrinks and comes back.

Its members share out among themselves in the way that is given; or the server does, if the sort of group is given, too: `consumer`. Then it is said when the server may
be killed and started anew in between.
"""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, ConsumerGroupType, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

server, strategy = sys.argv[1], sys.argv[2]
by_server = sys.argv[3:] == ["consumer"]
topic, group = f"confluent-{strategy}", f"group-{strategy}"
PARTITIONS, RECORDS = 6, 600
NOW = int(time.time() * 1000) - 3_600_000
# What a client says while the server is started anew.
PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE} if by_server else set()


def consumer(**more):
    settings = {
        "bootstrap.servers": server,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    if by_server:
        settings |= {"group.protocol": "consumer", "group.remote.assignor": strategy}
    else:
        settings |= {"partition.assignment.strategy": strategy, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    return Consumer(settings | more)


def described():
    """The group, once it is stable."""
    end = time.monotonic() + 60
    while True:
        found = admin.describe_consumer_groups([group])[group].result(30)
        if found.state.name == "STABLE":
            return found
        assert time.monotonic() < end, found.state
        poll(three, lambda _: spread(three))
        time.sleep(0.1)


def poll(consumers, done, within=60):
    """Polls all of them until `done`; their messages."""
    messages, end = [], time.monotonic() + within
    while not done(messages):
        assert time.monotonic() < end, f"{len(messages)} messages, {[len(c.assignment()) for c in consumers]} partitions"
        for c in consumers:
            message = c.poll(0.05)
            if message is not None and not (message.error() and message.error().code() in PASSING):
                assert message.error() is None, message.error()
                messages.append(message)
    return messages


def spread(consumers):
    """Whether each partition has one reader."""
    parts = [(p.topic, p.partition) for c in consumers for p in c.assignment()]
    return len(parts) == len(set(parts)) == PARTITIONS and all(c.assignment() for c in consumers)


admin = AdminClient({"bootstrap.servers": server})
admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
# All settings at once: what is not given goes back to its default.
resource = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={"retention.ms": "7200000", "segment.ms": "3600000"})
admin.alter_configs([resource])[resource].result(30)
resource = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={"segment.ms": "3600000"})
admin.alter_configs([resource])[resource].result(30)
resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
settings = admin.describe_configs([resource])[resource].result(30)
assert settings["retention.ms"].value == "604800000" and settings["segment.ms"].value == "3600000", settings
producer = Producer({"bootstrap.servers": server, "enable.idempotence": True})
two = [consumer(), consumer()]
for c in two:
    c.subscribe([topic])
if by_server:
    # It waits for nobody: who comes first has everything, until the other one comes.
    poll(two, lambda _: spread(two))
for n in range(RECORDS):
    producer.produce(topic, key=f"key-{n % 60}", value=str(n), timestamp=NOW + n)
assert producer.flush(60) == 0

# Two share; everything is read once.
messages = poll(two, lambda all: len(all) == RECORDS and spread(two))
assert sorted(int(m.value()) for m in messages) == list(range(RECORDS))
for c in two:
    c.commit(asynchronous=False)

# A third comes, and one goes: the others go on.
three = [*two, consumer()]
three[2].subscribe([topic])
poll(three, lambda _: spread(three))
three.pop(0).close()
poll(three, lambda _: spread(three))
before = described()
assert len(before.members) == 2
assert sum(len(m.assignment.topic_partitions) for m in before.members) == PARTITIONS
listed = {g.group_id: g.type for g in admin.list_consumer_groups().result(30).valid}
assert listed[group] == (ConsumerGroupType.CONSUMER if by_server else ConsumerGroupType.CLASSIC), listed
if by_server:
    had = [c.assignment() for c in three]
    print("kill it", flush=True)
    sys.stdin.readline()
    # The one before never comes back to a coordinator that it knew and lost.
    admin = AdminClient({"bootstrap.servers": server})
    producer.produce(topic, key="key-0", value=str(RECORDS), timestamp=NOW + RECORDS)
    messages = poll(three, lambda all: len(all) == 1, 90)
    reader = next(c for c, parts in zip(three, had) if messages[0].partition() in [p.partition for p in parts])
    reader.commit(messages[0], asynchronous=False)
    assert [c.assignment() for c in three] == had, "nobody was disturbed"
    assert sorted(m.member_id for m in described().members) == sorted(m.member_id for m in before.members)
    RECORDS += 1
for c in three:
    c.close()

# Whoever comes back goes on where the group was.
for n in range(RECORDS, RECORDS + 50):
    producer.produce(topic, key=f"key-{n}", value=str(n), timestamp=NOW + n)
assert producer.flush(60) == 0
one = consumer()
one.subscribe([f"^{topic}.*"])
messages = poll([one], lambda all: len(all) == 50)
assert sorted(int(m.value()) for m in messages) == list(range(RECORDS, RECORDS + 50))
one.commit(asynchronous=False)

# By time, and from an offset.
at = one.offsets_for_times([TopicPartition(topic, p, NOW + RECORDS) for p in range(PARTITIONS)], 30)
one.unsubscribe()
one.close()
reader = consumer(**{"group.id": "elsewhere"})
reader.assign([t for t in at if t.offset >= 0])
again = poll([reader], lambda all: len(all) == 50)
assert sorted(int(m.value()) for m in again) == list(range(RECORDS, RECORDS + 50))
reader.close()

# Operators look at positions, set them and delete the group.
kept = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
assert sum(t.offset for t in kept.topic_partitions) == RECORDS + 50
back = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
admin.alter_consumer_group_offsets([back])[group].result(30)
kept = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])])[group].result(30)
assert [t.offset for t in kept.topic_partitions] == [3]
admin.delete_consumer_groups([group])[group].result(30)
assert group not in [g.group_id for g in admin.list_consumer_groups().result(30).valid]
admin.delete_topics([topic])[topic].result(30)
