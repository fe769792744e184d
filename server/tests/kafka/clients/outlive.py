"""A client of Kafka in Python, at all that it can do while nodes are killed: it makes topics, writes, reads in a group that members join and leave, writes in
transactions, and replays from an offset and from a time. Nothing that was acknowledged is lost, and what was to come once comes once.

outlive.py CLIENT SERVERS        CLIENT is confluent, kafka_python, kafka_python_tx or aiokafka

kafka-python (3.0.12) writes in transactions as kafka_python_tx alone: once a node goes away in the middle of one, it may keep what is queued and send nothing any more, though all
its requests were answered ("Nodes with data ready to send: {1, 2}", "Created 0 produce requests", again and again).

Says "go" when it is at work, and comes to its end once it is told to.
"""

import asyncio
import concurrent.futures
import itertools
import sys
import threading
import time
import traceback

client, servers = sys.argv[1], sys.argv[2]
topic, tx_topic, group, PARTITIONS, REPLICAS = f"outlive-{client}", f"outlive-{client}-tx", f"outlive-{client}", 6, 3
# Records of one transaction, of which every third is given up; and how long everything may take at the end, in seconds.
EACH, PATIENCE = 10, 60
EVERY = 0.01

stop, failed = threading.Event(), []
acknowledged, members_read = [], []
committed, aborted = set(), set()


def guarded(what):
    def run():
        try:
            what()
        except BaseException as error:
            traceback.print_exc()
            failed.append(error)
            stop.set()

    return threading.Thread(target=run)


