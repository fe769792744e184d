import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Epochs of leaders, as Apache Kafka's own client has them (KIP-320). Says who leads, reads on once it is told that this node is gone, and is told that nothing
 * it has read was cut, or where it was.
 */
public class Epochs {
    static final int RECORDS = 100;
    static String servers, topic;

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static Properties properties() {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", servers, "group.id", topic, "auto.offset.reset", "none", "enable.auto.commit", "false"));
        p.putAll(Map.of("key.serializer", StringSerializer.class, "value.serializer", StringSerializer.class, "delivery.timeout.ms", "60000", "request.timeout.ms", "10000", "linger.ms", "0"));
        return p;
    }

    static Consumer<String, String> consumer() {
        return new KafkaConsumer<>(properties(), new StringDeserializer(), new StringDeserializer());
    }

    /** So many records, in their order, and the epoch of each. */
    static List<Integer> read(Consumer<String, String> consumer, int from, int count) {
        List<Integer> epochs = new ArrayList<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (epochs.size() < count) {
            check(System.nanoTime() < end, epochs.size() + " of " + count + " records");
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) {
                check(Integer.parseInt(r.value()) == from + epochs.size() && r.offset() == from + epochs.size(), r.toString());
                epochs.add(r.leaderEpoch().orElse(-1));
            }
        }
        return epochs;
    }

    static void write(Producer<String, String> producer, int from, int count) throws Exception {
        for (int n = from; n < from + count; n++) producer.send(new ProducerRecord<>(topic, 0, null, "" + n)).get();
    }

    public static void main(String[] args) throws Exception {
        servers = args[0];
        topic = "epochs-java";
        TopicPartition at = new TopicPartition(topic, 0);
        try (Admin admin = Admin.create(properties()); Producer<String, String> producer = new KafkaProducer<>(properties()); Consumer<String, String> consumer = consumer()) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 3))).all().get();
            write(producer, 0, RECORDS);
            consumer.assign(List.of(at));
            consumer.seek(at, 0);
            List<Integer> epochs = read(consumer, 0, RECORDS);
            int first = epochs.get(RECORDS - 1);
            check(first > 0 && new TreeSet<>(epochs).first() > 0, "records have epochs: " + epochs);
            consumer.commitSync();
            OffsetAndMetadata committed = consumer.committed(Set.of(at)).get(at);
            check(committed.offset() == RECORDS && committed.leaderEpoch().equals(Optional.of(first)), "with the epoch of the last record: " + committed);
            for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.forTimestamp(0), OffsetSpec.maxTimestamp(), OffsetSpec.latest())) {
                int epoch = admin.listOffsets(Map.of(at, spec)).partitionResult(at).get().leaderEpoch().orElse(-1);
                // The end has the epoch of whoever leads, and another one may by now; a record has its own.
                boolean right = spec instanceof OffsetSpec.LatestSpec ? epoch >= first
                    : spec instanceof OffsetSpec.MaxTimestampSpec ? epochs.contains(epoch) : epoch == epochs.get(0);
                check(right, spec.getClass().getSimpleName() + ": " + epoch + " where the records have " + epochs);
            }
            System.out.println(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().get(0).leader().id());
            System.in.read();

            // Whoever was at work reads on.
            write(producer, RECORDS, RECORDS);
            epochs = read(consumer, RECORDS, RECORDS);
            int second = epochs.get(RECORDS - 1);
            check(second > first && new ArrayList<>(new TreeSet<>(epochs)).get(0) >= first, second + " follows " + first + ": " + epochs);
            int begins = RECORDS + (int) epochs.stream().filter(epoch -> epoch == first).count();
            // So does whoever goes on from a position of the epoch before: it asks first where that has ended.
            try (Consumer<String, String> next = consumer()) {
                next.assign(List.of(at));
                check(new TreeSet<>(read(next, RECORDS, RECORDS)).last() == second, "it has read all");
                next.commitSync();
                check(next.committed(Set.of(at)).get(at).leaderEpoch().equals(Optional.of(second)), "the position has the later epoch");
                // A position that its epoch never had is not read from: whoever was there has read what was cut since.
                next.seek(at, new OffsetAndMetadata(begins + 1, Optional.of(first), ""));
                try {
                    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
                    while (System.nanoTime() < end) next.poll(Duration.ofMillis(100));
                    throw new AssertionError("it was never told of what was cut");
                } catch (LogTruncationException cut) {
                    check(cut.divergentOffsets().get(at).offset() == begins, begins + " is the end of the epoch: " + cut.divergentOffsets());
                }
            }
            // A topic that takes the place of another begins with lower epochs: who was at work with that one goes on.
            admin.deleteTopics(List.of(topic)).all().get();
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 3))).all().get();
            write(producer, 0, RECORDS);
            consumer.seek(at, 0);
            int anew = read(consumer, 0, RECORDS).get(RECORDS - 1);
            check(anew > 0, "it has an epoch: " + anew);
        }
    }
}
