import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

/** A consumer of Apache Kafka's own client that reads many partitions: in a session (KIP-227) its requests say what has changed, which is nothing while nothing comes. */
public class Sessions {
    static final int PARTITIONS = 200;
    /** A partition takes at least so many bytes in a request, and what a request of a session without news takes is less. */
    static final double PARTITION_BYTES = 25, QUIET_BYTES = 300;

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static double metric(Consumer<?, ?> consumer, String name) {
        return consumer.metrics().entrySet().stream().filter(m -> m.getKey().group().equals("consumer-metrics") && m.getKey().name().equals(name))
            .mapToDouble(m -> (double) m.getValue().metricValue()).sum();
    }

    /** Bytes of each request while nothing comes. */
    static double quiet(Consumer<String, String> consumer) {
        double requests = metric(consumer, "request-total"), bytes = metric(consumer, "outgoing-byte-total");
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (metric(consumer, "request-total") < requests + 10) {
            check(System.nanoTime() < end, "it does not ask");
            check(consumer.poll(Duration.ofMillis(100)).isEmpty(), "nothing was written");
        }
        return (metric(consumer, "outgoing-byte-total") - bytes) / (metric(consumer, "request-total") - requests);
    }

    /** One record for each partition, and all of them read. */
    static void round(Producer<String, String> producer, Consumer<String, String> consumer, int round) throws Exception {
        for (int p = 0; p < PARTITIONS; p++) producer.send(new ProducerRecord<>("many", p, null, "" + round));
        producer.flush();
        Set<Integer> seen = new HashSet<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (seen.size() < PARTITIONS) {
            check(System.nanoTime() < end, "round " + round + ": " + seen.size() + " partitions");
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100)))
                check(r.value().equals("" + round) && r.offset() == round && seen.add(r.partition()), r.toString());
        }
    }

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", args[0], "auto.offset.reset", "earliest", "enable.auto.commit", "false", "fetch.max.wait.ms", "200"));
        p.putAll(Map.of("key.serializer", StringSerializer.class, "value.serializer", StringSerializer.class, "enable.metrics.push", "false"));
        try (Admin admin = Admin.create(p); Producer<String, String> producer = new KafkaProducer<>(p);
             Consumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            admin.createTopics(List.of(new NewTopic("many", PARTITIONS, (short) 1))).all().get();
            List<TopicPartition> all = new ArrayList<>();
            for (int n = 0; n < PARTITIONS; n++) all.add(new TopicPartition("many", n));
            consumer.assign(all);
            for (int round = 0; round < 3; round++) round(producer, consumer, round);
            // The first of them may still say what was read last.
            quiet(consumer);
            double bytes = quiet(consumer);
            check(bytes < QUIET_BYTES && PARTITIONS * PARTITION_BYTES > 10 * QUIET_BYTES, bytes + " bytes a request: it is without a session");
            System.out.println("quiet");
            System.in.read();
            for (int round = 3; round < 5; round++) round(producer, consumer, round);
            quiet(consumer);
            bytes = quiet(consumer);
            check(bytes < QUIET_BYTES, bytes + " bytes a request after another start");
        }
    }
}
