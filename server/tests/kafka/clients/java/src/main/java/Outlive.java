import java.time.Duration;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client at all that it can do while nodes are killed: it makes topics, writes, reads in a group that members join and leave, writes in transactions, and
 * replays from an offset and from a time. Nothing that was acknowledged is lost, and what was to come once comes once. Says "go" when it is at work, and comes to its
 * end once it is told to. With "consumer" as its second argument, groups are of the sort of KIP-848.
 */
public class Outlive {
    static final int PARTITIONS = 6, EACH = 10;
    static String servers, protocol, topic, txTopic;
    static final AtomicBoolean stop = new AtomicBoolean(), enough = new AtomicBoolean();
    static final Set<Integer> acknowledged = ConcurrentHashMap.newKeySet(), membersRead = ConcurrentHashMap.newKeySet();
    static final Set<Integer> committed = ConcurrentHashMap.newKeySet();
    static final AtomicInteger written = new AtomicInteger(), transactions = new AtomicInteger();
    static final List<Throwable> failed = new CopyOnWriteArrayList<>();

    interface Step {
        void run() throws Exception;
    }

    static Thread guarded(Step step) {
        Thread thread = new Thread(() -> {
            try {
                step.run();
            } catch (Throwable error) {
                failed.add(error);
                stop.set(true);
            }
        });
        thread.start();
        return thread;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    static void until(String what, BooleanSupplier done) throws Exception {
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60); !done.getAsBoolean(); Thread.sleep(50)) {
            if (!failed.isEmpty()) throw new IllegalStateException(failed.get(0));
            if (System.nanoTime() < end) continue;
            String threads = Thread.getAllStackTraces().entrySet().stream().filter(t -> t.getKey().getName().startsWith("Thread-"))
                .map(t -> t.getKey().getName() + Arrays.stream(t.getValue()).map(at -> "\n    " + at).collect(Collectors.joining())).collect(Collectors.joining("\n"));
            throw new IllegalStateException(what + ": " + written + " written, " + acknowledged.size() + " acknowledged, " + membersRead.size() + " read, "
                + transactions + " transactions\n" + threads);
        }
    }

    static KafkaProducer<String, String> producer(Map<String, String> more) {
        Properties p = new Properties();
        p.put("bootstrap.servers", servers);
        p.putAll(more);
        return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Map<String, String> more) {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", servers, "auto.offset.reset", "earliest"));
        p.putAll(more);
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    static void write() throws Exception {
        try (KafkaProducer<String, String> producer = producer(Map.of())) {
            for (; !stop.get(); Thread.sleep(10)) {
                int n = written.getAndIncrement();
                producer.send(new ProducerRecord<>(topic, "" + n), (where, error) -> {
                    if (error == null) acknowledged.add(n);
                    else failed.add(error);
                });
            }
        }
    }

    static void transact() throws Exception {
        try (KafkaProducer<String, String> producer = producer(Map.of("transactional.id", topic))) {
            producer.initTransactions();
            for (; !stop.get(); Thread.sleep(50)) {
                int turn = transactions.getAndIncrement();
                boolean keep = turn % 3 != 2;
                List<Integer> values = IntStream.range(turn * EACH, (turn + 1) * EACH).boxed().toList();
                try {
                    producer.beginTransaction();
                    for (int value : values) producer.send(new ProducerRecord<>(txTopic, "" + value));
                    if (keep) commit(producer);
                    else producer.abortTransaction();
                    if (keep) committed.addAll(values);
                } catch (TimeoutException | ProducerFencedException | OutOfOrderSequenceException error) {
                    throw error;
                } catch (org.apache.kafka.common.KafkaException error) {
                    producer.abortTransaction();
                }
            }
        }
    }

    /** Whether one that took too long was committed is learnt by committing it again. */
    static void commit(KafkaProducer<String, String> producer) {
        for (int tries = 0; ; tries++) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException error) {
                if (tries == 3) throw error;
            }
        }
    }

    static void consume(boolean leaves) {
        Map<String, String> more = protocol.equals("consumer")
            ? Map.of("group.id", topic, "group.protocol", "consumer")
            : Map.of("group.id", topic, "session.timeout.ms", "10000", "heartbeat.interval.ms", "500",
                "partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        try (KafkaConsumer<String, String> consumer = consumer(more)) {
            consumer.subscribe(List.of(topic));
            for (int read = 0; !enough.get() && !(leaves && (read >= 100 || stop.get())); ) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) {
                    membersRead.add(Integer.parseInt(r.value()));
                    read++;
                }
            }
        }
    }

    static List<List<ConsumerRecord<String, String>>> read(KafkaConsumer<String, String> consumer, String name) {
        List<List<ConsumerRecord<String, String>>> found = new ArrayList<>();
        for (int n = 0; n < PARTITIONS; n++) {
            TopicPartition part = new TopicPartition(name, n);
            List<ConsumerRecord<String, String>> some = new ArrayList<>();
            consumer.assign(List.of(part));
            consumer.seek(part, 0);
            long last = consumer.endOffsets(List.of(part)).get(part), end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (consumer.position(part) < last) {
                check(System.nanoTime() < end, part + " is not read to its end");
                some.addAll(consumer.poll(Duration.ofMillis(100)).records(part));
            }
            found.add(some);
        }
        return found;
    }

    static List<Integer> values(List<List<ConsumerRecord<String, String>>> found) {
        return found.stream().flatMap(List::stream).map(r -> Integer.parseInt(r.value())).sorted().toList();
    }

    static ConsumerRecord<String, String> firstFrom(KafkaConsumer<String, String> consumer, TopicPartition part, long offset) {
        consumer.assign(List.of(part));
        consumer.seek(part, offset);
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); ; ) {
            check(System.nanoTime() < end, "nothing comes from " + offset);
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) return r;
        }
    }

    static void replay(KafkaConsumer<String, String> consumer, List<ConsumerRecord<String, String>> some) {
        ConsumerRecord<String, String> middle = some.get(some.size() / 2);
        TopicPartition part = new TopicPartition(topic, middle.partition());
        check(firstFrom(consumer, part, middle.offset()).value().equals(middle.value()), "another record is at its offset");
        long at = consumer.offsetsForTimes(Map.of(part, middle.timestamp())).get(part).offset();
        ConsumerRecord<String, String> first = some.stream().filter(r -> r.timestamp() >= middle.timestamp()).findFirst().orElseThrow();
        check(at == first.offset() && firstFrom(consumer, part, at).value().equals(first.value()), "another record is at its time");
    }

    public static void main(String[] args) throws Exception {
        servers = args[0];
        protocol = args[1];
        topic = "outlive-java-" + protocol;
        txTopic = topic + "-tx";
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", servers))) {
            admin.createTopics(Stream.of(topic, txTopic).map(name -> new NewTopic(name, PARTITIONS, (short) 3)).toList()).all().get(30, TimeUnit.SECONDS);
        }
        List<Thread> work = List.of(guarded(Outlive::write), guarded(Outlive::transact));
        List<Thread> readers = List.of(guarded(() -> consume(false)), guarded(() -> {
            while (!stop.get()) consume(true);
        }));
        until("it does not get to work", () -> written.get() > 100 && transactions.get() > 5 && membersRead.size() > 50);
        System.out.println("go");
        System.in.read();
        int then = written.get(), thenTransactions = transactions.get();
        until("it does not go on", () -> written.get() > then + 5 && transactions.get() > thenTransactions + 5);
        stop.set(true);
        for (Thread thread : work) thread.join(120_000);
        check(failed.isEmpty(), "" + failed);
        check(acknowledged.size() == written.get(), "acknowledged are " + acknowledged.size() + " of " + written);
        until("the group does not read everything", () -> membersRead.containsAll(acknowledged));
        enough.set(true);
        for (Thread thread : readers) thread.join(60_000);
        check(failed.isEmpty(), "" + failed);
        try (KafkaConsumer<String, String> consumer = consumer(Map.of("isolation.level", "read_committed", "enable.auto.commit", "false"))) {
            List<List<ConsumerRecord<String, String>>> found = read(consumer, topic);
            check(values(found).equals(acknowledged.stream().sorted().toList()), "what is there is not what was acknowledged, once each");
            replay(consumer, found.stream().max(Comparator.comparingInt(List::size)).orElseThrow());
            List<Integer> there = values(read(consumer, txTopic));
            check(there.equals(committed.stream().sorted().toList()), "there are " + there.size() + " of transactions, committed were " + committed.size());
        }
        System.err.println("java: " + written + " records, " + committed.size() / EACH + " of " + transactions + " transactions committed");
    }
}
