import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

/**
 * Apache Kafka's own client: topics, an idempotent producer, and groups that grow, shrink, come back, and have members by name. Their members share out among
 * themselves in the way that is given; or the server does, if the sort of group is given, too: consumer. Then it is said when the server may be killed and
 * started anew in between.
 */
public class Groups {
    static final int PARTITIONS = 6, RECORDS = 600;
    static final long NOW = System.currentTimeMillis() - 3_600_000;
    static String server, topic, group, assignor;
    static boolean byServer;
    static Admin admin;

    static Consumer<String, String> consumer(String... more) {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", server, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        p.putAll(byServer ? Map.of("group.protocol", "consumer", "group.remote.assignor", assignor)
            : Map.of("partition.assignment.strategy", assignor, "session.timeout.ms", "6000", "heartbeat.interval.ms", "500"));
        for (int n = 0; n < more.length; n += 2) p.put(more[n], more[n + 1]);
        Consumer<String, String> c = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
        c.subscribe(List.of(topic));
        return c;
    }

    static List<Integer> poll(List<Consumer<String, String>> all, Predicate<List<Integer>> done) {
        List<Integer> values = new ArrayList<>();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!done.test(values)) {
            check(System.nanoTime() < end, values.size() + " records, and not done");
            for (Consumer<String, String> c : all)
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50))) values.add(Integer.parseInt(r.value()));
        }
        Collections.sort(values);
        return values;
    }

    static boolean spread(List<Consumer<String, String>> all) {
        List<TopicPartition> parts = new ArrayList<>();
        for (Consumer<String, String> c : all) {
            if (c.assignment().isEmpty()) return false;
            parts.addAll(c.assignment());
        }
        return parts.size() == PARTITIONS && new HashSet<>(parts).size() == PARTITIONS;
    }

    /** The group, once it is stable. */
    static ConsumerGroupDescription described(List<Consumer<String, String>> all) throws Exception {
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60); ; poll(all, v -> spread(all))) {
            ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            if (d.groupState() == GroupState.STABLE) return d;
            check(System.nanoTime() < end, d.toString());
            Thread.sleep(100);
        }
    }

    /** What members know of the group: their epochs. */
    static Map<String, Integer> epochs(ConsumerGroupDescription d) {
        Map<String, Integer> all = new TreeMap<>();
        for (MemberDescription m : d.members()) all.put(m.consumerId(), m.memberEpoch().orElse(-1));
        return all;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static List<Integer> range(int from, int to) {
        List<Integer> all = new ArrayList<>();
        for (int n = from; n < to; n++) all.add(n);
        return all;
    }

    public static void main(String[] args) throws Exception {
        server = args[0];
        byServer = args.length > 2 && args[2].equals("consumer");
        assignor = byServer ? args[1] : "org.apache.kafka.clients.consumer." + args[1];
        topic = "java-" + args[1];
        group = "group-" + args[1];
        Properties p = new Properties();
        p.put("bootstrap.servers", server);
        admin = Admin.create(p);
        try (Admin closed = admin; Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
            List<Consumer<String, String>> all = new ArrayList<>(List.of(consumer(), consumer()));
            // It waits for nobody: who comes first has everything, until the other one comes.
            if (byServer) poll(all, v -> spread(all));
            for (int n = 0; n < RECORDS; n++) producer.send(new ProducerRecord<>(topic, null, NOW + n, "key-" + n % 60, "" + n));
            producer.flush();
            check(poll(all, v -> v.size() >= RECORDS && spread(all)).equals(range(0, RECORDS)), "everything once");
            for (Consumer<String, String> c : all) c.commitSync();
            all.add(consumer());
            poll(all, v -> spread(all));
            all.remove(0).close();
            poll(all, v -> spread(all));
            ConsumerGroupDescription d = described(all);
            check(d.members().size() == 2 && d.type() == (byServer ? GroupType.CONSUMER : GroupType.CLASSIC), d.toString());
            check(d.members().stream().mapToInt(m -> m.assignment().topicPartitions().size()).sum() == PARTITIONS, d.toString());
            check(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group) && g.type().equals(Optional.of(d.type()))), "it is listed");
            if (byServer) {
                check(d.partitionAssignor().equals(assignor) && epochs(d).values().stream().allMatch(e -> Optional.of(e).equals(d.groupEpoch())), d.toString());
                check(d.members().stream().allMatch(m -> m.targetAssignment().equals(Optional.of(m.assignment()))), d.toString());
                List<Set<TopicPartition>> had = new ArrayList<>();
                for (Consumer<String, String> c : all) had.add(c.assignment());
                System.out.println("kill it");
                System.in.read();
                poll(all, v -> true);
                check(epochs(described(all)).equals(epochs(d)), epochs(described(all)) + " of " + epochs(d));
                for (Consumer<String, String> c : all) check(had.contains(c.assignment()), "nobody was disturbed");
                for (Consumer<String, String> c : all) c.commitSync();
            }
            for (Consumer<String, String> c : all) c.close();
            all.clear();

            // Members by name come back to what they had, without anybody else noticing.
            all.addAll(List.of(consumer("group.instance.id", "one"), consumer("group.instance.id", "two")));
            poll(all, v -> spread(all));
            Set<TopicPartition> had = all.get(0).assignment();
            all.remove(0).close();
            all.add(0, consumer("group.instance.id", "one"));
            poll(all, v -> spread(all));
            check(all.get(0).assignment().equals(had), had + " before, and then " + all.get(0).assignment());
            for (int n = RECORDS; n < RECORDS + 50; n++) producer.send(new ProducerRecord<>(topic, null, NOW + n, "key-" + n, "" + n));
            producer.flush();
            check(poll(all, v -> v.size() == 50).equals(range(RECORDS, RECORDS + 50)), "it goes on where it was");
            for (Consumer<String, String> c : all) c.commitSync();
            Map<TopicPartition, Long> times = new HashMap<>();
            for (int n = 0; n < PARTITIONS; n++) times.put(new TopicPartition(topic, n), NOW + RECORDS);
            Map<TopicPartition, OffsetAndTimestamp> found = all.get(0).offsetsForTimes(times);
            check(found.values().stream().anyMatch(Objects::nonNull), "there are records so young");
            for (Consumer<String, String> c : all) c.close();
            // They are waited for by their names, unless they are sent away.
            admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(
                List.of(new MemberToRemove("one"), new MemberToRemove("two")))).all().get();
            long kept = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            check(kept == RECORDS + 50, kept + " are kept");
            admin.deleteConsumerGroupOffsets(group, Set.of(new TopicPartition(topic, 0))).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }
}
