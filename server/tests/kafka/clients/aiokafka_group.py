"""aiokafka: a producer, and a group that grows, shrinks and comes back."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

server = sys.argv[1]
topic, group = "aiokafka", "group-aio"
PARTITIONS, RECORDS = 6, 600


def consumer():
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=server,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )


async def poll(consumers, done):
    messages = []
    while not done(messages):
        for c in consumers:
            for some in (await c.getmany(timeout_ms=50)).values():
                messages.extend(some)
    return messages


def spread(consumers):
    parts = [p for c in consumers for p in c.assignment()]
    return len(parts) == len(set(parts)) == PARTITIONS and all(c.assignment() for c in consumers)


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    async with AIOKafkaProducer(bootstrap_servers=server, enable_idempotence=True) as producer:
        for n in range(RECORDS):
            await producer.send(topic, key=b"key-%d" % (n % 60), value=b"%d" % n)
        await producer.flush()
        two = [consumer(), consumer()]
        for c in two:
            await c.start()
        messages = await poll(two, lambda all: len(all) >= RECORDS and spread(two))
        assert sorted({int(m.value) for m in messages}) == list(range(RECORDS))
        for c in two:
            await c.commit()
        await two.pop(0).stop()
        await poll(two, lambda _: spread(two))
        await two.pop().stop()
        for n in range(RECORDS, RECORDS + 50):
            await producer.send(topic, key=b"key-%d" % n, value=b"%d" % n)
        await producer.flush()
    async with consumer() as one:
        messages = await poll([one], lambda all: len(all) == 50)
        assert sorted(int(m.value) for m in messages) == list(range(RECORDS, RECORDS + 50))
        await one.commit()
    await admin.delete_topics([topic])
    await admin.close()


asyncio.run(asyncio.wait_for(main(), 120))
