"""Transactions of aiokafka: what readers see of them, who fences whom, and offsets that are committed in them."""

import asyncio
import random
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

server, tag = sys.argv[1], sys.argv[2]
replicas = int(sys.argv[3]) if sys.argv[3:] else 1
PARTITIONS, TRANSACTIONS = 3, 50
COMMITTED, UNCOMMITTED = "read_committed", "read_uncommitted"


async def create(name):
    topic = f"{tag}-{name}"
    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, replicas)])
    await admin.close()
    return topic, [TopicPartition(topic, n) for n in range(PARTITIONS)]


async def producer(name):
    p = AIOKafkaProducer(bootstrap_servers=server, transactional_id=f"{tag}-{name}")
    await p.start()
    return p


def consumer(isolation, *topics, **more):
    return AIOKafkaConsumer(*topics, bootstrap_servers=server, isolation_level=isolation, auto_offset_reset="earliest", enable_auto_commit=False, **more)


async def until(what, done, within=30):
    end = time.monotonic() + within
    while not await done():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


async def poll(c, millis=100, most=None):
    return [message for some in (await c.getmany(timeout_ms=millis, max_records=most)).values() for message in some]


async def settle(parts):
    """Waits until no transaction is open: a commit is answered before all partitions have its marker."""
    async with consumer(COMMITTED) as one, consumer(UNCOMMITTED) as other:

        async def same():
            return await one.end_offsets(parts) == await other.end_offsets(parts)

        await until(f"a transaction stays open in {parts}", same)


async def read(isolation, parts):
    """All that this reader sees in each partition, up to its end."""
    found = [[] for _ in parts]
    async with consumer(isolation) as c:
        c.assign(parts)
        ends = await c.end_offsets(parts)

        async def step():
            for message in await poll(c):
                found[message.partition].append(message.value.decode())
            return all([await c.position(part) >= ends[part] for part in parts])

        await until(f"the end is not reached: {ends}", step)
    return found


async def visibility():
    topic, parts = await create("visible")
    committed, sent, dice, p = [[] for _ in parts], [[] for _ in parts], random.Random(tag), await producer("visible")
    for turn in range(TRANSACTIONS):
        kept = turn == 0 or dice.random() < 0.7
        await p.begin_transaction()
        for n in range(9):
            await p.send(topic, b"%d-%d" % (turn, n), partition=n % PARTITIONS)
            for some in [sent, committed] if kept else [sent]:
                some[n % PARTITIONS].append(f"{turn}-{n}")
        if kept:
            await p.commit_transaction()
        else:
            await p.flush()
            await p.abort_transaction()
    await settle(parts)
    assert await read(COMMITTED, parts) == committed
    assert await read(UNCOMMITTED, parts) == sent

    # Nobody reads past an open one who reads what is committed.
    async with consumer(COMMITTED) as patient, consumer(UNCOMMITTED) as hasty, AIOKafkaProducer(bootstrap_servers=server) as plain:
        at = (await hasty.end_offsets(parts))[parts[0]]
        assert at == TRANSACTIONS * 4, "a marker has an offset, as a record has"
        await p.begin_transaction()
        await p.send_and_wait(topic, b"open", partition=0)
        await plain.send_and_wait(topic, b"later", partition=0)
        assert (await patient.end_offsets(parts))[parts[0]] == at
        assert (await hasty.end_offsets(parts))[parts[0]] == at + 2
        for c in [patient, hasty]:
            c.assign(parts[:1])
            c.seek(parts[0], at)
        assert await poll(patient, 1500) == []
        for c in [hasty, patient]:
            seen = []

            async def step():
                seen.extend(m.value for m in await poll(c))
                return len(seen) >= 2

            await until("what follows is read", step)
            assert seen == [b"open", b"later"], seen
            if c is hasty:
                await p.commit_transaction()
    await p.stop()


async def fencing():
    topic, parts = await create("fenced")
    first = await producer("fenced")
    await first.begin_transaction()
    await first.send_and_wait(topic, b"lost", partition=0)
    second = await producer("fenced")
    try:
        await first.commit_transaction()
        raise AssertionError("it does not fail")
    except ProducerFenced:
        pass
    await second.begin_transaction()
    await second.send_and_wait(topic, b"kept", partition=0)
    await second.commit_transaction()
    await second.stop()
    await settle(parts)
    assert await read(COMMITTED, parts) == [["kept"], [], []]
    assert await read(UNCOMMITTED, parts) == [["lost", "kept"], [], []]


async def offsets():
    each, group = 60, f"{tag}-group"
    topic, parts = await create("in")
    out, outs = await create("out")
    p = await producer("work")
    await p.begin_transaction()
    for n in range(each):
        for part in range(PARTITIONS):
            await p.send(topic, b"%d" % n, partition=part)
    await p.commit_transaction()
    await settle(parts)
    at = dict.fromkeys(parts, 0)
    # The second one reads on where the first one has ended.
    for up_to in [each * PARTITIONS // 2, each * PARTITIONS]:
        turn, end = 0, time.monotonic() + 60
        async with consumer(COMMITTED, topic, group_id=group) as c:

            async def committed():
                return {part: await c.committed(part) or 0 for part in parts}

            async def is_committed():
                return await committed() == at

            while sum(at.values()) < up_to:
                assert time.monotonic() < end, f"{at} after {turn} turns"
                messages = await poll(c, 500, 15)
                if not messages:
                    continue
                then = dict(at)
                await p.begin_transaction()
                for message in messages:
                    await p.send(out, b"did " + message.value, partition=message.partition)
                    then[TopicPartition(topic, message.partition)] = message.offset + 1
                positions = {part: offset for part, offset in then.items() if offset > at[part]}
                await p.send_offsets_to_transaction(positions, group)
                if turn % 3 == 1:
                    await p.flush()
                    await p.abort_transaction()
                    assert await is_committed()
                    for part in positions:
                        c.seek(part, at[part])
                else:
                    await p.commit_transaction()
                    at = then
                    await until(f"what was sent is committed: {at}", is_committed)
                turn += 1
    await p.stop()
    assert at == dict.fromkeys(parts, each)
    await settle(outs)
    assert await read(COMMITTED, outs) == [[f"did {n}" for n in range(each)]] * PARTITIONS
    assert sum(len(some) for some in await read(UNCOMMITTED, outs)) > each * PARTITIONS


async def main():
    await visibility()
    await fencing()
    await offsets()


asyncio.run(asyncio.wait_for(main(), 120))
