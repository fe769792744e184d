"""Clients of Kafka in Python over TLS, and with a user's name and password where these are given: each writes, and reads in a group what all have written.

secure.py SERVER TOPIC CA-or-none [MECHANISM USER PASSWORD]
"""

import asyncio
import ssl
import sys

import aiokafka
import confluent_kafka
import kafka

server, topic, ca = sys.argv[1:4]
mechanism, user, password = sys.argv[4:7] or (None, None, None)
ca = None if ca == "none" else ca
protocol = {(True, False): "SSL", (True, True): "SASL_SSL", (False, True): "SASL_PLAINTEXT"}[bool(ca), bool(user)]
RECORDS = 100
written = []


def values(client):
    ours = [f"{client}-{n}".encode() for n in range(RECORDS)]
    written.extend(ours)
    return ours


def check(client, read):
    assert sorted(read) == sorted(written), f"{client} has read {len(read)} of {len(written)}"


def by_confluent():
    settings = {"bootstrap.servers": server, "security.protocol": protocol}
    if ca:
        settings |= {"ssl.ca.location": ca}
    if user:
        settings |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
    producer = confluent_kafka.Producer(settings)
    failed = []
    for value in values("confluent"):
        producer.produce(topic, value, on_delivery=lambda error, _: error and failed.append(error))
    assert producer.flush(60) == 0 and not failed, failed
    consumer = confluent_kafka.Consumer(settings | {"group.id": f"{topic}-confluent", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    read = []
    while len(read) < len(written):
        message = consumer.poll(30)
        assert message is not None and message.error() is None, message and message.error()
        read.append(message.value())
    consumer.close()
    check("confluent", read)


def by_kafka_python():
    settings = {"bootstrap_servers": server, "security_protocol": protocol}
    if ca:
        settings |= {"ssl_cafile": ca}
    if user:
        settings |= {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}
    producer = kafka.KafkaProducer(**settings)
    for sent in [producer.send(topic, value) for value in values("kafka-python")]:
        sent.get(60)
    producer.close()
    consumer = kafka.KafkaConsumer(topic, group_id=f"{topic}-python", auto_offset_reset="earliest", consumer_timeout_ms=30_000, **settings)
    read = []
    for message in consumer:
        read.append(message.value)
        if len(read) == len(written):
            break
    consumer.close()
    check("kafka-python", read)


async def by_aiokafka():
    settings = {"bootstrap_servers": server, "security_protocol": protocol}
    if ca:
        settings |= {"ssl_context": ssl.create_default_context(cafile=ca)}
    if user:
        settings |= {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}
    async with aiokafka.AIOKafkaProducer(**settings) as producer:
        for value in values("aiokafka"):
            await producer.send_and_wait(topic, value)
    read = []
    async with aiokafka.AIOKafkaConsumer(topic, group_id=f"{topic}-aio", auto_offset_reset="earliest", **settings) as consumer:
        while len(read) < len(written):
            read.append((await asyncio.wait_for(consumer.getone(), 30)).value)
    check("aiokafka", read)


by_confluent()
by_kafka_python()
asyncio.run(by_aiokafka())
