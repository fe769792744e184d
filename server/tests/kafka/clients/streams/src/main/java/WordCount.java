import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams counts words, each exactly once, while the server may be killed and started anew: it says when more than half of them are sent, goes on once it is told,
 * and in the end the counts are right.
 */
public class WordCount {
    static final int PARTITIONS = 3, LINES = 3000, WORDS = 40;

    static void check(boolean holds, Object what) {
        if (!holds) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String server = args[0], tag = args[1], state = args[2];
        short replicas = args.length > 3 ? Short.parseShort(args[3]) : 1;
        String lines = tag + "-lines", counts = tag + "-counts";
        Properties plain = new Properties();
        plain.putAll(Map.of("bootstrap.servers", server, "enable.auto.commit", "false", "isolation.level", "read_committed", "enable.idempotence", "true"));
        try (Admin admin = Admin.create(plain)) {
            admin.createTopics(List.of(new NewTopic(lines, PARTITIONS, replicas), new NewTopic(counts, PARTITIONS, replicas))).all().get();
        }

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(lines, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            // In memory: the other sort needs a native library.
            .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("words")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream().to(counts, Produced.with(Serdes.String(), Serdes.Long()));
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", server, "application.id", tag + "-words", "state.dir", state, "processing.guarantee", "exactly_once_v2",
            "replication.factor", "" + replicas, "commit.interval.ms", "100", "statestore.cache.max.bytes", "0", "num.stream.threads", "2"));
        p.put("consumer.auto.offset.reset", "earliest");
        p.put("consumer.session.timeout.ms", "10000");
        p.put("consumer.heartbeat.interval.ms", "500");
        List<Throwable> failed = Collections.synchronizedList(new ArrayList<>());
        Map<String, Long> wanted = new TreeMap<>(), found = new TreeMap<>();
        KafkaStreams streams = new KafkaStreams(builder.build(), p);
        // A thread that is fenced or that waits too long for the server gives way to a new one.
        streams.setUncaughtExceptionHandler(e -> {
            failed.add(e);
            return failed.size() < 20 ? StreamThreadExceptionResponse.REPLACE_THREAD : StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();

        Random dice = new Random(tag.hashCode());
        List<TopicPartition> parts = IntStream.range(0, PARTITIONS).mapToObj(n -> new TopicPartition(counts, n)).collect(Collectors.toList());
        try (Producer<String, String> producer = new KafkaProducer<>(plain, new StringSerializer(), new StringSerializer());
            Consumer<String, Long> reader = new KafkaConsumer<>(plain, new StringDeserializer(), new LongDeserializer())) {
            reader.assign(parts);
            reader.seekToBeginning(parts);
            for (boolean isFirst : new boolean[] {true, false}) {
                for (int n = 0; n < LINES / 2; n++) {
                    String line = IntStream.range(0, 5).mapToObj(i -> "word-" + dice.nextInt(WORDS)).collect(Collectors.joining(" "));
                    for (String word : line.split(" ")) wanted.merge(word, 1L, Long::sum);
                    producer.send(new ProducerRecord<>(lines, "" + n, line));
                    // The server is killed while the second half comes.
                    if (!isFirst && n == LINES / 4) {
                        System.out.println("go");
                        System.in.read();
                    }
                }
                producer.flush();
                for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(isFirst ? 40 : 80); !found.equals(wanted); ) {
                    check(System.nanoTime() < end, found + ", and not " + wanted + ": " + streams.state() + " after " + failed);
                    for (ConsumerRecord<String, Long> r : reader.poll(Duration.ofMillis(100))) {
                        long before = found.getOrDefault(r.key(), 0L);
                        // Each word that is counted gives one record, and none of them comes again.
                        check(r.value() == before + 1, r + " after " + before);
                        found.put(r.key(), r.value());
                    }
                }
            }
            // Nothing more comes.
            check(reader.poll(Duration.ofSeconds(2)).isEmpty(), "a word is counted again");
        }
        check(streams.close(Duration.ofSeconds(20)), streams.state());
    }
}
