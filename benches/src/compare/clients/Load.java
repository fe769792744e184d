// Load by Apache Kafka's own client: as fast as it can, or so many records a second with a reader beside it.
//
// Arguments are NAME=VALUE. Says `measuring` and `measured` when the window begins and ends, then its figures as JSON.
// Latency at a rate is from the moment at which a record was due, so that a system that stalls is not spared what waited meanwhile.

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

public class Load {
    /** What is still on its way at the end is waited for so long. */
    static final Duration LAST = Duration.ofSeconds(60);

    final Map<String, String> args = new HashMap<>();
    final String topic;
    final int partitions;
    final byte[][] values;
    /** Nanoseconds between records; 0 for as fast as it goes. */
    final long everyNs;
    final Properties settings = new Properties();

    final Histogram acks = new Histogram(3);
    final Histogram ways = new Histogram(3);
    final AtomicLong sent = new AtomicLong();
    final AtomicLong received = new AtomicLong();
    long records;
    long failed;
    String error = "";
    volatile boolean over;

    Load(String[] given) throws Exception {
        for (String arg : given) {
            int at = arg.indexOf('=');
            args.put(arg.substring(0, at), arg.substring(at + 1));
        }
        topic = args.get("topic");
        partitions = Integer.parseInt(args.get("partitions"));
        long rate = Long.parseLong(args.get("rate"));
        everyNs = rate == 0 ? 0 : 1_000_000_000L / rate;
        int size = Integer.parseInt(args.get("record-size"));
        byte[] all = Files.readAllBytes(Path.of(args.get("values")));
        values = new byte[all.length / size][size];
        for (int n = 0; n < values.length; n++) System.arraycopy(all, n * size, values[n], 0, size);
        settings.put("bootstrap.servers", args.get("at"));
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        settings.put("acks", "all");
        if (args.containsKey("linger-ms")) settings.put("linger.ms", args.get("linger-ms"));
    }

    public static void main(String[] given) throws Exception {
        new Load(given).run();
    }

    void run() throws Exception {
        Thread reader = null;
        CountDownLatch ready = new CountDownLatch(everyNs > 0 ? 1 : 0);
        if (everyNs > 0) {
            reader = new Thread(() -> read(ready));
            reader.start();
        }
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings);
        // Connections and metadata are there before the clock runs.
        producer.partitionsFor(topic);
        ready.await();
        long start = System.nanoTime();
        long from = start + Long.parseLong(args.get("warm-up-ms")) * 1_000_000L;
        long to = from + Long.parseLong(args.get("measure-ms")) * 1_000_000L;
        this.from = from;
        this.to = to;
        Thread marks = new Thread(() -> {
            until(from);
            System.out.println("measuring");
            until(to);
            System.out.println("measured");
        });
        marks.start();
        for (long n = 0; ; n++) {
            long due = everyNs > 0 ? start + n * everyNs : System.nanoTime();
            if (due >= to) break;
            until(due);
            send(producer, n, due);
        }
        marks.join();
        producer.close(LAST);
        long last = System.nanoTime() + LAST.toNanos();
        while (reader != null && reader.isAlive() && received.get() < sent.get() - failed && System.nanoTime() < last) Thread.sleep(5);
        over = true;
        if (reader != null) reader.join();
        System.out.println(figures());
        // Nothing that is left may keep us.
        System.exit(0);
    }

    volatile long from;
    volatile long to;

    void send(KafkaProducer<byte[], byte[]> producer, long n, long due) {
        byte[] value = values[(int) (n % values.length)];
        if (everyNs > 0) {
            value = value.clone();
            ByteBuffer.wrap(value).putLong(due);
        }
        sent.incrementAndGet();
        // All of these are called by one thread, the producer's.
        producer.send(new ProducerRecord<>(topic, (int) (n % partitions), null, value), (done, exception) -> {
            long now = System.nanoTime();
            if (exception != null) {
                failed++;
                error = exception.toString();
                return;
            }
            if (now >= from && now < to) records++;
            long counts = everyNs > 0 ? due : now;
            if (counts >= from && counts < to) acks.recordValue(now - due);
        });
    }

    void read(CountDownLatch ready) {
        Properties reading = new Properties();
        reading.put("bootstrap.servers", args.get("at"));
        reading.put("key.deserializer", ByteArrayDeserializer.class.getName());
        reading.put("value.deserializer", ByteArrayDeserializer.class.getName());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(reading)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int n = 0; n < partitions; n++) all.add(new TopicPartition(topic, n));
            consumer.assign(all);
            consumer.seekToEnd(all);
            for (TopicPartition one : all) consumer.position(one);
            ready.countDown();
            while (!over) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    long due = ByteBuffer.wrap(record.value()).getLong();
                    if (due >= from && due < to) ways.recordValue(System.nanoTime() - due);
                    received.incrementAndGet();
                }
            }
        } catch (RuntimeException exception) {
            exception.printStackTrace();
            System.exit(1);
        }
    }

    static void until(long at) {
        for (long left = at - System.nanoTime(); left > 0; left = at - System.nanoTime()) LockSupport.parkNanos(left);
    }

    String figures() {
        ProducerConfig on = new ProducerConfig(settings);
        StringBuilder list = new StringBuilder();
        for (String name : List.of("acks", "enable.idempotence", "max.in.flight.requests.per.connection", "linger.ms", "batch.size",
                "buffer.memory", "compression.type")) {
            if (list.length() > 0) list.append(',');
            list.append(String.format("[\"%s\",\"%s\"]", name, on.values().get(name)));
        }
        long missing = everyNs > 0 ? Math.max(0, sent.get() - failed - received.get()) : 0;
        return String.format(
                "{\"client\":\"kafka-clients %s\",\"on\":[%s],\"seconds\":%.6f,\"records\":%d,\"failed\":%d,\"missing\":%d,\"error\":\"%s\","
                        + "\"ack\":%s,\"end_to_end\":%s}",
                AppInfoParser.getVersion(), list, (to - from) / 1e9, records, failed, missing, error.replaceAll("[\"\\\\\\p{Cntrl}]", " "),
                times(acks), everyNs > 0 ? times(ways) : "null");
    }

    static String times(Histogram of) {
        return String.format("{\"count\":%d,\"p50_ns\":%d,\"p99_ns\":%d,\"p999_ns\":%d,\"max_ns\":%d}", of.getTotalCount(),
                of.getValueAtPercentile(50), of.getValueAtPercentile(99), of.getValueAtPercentile(99.9), of.getMaxValue());
    }
}