def until(what, done, within=PATIENCE):
    end = time.monotonic() + within
    while not done():
        assert not failed, failed
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Confluent:
    """librdkafka of today."""

    def __init__(self):
        import confluent_kafka as ck
        from confluent_kafka.admin import AdminClient, NewTopic

        self.ck, self.settings = ck, {"bootstrap.servers": servers}
        admin = AdminClient(self.settings)
        for created in admin.create_topics([NewTopic(name, PARTITIONS, REPLICAS) for name in [topic, tx_topic]]).values():
            created.result(30)

    def writer(self):
        producer, wrong = self.ck.Producer(self.settings | {"enable.idempotence": True}), []

        def send(value):
            producer.produce(topic, value, on_delivery=lambda error, m: wrong.append(error) if error else acknowledged.append(int(m.value())))
            producer.poll(0)

        def end():
            assert producer.flush(PATIENCE) == 0 and not wrong, wrong

        return send, end

    def passing(self, error):
        codes = self.ck.KafkaError
        return error.retriable() or error.code() in {codes._TRANSPORT, codes._ALL_BROKERS_DOWN, codes._RESOLVE, codes._TIMED_OUT}

    def member(self):
        more = {"group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 10000, "heartbeat.interval.ms": 500}
        consumer = self.ck.Consumer(self.settings | more)
        consumer.subscribe([topic])

        def poll():
            message = consumer.poll(0.1)
            if message is not None and message.error():
                assert self.passing(message.error()), message.error()
                return []
            return [] if message is None else [int(message.value())]

        return poll, consumer.close

    def again(self, what):
        while True:
            try:
                return what()
            except self.ck.KafkaException as error:
                if error.args[0].fatal() or error.args[0].txn_requires_abort() or not self.passing(error.args[0]):
                    raise

    def transactions(self):
        producer = self.ck.Producer(self.settings | {"transactional.id": group})
        self.again(lambda: producer.init_transactions(30))

        def one(values, keep):
            producer.begin_transaction()
            try:
                for value in values:
                    producer.produce(tx_topic, value)
                self.again(lambda: producer.commit_transaction(30) if keep else producer.abort_transaction(30))
                return keep
            except self.ck.KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                # It did not take effect, or it could not be given up.
                self.again(lambda: producer.abort_transaction(30))
                return False

        return one, lambda: None

    def read(self, name):
        """All that is committed: value, offset and time, by partition."""
        consumer = self.ck.Consumer(self.settings | {"group.id": "nobody", "isolation.level": "read_committed", "enable.auto.commit": False})
        found = {}
        for n in range(PARTITIONS):
            part = self.ck.TopicPartition(name, n, 0)
            end = consumer.get_watermark_offsets(part, 30)[1]
            consumer.assign([part])
            found[n], waited = [], time.monotonic() + PATIENCE
            while consumer.position([part])[0].offset < end:
                assert time.monotonic() < waited, f"{name}-{n} is not read to its end"
                message = consumer.poll(0.1)
                if message is not None:
                    assert message.error() is None, message.error()
                    found[n].append((int(message.value()), message.offset(), message.timestamp()[1]))
        self.consumer = consumer
        return found

    def at_time(self, n, ms):
        return self.consumer.offsets_for_times([self.ck.TopicPartition(topic, n, ms)], 30)[0].offset

    def first_from(self, n, offset):
        self.consumer.assign([self.ck.TopicPartition(topic, n, offset)])
        message = self.consumer.poll(30)
        return message.offset(), int(message.value())


class KafkaPython:
    """Its calls wait by themselves for a leader that there will be."""

    def __init__(self):
        import kafka
        from kafka.admin import NewTopic

        self.kafka, self.settings = kafka, {"bootstrap_servers": servers.split(",")}
        admin = kafka.KafkaAdminClient(**self.settings)
        admin.create_topics([NewTopic(name, PARTITIONS, REPLICAS) for name in [topic, tx_topic]])
        admin.close()

    def writer(self):
        producer, sent = self.kafka.KafkaProducer(acks="all", enable_idempotence=True, **self.settings), []

        def send(value):
            sent.append((int(value), producer.send(topic, value)))

        def end():
            for value, future in sent:
                future.get(PATIENCE)
                acknowledged.append(value)
            producer.close()

        return send, end

    def member(self):
        consumer = self.kafka.KafkaConsumer(topic, group_id=group, auto_offset_reset="earliest", session_timeout_ms=10000, heartbeat_interval_ms=500, **self.settings)

        def poll():
            return [int(message.value) for some in consumer.poll(100).values() for message in some]

        return poll, consumer.close

    transactions = None

    def read(self, name):
        consumer = self.kafka.KafkaConsumer(isolation_level="read_committed", enable_auto_commit=False, **self.settings)
        found = {}
        for n in range(PARTITIONS):
            part = self.kafka.TopicPartition(name, n)
            consumer.assign([part])
            consumer.seek(part, 0)
            end, found[n], waited = consumer.end_offsets([part])[part], [], time.monotonic() + PATIENCE
            while consumer.position(part) < end:
                assert time.monotonic() < waited, f"{name}-{n} is not read to its end"
                for message in consumer.poll(100).get(part, []):
                    found[n].append((int(message.value), message.offset, message.timestamp))
        self.consumer = consumer
        return found

    def at_time(self, n, ms):
        part = self.kafka.TopicPartition(topic, n)
        return self.consumer.offsets_for_times({part: ms})[part].offset

    def first_from(self, n, offset):
        part = self.kafka.TopicPartition(topic, n)
        self.consumer.assign([part])
        self.consumer.seek(part, offset)
        message = next(self.consumer)
        return message.offset, int(message.value)


class KafkaPythonTx(KafkaPython):
    """The same, and it writes in transactions."""

    def transactions(self):
        producer = self.kafka.KafkaProducer(transactional_id=group, **self.settings)
        producer.init_transactions()

        def one(values, keep):
            producer.begin_transaction()
            sent = [producer.send(tx_topic, value) for value in values]
            if keep:
                producer.commit_transaction()
            else:
                for future in sent:
                    future.get(PATIENCE)
                producer.abort_transaction()
            return keep

        return one, producer.close


class Aiokafka:
    """In a loop of its own, which all threads ask."""

    def __init__(self):
        import aiokafka
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        self.aio, self.settings, self.loop = aiokafka, {"bootstrap_servers": servers}, asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

        async def create():
            admin = AIOKafkaAdminClient(**self.settings)
            await admin.start()
            await admin.create_topics([NewTopic(name, PARTITIONS, REPLICAS) for name in [topic, tx_topic]])
            await admin.close()

        self.wait(create())

    def wait(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(PATIENCE)

    def made(self, kind, *args, **more):
        async def make():
            one = kind(*args, **self.settings, **more)
            await one.start()
            return one

        return self.wait(make())

    def writer(self):
        producer, sent = self.made(self.aio.AIOKafkaProducer, acks="all", enable_idempotence=True), []

        def send(value):
            sent.append((int(value), self.wait(producer.send(topic, value))))

        async def delivered(future):
            return await future

        def end():
            for value, future in sent:
                self.wait(delivered(future))
                acknowledged.append(value)
            self.wait(producer.stop())

        return send, end

    def member(self):
        more = {"group_id": group, "auto_offset_reset": "earliest", "session_timeout_ms": 10000, "heartbeat_interval_ms": 500}
        consumer = self.made(self.aio.AIOKafkaConsumer, topic, **more)

        def poll():
            return [int(message.value) for some in self.wait(consumer.getmany(timeout_ms=100)).values() for message in some]

        def close():
            try:
                self.wait(consumer.stop())
            except concurrent.futures.CancelledError:
                # It has cancelled what it was at when its coordinator went away, and waits for that (0.14.0).
                pass

        return poll, close

    def transactions(self):
        producer = self.made(self.aio.AIOKafkaProducer, transactional_id=group)

        def one(values, keep):
            async def go():
                await producer.begin_transaction()
                sent = [await producer.send(tx_topic, value) for value in values]
                if keep:
                    await producer.commit_transaction()
                else:
                    await asyncio.gather(*sent)
                    await producer.abort_transaction()

            self.wait(go())
            return keep

        return one, lambda: self.wait(producer.stop())

    async def place(self, consumer, part, offset):
        consumer.assign([part])
        consumer.seek(part, offset)

    def read(self, name):
        consumer = self.made(self.aio.AIOKafkaConsumer, isolation_level="read_committed", enable_auto_commit=False)
        found = {}
        for n in range(PARTITIONS):
            part = self.aio.TopicPartition(name, n)
            self.wait(self.place(consumer, part, 0))
            end, found[n], waited = self.wait(consumer.end_offsets([part]))[part], [], time.monotonic() + PATIENCE
            while self.wait(consumer.position(part)) < end:
                assert time.monotonic() < waited, f"{name}-{n} is not read to its end"
                for message in self.wait(consumer.getmany(timeout_ms=100)).get(part, []):
                    found[n].append((int(message.value), message.offset, message.timestamp))
        self.consumer = consumer
        return found

    def at_time(self, n, ms):
        part = self.aio.TopicPartition(topic, n)
        return self.wait(self.consumer.offsets_for_times({part: ms}))[part].offset

    def first_from(self, n, offset):
        part = self.aio.TopicPartition(topic, n)
        self.wait(self.place(self.consumer, part, offset))
        message = self.wait(self.consumer.getone())
        return message.offset, int(message.value)


kafka = {"confluent": Confluent, "kafka_python": KafkaPython, "kafka_python_tx": KafkaPythonTx, "aiokafka": Aiokafka}[client]()
begun = {"written": 0} | ({"transactions": 0} if kafka.transactions else {})


def write():
    send, end = kafka.writer()
    while not stop.is_set():
        send(b"%d" % begun["written"])
        begun["written"] += 1
        time.sleep(EVERY)
    end()


def transact():
    one, end = kafka.transactions()
    for n in itertools.count():
        if stop.is_set():
            break
        values = range(n * EACH, (n + 1) * EACH)
        begun["transactions"] += 1
        done = one([b"%d" % value for value in values], keep=n % 3 != 2)
        (committed if done else aborted).update(values)
        time.sleep(EVERY * 5)
    end()


enough = threading.Event()


def consume(leaves):
    poll, close = kafka.member()
    read = 0
    while not enough.is_set() and not (leaves and read >= 100):
        found = poll()
        read += len(found)
        members_read.extend(found)
    close()


def come_and_go():
    """A second member comes, reads some and goes, again and again."""
    while not stop.is_set() and not enough.is_set():
        consume(leaves=True)


at_work = [guarded(write)] + ([guarded(transact)] if kafka.transactions else [])
readers = [guarded(lambda: consume(leaves=False)), guarded(come_and_go)]
for thread in at_work + readers:
    thread.start()
until("it does not get to work", lambda: begun["written"] > 100 and begun.get("transactions", 6) > 5 and len(members_read) > 50)
print("go", flush=True)
sys.stdin.readline()
before = dict(begun)
until("it does not go on", lambda: all(begun[what] > then + 5 for what, then in before.items()))
stop.set()
for thread in at_work:
    thread.join(2 * PATIENCE)
    assert not thread.is_alive(), f"it does not come to its end: {begun}"
assert not failed, failed
assert sorted(acknowledged) == list(range(begun["written"])), "something was not acknowledged"
until("the group does not read everything", lambda: set(members_read) >= set(acknowledged))
enough.set()
for thread in readers:
    thread.join(PATIENCE)
assert not failed, failed

found = kafka.read(topic)
values = [value for some in found.values() for value, _, _ in some]
assert sorted(values) == sorted(acknowledged), f"{len(values)} records of {len(acknowledged)} that were acknowledged, {len(set(values))} different ones"
in_order = {n: [value for value, _, _ in some] for n, some in found.items()}
assert all(some == sorted(some) for some in in_order.values()), "they are in another order than they were sent in"
longest = max(found, key=lambda n: len(found[n]))
value, offset, ms = found[longest][len(found[longest]) // 2]
assert kafka.first_from(longest, offset) == (offset, value)
at = kafka.at_time(longest, ms)
assert kafka.first_from(longest, at) == next((o, v) for v, o, t in found[longest] if t >= ms)

values = [value for some in kafka.read(tx_topic).values() for value, _, _ in some]
assert sorted(values) == sorted(committed), f"{sorted(set(values) ^ committed)} are there and were not committed, or the other way round"
print(f"{client}: {len(acknowledged)} records, {len(committed) // EACH} of {begun.get('transactions', 0)} transactions committed", file=sys.stderr)
