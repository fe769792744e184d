"""Load by librdkafka: as fast as it can, or so many records a second with a reader beside it.

Arguments are NAME=VALUE. Says `measuring` and `measured` when the window begins and ends, then its figures as JSON. Latency at a rate is
from the moment at which a record was due. As fast as it can, every SAMPLE-th record alone is followed to its ack, so that Python is not
what is measured; the others of its partition went before it, or come with the next one.
"""

import json
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition, libversion, version

# Has no factor in common with usual numbers of partitions, so that every partition has its samples.
SAMPLE = 17
# What is still on its way at the end is waited for so long, in seconds.
LAST_S = 120


class Load:
    def __init__(self, args):
        self.topic, self.partitions = args["topic"], int(args["partitions"])
        rate, size = int(args["rate"]), int(args["record-size"])
        self.every = 1_000_000_000 // rate if rate else 0
        self.warm_up, self.measure = int(args["warm-up-ms"]) * 1_000_000, int(args["measure-ms"]) * 1_000_000
        with open(args["values"], "rb") as file:
            values = file.read()
        self.values = [values[at : at + size] for at in range(0, len(values) - size + 1, size)]
        self.at = args["at"]
        self.settings = {"acks": "all"}
        if "linger-ms" in args:
            self.settings["linger.ms"] = float(args["linger-ms"])
        self.acks, self.ways = [], []
        self.begin = self.end = sys.maxsize
        self.sent = self.records = self.failed = self.received = 0
        self.error = ""
        self.over = False

    def run(self):
        # Threads wait for each other no longer than they must.
        sys.setswitchinterval(0.0005)
        producer = Producer({"bootstrap.servers": self.at, **self.settings})
        producer.list_topics(self.topic, timeout=LAST_S)
        reader = None
        if self.every:
            consumer = self.follower()
            reader = threading.Thread(target=self.read, args=(consumer,), daemon=True)
            reader.start()
        start = time.monotonic_ns()
        self.begin, self.end = start + self.warm_up, start + self.warm_up + self.measure
        marks = threading.Thread(target=self.mark, daemon=True)
        marks.start()
        if self.every:
            self.pace(producer, start)
        else:
            self.flood(producer)
        marks.join()
        left = producer.flush(LAST_S)
        if left:
            self.failed += left
            self.error = self.error or f"{left} records are not acknowledged after {LAST_S} s"
        last = time.monotonic() + LAST_S
        while reader and self.received < self.sent - self.failed and time.monotonic() < last:
            time.sleep(0.005)
        self.over = True
        if reader:
            reader.join(LAST_S)
        print(json.dumps(self.figures()), flush=True)

    def mark(self):
        for at, what in (self.begin, "measuring"), (self.end, "measured"):
            time.sleep(max(0, at - time.monotonic_ns()) / 1e9)
            print(what, flush=True)

    def flood(self, producer):
        values, partitions, kinds, topic = self.values, self.partitions, len(self.values), self.topic
        n = 0
        while True:
            if n % 256 == 0:
                producer.poll(0)
                if time.monotonic_ns() >= self.end:
                    break
            acked = self.acked(time.monotonic_ns(), SAMPLE) if n % SAMPLE == 0 else None
            while True:
                try:
                    producer.produce(topic, values[n % kinds], partition=n % partitions, on_delivery=acked)
                    break
                except BufferError:
                    if time.monotonic_ns() >= self.end:
                        return
                    producer.poll(0.01)
            n += 1
        self.sent = n

    def pace(self, producer, start):
        poller = threading.Thread(target=self.poll, args=(producer,), daemon=True)
        poller.start()
        n = 0
        while (due := start + n * self.every) < self.end:
            left = due - time.monotonic_ns()
            if left > 0:
                time.sleep(left / 1e9)
            value = struct.pack(">q", due) + self.values[n % len(self.values)][8:]
            self.sent += 1
            while True:
                try:
                    producer.produce(self.topic, value, partition=n % self.partitions, on_delivery=self.acked(due, 1))
                    break
                except BufferError:
                    time.sleep(0.001)
            n += 1

    def poll(self, producer):
        while not self.over:
            producer.poll(0.1)

    def acked(self, due, records):
        def done(error, _message):
            now = time.monotonic_ns()
            if error is not None:
                self.failed += records
                self.error = str(error)
                return
            if self.begin <= now < self.end:
                self.records += records
            if self.begin <= (due if self.every else now) < self.end:
                self.acks.append(now - due)

        return done

    def follower(self):
        consumer = Consumer({"bootstrap.servers": self.at, "group.id": "load", "enable.auto.commit": False})
        parts = [TopicPartition(self.topic, n) for n in range(self.partitions)]
        ends = [consumer.get_watermark_offsets(part, timeout=LAST_S)[1] for part in parts]
        consumer.assign([TopicPartition(self.topic, n, end) for n, end in enumerate(ends)])
        return consumer

    def read(self, consumer):
        while not self.over:
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.error = str(message.error())
                continue
            due = struct.unpack(">q", message.value()[:8])[0]
            if self.begin <= due < self.end:
                self.ways.append(time.monotonic_ns() - due)
            self.received += 1
        consumer.close()

    def figures(self):
        on = [(name, str(value)) for name, value in self.settings.items()] + [("all else", "librdkafka's defaults")]
        return {
            "client": f"librdkafka {libversion()[0]} (confluent-kafka {version()})",
            "on": on,
            "seconds": self.measure / 1e9,
            "records": self.records,
            "failed": self.failed,
            "missing": max(0, self.sent - self.failed - self.received) if self.every else 0,
            "error": self.error,
            "ack": times(self.acks),
            "end_to_end": times(self.ways) if self.every else None,
        }


def times(of):
    of = sorted(of)

    # The smallest value that so large a share of all does not exceed.
    def at(share):
        return of[max(0, -(-len(of) * share // 1000) - 1)] if of else 0

    return {"count": len(of), "p50_ns": at(500), "p99_ns": at(990), "p999_ns": at(999), "max_ns": at(1000)}


if __name__ == "__main__":
    Load(dict(arg.split("=", 1) for arg in sys.argv[1:])).run()
