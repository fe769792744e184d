import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.*;

/**
 * Transactions of Apache Kafka's own client, which takes their second protocol (KIP-890) where the server has it: what readers see of them, who fences whom,
 * offsets that are committed in them, in both sorts of groups, the end of those that take too long, what operators see and do, and many small ones.
 */
public class Transactions {
    static final int PARTITIONS = 3;
    static final String COMMITTED = "read_committed", UNCOMMITTED = "read_uncommitted";
    static String server, tag;
    static short replicas;
    static Admin admin;

    static Producer<String, String> producer(String id, String... more) {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", server, "transactional.id", id, "linger.ms", "0"));
        for (int n = 0; n < more.length; n += 2) p.put(more[n], more[n + 1]);
        Producer<String, String> made = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
        made.initTransactions();
        return made;
    }

    static Consumer<String, String> consumer(String isolation, String... more) {
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", server, "isolation.level", isolation, "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        for (int n = 0; n < more.length; n += 2) p.put(more[n], more[n + 1]);
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    static String topic(String name, int partitions) throws Exception {
        String topic = tag + "-" + name;
        admin.createTopics(List.of(new NewTopic(topic, partitions, replicas))).all().get();
        return topic;
    }

    static TopicPartition part(String topic, int number) {
        return new TopicPartition(topic, number);
    }

    static List<TopicPartition> parts(String topic, int partitions) {
        return IntStream.range(0, partitions).mapToObj(n -> part(topic, n)).collect(Collectors.toList());
    }

    static void check(boolean holds, Object what) {
        if (!holds) throw new AssertionError(what);
    }

    static void same(Object is, Object wanted) {
        check(is.equals(wanted), is + ", and not " + wanted);
    }

    static void until(String what, int seconds, Callable<Boolean> done) throws Exception {
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds); !done.call(); Thread.sleep(20)) check(System.nanoTime() < end, what);
    }

    /** What it throws, or what that was caused by. */
    static Throwable failed(Callable<?> what) {
        try {
            what.call();
        } catch (ExecutionException e) {
            return e.getCause();
        } catch (Exception e) {
            return e;
        }
        throw new AssertionError("it does not fail");
    }

    static Callable<?> call(Runnable what) {
        return Executors.callable(what);
    }

    static boolean isFenced(Throwable e) {
        for (; e != null; e = e.getCause()) if (e instanceof ProducerFencedException || e instanceof InvalidProducerEpochException) return true;
        return false;
    }

    static void send(Producer<String, String> p, TopicPartition to, String... values) {
        for (String value : values) p.send(new ProducerRecord<>(to.topic(), to.partition(), null, value));
    }

    static Map<TopicPartition, Long> ends(String isolation, Collection<TopicPartition> parts) {
        try (Consumer<String, String> c = consumer(isolation)) {
            return c.endOffsets(parts);
        }
    }

    static long end(String isolation, TopicPartition part) {
        return ends(isolation, List.of(part)).get(part);
    }

    /** Waits until no transaction is open: a commit is answered before all partitions have its marker. */
    static void settle(Collection<TopicPartition> parts) throws Exception {
        until("a transaction stays open in " + parts, 30, () -> ends(COMMITTED, parts).equals(ends(UNCOMMITTED, parts)));
    }

    /** All that this reader sees in each partition. It comes to the end, past whatever it does not see. */
    static List<List<String>> read(String isolation, Collection<TopicPartition> parts) throws Exception {
        List<List<String>> all = parts.stream().map(p -> new ArrayList<String>()).collect(Collectors.toList());
        try (Consumer<String, String> c = consumer(isolation)) {
            c.assign(parts);
            c.seekToBeginning(parts);
            Map<TopicPartition, Long> ends = c.endOffsets(parts);
            until("the end is not reached: " + ends, 30, () -> {
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50))) all.get(r.partition()).add(r.value());
                return parts.stream().allMatch(p -> c.position(p) >= ends.get(p));
            });
        }
        return all;
    }

    static List<String> poll(Consumer<String, String> c, int count, int millis) {
        List<String> all = new ArrayList<>();
        for (long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis); all.size() < count && System.nanoTime() < end; )
            for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50))) all.add(r.value());
        return all;
    }

    static void visibility() throws Exception {
        String topic = topic("visible", PARTITIONS);
        List<TopicPartition> parts = parts(topic, PARTITIONS);
        List<List<String>> committed = new ArrayList<>(), sent = new ArrayList<>();
        for (int n = 0; n < PARTITIONS; n++) {
            committed.add(new ArrayList<>());
            sent.add(new ArrayList<>());
        }
        try (Producer<String, String> p = producer(tag + "-visible"); Producer<String, String> other = producer(tag + "-other")) {
            for (int round = 0; round < 3; round++) {
                p.beginTransaction();
                for (int n = 0; n < 30; n++) {
                    String value = round + "-" + n;
                    send(p, parts.get(n % PARTITIONS), value);
                    sent.get(n % PARTITIONS).add(value);
                    if (round != 1) committed.get(n % PARTITIONS).add(value);
                }
                if (round == 1) {
                    // What is not sent yet is dropped by an abort.
                    p.flush();
                    p.abortTransaction();
                } else {
                    p.commitTransaction();
                }
            }
            settle(parts);
            same(read(COMMITTED, parts), committed);
            same(read(UNCOMMITTED, parts), sent);
            // A marker has an offset, as a record has.
            for (TopicPartition part : parts) same(end(UNCOMMITTED, part), 33L);
            // An empty one is none.
            p.beginTransaction();
            p.commitTransaction();
            p.beginTransaction();
            p.abortTransaction();
            for (TopicPartition part : parts) same(end(UNCOMMITTED, part), 33L);

            // Nobody reads past an open one who reads what is committed.
            TopicPartition part = parts.get(0);
            p.beginTransaction();
            send(p, part, "open 1", "open 2");
            p.flush();
            other.beginTransaction();
            send(other, part, "later");
            other.commitTransaction();
            until("the later one has ended", 30, () -> end(UNCOMMITTED, part) == 37);
            same(end(COMMITTED, part), 33L);
            try (Consumer<String, String> c = consumer(COMMITTED); Consumer<String, String> hasty = consumer(UNCOMMITTED)) {
                for (Consumer<String, String> each : List.of(c, hasty)) {
                    each.assign(List.of(part));
                    each.seek(part, 33);
                }
                same(poll(c, 1, 1500), List.of());
                same(poll(hasty, 3, 30_000), List.of("open 1", "open 2", "later"));
                p.commitTransaction();
                same(poll(c, 3, 30_000), List.of("open 1", "open 2", "later"));
            }
            settle(parts);
            same(end(COMMITTED, part), 38L);
            same(read(COMMITTED, parts).get(0).size(), 23);
        }
    }

    static void fencing() throws Exception {
        String topic = topic("fenced", 1), id = tag + "-fenced";
        TopicPartition part = part(topic, 0);
        Producer<String, String> first = producer(id);
        first.beginTransaction();
        send(first, part, "first");
        first.commitTransaction();
        first.beginTransaction();
        send(first, part, "lost 1");
        first.flush();
        // The next one of that name ends what was open, and then the one before can do nothing more.
        Producer<String, String> second = producer(id);
        same(end(COMMITTED, part), end(UNCOMMITTED, part));
        Throwable e = failed(() -> first.send(new ProducerRecord<>(topic, 0, null, "lost 2")).get());
        check(isFenced(e), e);
        e = failed(call(first::commitTransaction));
        check(e instanceof KafkaException && isFenced(e), e);
        first.close(Duration.ZERO);
        second.beginTransaction();
        send(second, part, "second");
        second.commitTransaction();
        second.beginTransaction();
        send(second, part, "lost 3");
        second.flush();
        Producer<String, String> third = producer(id);
        e = failed(call(second::commitTransaction));
        check(isFenced(e), e);
        e = failed(call(second::beginTransaction));
        check(isFenced(e), e);
        second.close(Duration.ZERO);
        third.beginTransaction();
        send(third, part, "third");
        third.commitTransaction();
        third.close();
        settle(List.of(part));
        same(read(COMMITTED, List.of(part)).get(0), List.of("first", "second", "third"));
        same(read(UNCOMMITTED, List.of(part)).get(0), List.of("first", "lost 1", "second", "lost 3", "third"));
    }

    static Consumer<String, String> member(String group, String protocol, String topic) {
        Consumer<String, String> c = consumer(COMMITTED, "group.id", group, "group.protocol", protocol, "max.poll.records", "15");
        c.subscribe(List.of(topic));
        return c;
    }

    /** What is committed, once no transaction has more of it open. */
    static Map<TopicPartition, Long> committed(Consumer<String, String> c, Collection<TopicPartition> parts) {
        Map<TopicPartition, Long> all = new HashMap<>();
        c.committed(new HashSet<>(parts), Duration.ofSeconds(30)).forEach((part, at) -> {
            if (at != null) all.put(part, at.offset());
        });
        return all;
    }

    /** Takes records from one topic to the other until so many offsets are committed; every third transaction is aborted. */
    static void work(Consumer<String, String> c, Producer<String, String> p, List<TopicPartition> in, String out, Map<TopicPartition, Long> at, long upTo) throws Exception {
        String group = c.groupMetadata().groupId();
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        for (int turn = 0; at.values().stream().mapToLong(n -> n).sum() < upTo; ) {
            check(System.nanoTime() < end, at + " after " + turn + " turns");
            ConsumerRecords<String, String> some = c.poll(Duration.ofMillis(100));
            if (some.isEmpty()) continue;
            Map<TopicPartition, Long> then = new HashMap<>(at);
            Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
            p.beginTransaction();
            for (ConsumerRecord<String, String> r : some) {
                send(p, part(out, r.partition()), "did " + r.value());
                then.put(part(r.topic(), r.partition()), r.offset() + 1);
                next.put(part(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1, "turn " + turn));
            }
            p.sendOffsetsToTransaction(next, c.groupMetadata());
            if (turn == 1) {
                // It is not committed yet; who wants to know for certain has to wait.
                Map<TopicPartition, Long> kept = new HashMap<>();
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((part, o) -> kept.put(part, o.offset()));
                same(kept, at);
                Throwable e = failed(() -> c.committed(next.keySet(), Duration.ofSeconds(1)));
                check(e instanceof TimeoutException, e);
            }
            if (turn++ % 3 == 1) {
                p.flush();
                p.abortTransaction();
                same(committed(c, in), at);
                for (TopicPartition part : next.keySet()) {
                    if (at.containsKey(part)) c.seek(part, at.get(part));
                    else c.seekToBeginning(List.of(part));
                }
            } else {
                p.commitTransaction();
                at.putAll(then);
                same(committed(c, in), at);
            }
        }
    }

    static void offsets(String protocol) throws Exception {
        int each = 90;
        String in = topic("in-" + protocol, 2), out = topic("out-" + protocol, 2), group = tag + "-" + protocol;
        List<TopicPartition> parts = parts(in, 2), outs = parts(out, 2);
        List<String> wanted = new ArrayList<>();
        try (Producer<String, String> p = producer(tag + "-fill-" + protocol)) {
            for (boolean isKept : new boolean[] {false, true}) {
                p.beginTransaction();
                for (int n = 0; n < each; n++) for (TopicPartition part : parts) send(p, part, isKept ? "" + n : "never");
                p.flush();
                if (isKept) p.commitTransaction();
                else p.abortTransaction();
            }
        }
        for (int n = 0; n < each; n++) wanted.add("did " + n);
        settle(parts);
        // Those that are never seen, and their marker, come before.
        long last = 2 * each + 1;
        Map<TopicPartition, Long> at = new HashMap<>();
        Consumer<String, String> first = member(group, protocol, in);
        try (Producer<String, String> p = producer(tag + "-work-" + protocol)) {
            work(first, p, parts, out, at, last + each / 2);
            ConsumerGroupMetadata gone = first.groupMetadata();
            first.close();
            // Who has left the group commits nothing in it any more.
            p.beginTransaction();
            send(p, outs.get(0), "too late");
            Throwable e = failed(call(() -> p.sendOffsetsToTransaction(Map.of(parts.get(0), new OffsetAndMetadata(0)), gone)));
            check(e instanceof CommitFailedException, e);
            p.abortTransaction();
        }
        // Another one takes over.
        try (Consumer<String, String> c = member(group, protocol, in); Producer<String, String> p = producer(tag + "-work-" + protocol)) {
            same(committed(c, parts), at);
            work(c, p, parts, out, at, 2 * last);
            // Nothing is left for it but a marker.
            same(poll(c, 1, 500), List.of());
            same(at, Map.of(parts.get(0), last, parts.get(1), last));
        }
        settle(outs);
        same(read(COMMITTED, outs), List.of(wanted, wanted));
        check(read(UNCOMMITTED, outs).stream().mapToInt(List::size).sum() > 2 * each, "nothing was aborted");
    }

    static void timeout() throws Exception {
        TopicPartition part = part(topic("silent", 1), 0);
        Producer<String, String> p = producer(tag + "-silent", "transaction.timeout.ms", "3000");
        p.beginTransaction();
        send(p, part, "in time");
        p.commitTransaction();
        settle(List.of(part));
        p.beginTransaction();
        send(p, part, "for nobody");
        p.flush();
        same(end(COMMITTED, part), 2L);
        until("it is never aborted", 20, () -> end(COMMITTED, part) == 4);
        Throwable e = failed(() -> {
            p.send(new ProducerRecord<>(part.topic(), 0, null, "too late")).get();
            p.commitTransaction();
            return null;
        });
        check(isFenced(e), e);
        p.close(Duration.ZERO);
        // The next one of its name works.
        try (Producer<String, String> next = producer(tag + "-silent")) {
            next.beginTransaction();
            send(next, part, "again");
            next.commitTransaction();
        }
        settle(List.of(part));
        same(read(COMMITTED, List.of(part)).get(0), List.of("in time", "again"));
    }

    static TransactionDescription described(String id) throws Exception {
        return admin.describeTransactions(List.of(id)).description(id).get();
    }

    static List<ProducerState> writers(TopicPartition part) throws Exception {
        return admin.describeProducers(List.of(part)).partitionResult(part).get().activeProducers();
    }

    static Set<String> listed(ListTransactionsOptions options) throws Exception {
        return admin.listTransactions(options).all().get().stream().map(TransactionListing::transactionalId).filter(id -> id.startsWith(tag + "-admin")).collect(Collectors.toSet());
    }

    static void operators() throws Exception {
        String topic = topic("admin", 3), id = tag + "-admin", idle = tag + "-admin-idle";
        List<TopicPartition> two = parts(topic, 2);
        Throwable e = failed(() -> described(id));
        check(e instanceof TransactionalIdNotFoundException, e);
        Producer<String, String> p = producer(id, "transaction.timeout.ms", "55000");
        same(described(id).state(), TransactionState.EMPTY);
        producer(idle).close();
        p.beginTransaction();
        send(p, two.get(0), "one", "two");
        p.commitTransaction();
        settle(two);
        until("it is complete", 30, () -> described(id).state() == TransactionState.COMPLETE_COMMIT);
        same(described(id).topicPartitions(), Set.of());
        check(writers(two.get(0)).size() == 1 && writers(two.get(0)).get(0).currentTransactionStartOffset().isEmpty(), writers(two.get(0)));

        long before = System.currentTimeMillis();
        p.beginTransaction();
        for (TopicPartition part : two) send(p, part, "three", "four");
        p.flush();
        TransactionDescription d = described(id);
        same(d.state(), TransactionState.ONGOING);
        same(d.topicPartitions(), new HashSet<>(two));
        same(d.transactionTimeoutMs(), 55_000L);
        check(Math.abs(d.transactionStartTimeMs().getAsLong() - before) < 10_000, d);
        check(d.coordinatorId() >= 0, d);
        for (TopicPartition part : two) {
            // Each transaction has an epoch of its own, in which sequences begin anew.
            ProducerState w = writers(part).get(0);
            same(w.currentTransactionStartOffset(), OptionalLong.of(part.partition() == 0 ? 3 : 0));
            check(w.producerId() == d.producerId() && w.producerEpoch() == d.producerEpoch() && w.lastSequence() == 1, w + " of " + d);
        }
        same(writers(part(topic, 2)), List.of());
        same(listed(new ListTransactionsOptions()), Set.of(id, idle));
        same(listed(new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))), Set.of(id));
        same(listed(new ListTransactionsOptions().filterStates(Set.of(TransactionState.EMPTY))), Set.of(idle));
        same(listed(new ListTransactionsOptions().filterProducerIds(Set.of(d.producerId()))), Set.of(id));
        check(!listed(new ListTransactionsOptions().filterOnDuration(1_000_000)).contains(id), "it is not as old as that");
        // Whole ids, as brokers match them.
        same(listed(new ListTransactionsOptions().filterOnTransactionalIdPattern(tag + "-admin")), Set.of(id));
        same(listed(new ListTransactionsOptions().filterOnTransactionalIdPattern(".*-admin-i(dle|ll)")), Set.of(idle));
        e = failed(() -> listed(new ListTransactionsOptions().filterOnTransactionalIdPattern("(")));
        check(e instanceof InvalidRegularExpression, e);

        // Who is fenced loses what is open.
        FenceProducersResult fenced = admin.fenceProducers(List.of(id));
        fenced.all().get();
        check(fenced.producerId(id).get() == d.producerId() && fenced.epochId(id).get() > d.producerEpoch(), fenced.epochId(id).get() + " after " + d);
        settle(two);
        same(described(id).state(), TransactionState.EMPTY);
        check(writers(two.get(0)).get(0).currentTransactionStartOffset().isEmpty(), writers(two.get(0)));
        e = failed(() -> {
            p.send(new ProducerRecord<>(topic, 0, null, "five")).get();
            p.commitTransaction();
            return null;
        });
        check(isFenced(e), e);
        p.close(Duration.ZERO);
        same(read(COMMITTED, two), List.of(List.of("one", "two"), List.of()));
    }

    static void many() throws Exception {
        String topic = topic("many", PARTITIONS);
        List<TopicPartition> parts = parts(topic, PARTITIONS);
        Random dice = new Random(tag.hashCode());
        Map<String, List<String>> wanted = new TreeMap<>(), found = new TreeMap<>();
        int sent = 0;
        try (Producer<String, String> p = producer(tag + "-many")) {
            for (int n = 0; n < 500; n++) {
                boolean isKept = dice.nextInt(3) > 0;
                p.beginTransaction();
                for (int some = 1 + dice.nextInt(5); some > 0; some--) {
                    String key = "key-" + dice.nextInt(20), value = n + "-" + sent++;
                    p.send(new ProducerRecord<>(topic, key, value));
                    if (isKept) wanted.computeIfAbsent(key, k -> new ArrayList<>()).add(value);
                }
                if (isKept) p.commitTransaction();
                else {
                    p.flush();
                    p.abortTransaction();
                }
            }
        }
        settle(parts);
        try (Consumer<String, String> c = consumer(COMMITTED)) {
            c.assign(parts);
            c.seekToBeginning(parts);
            Map<TopicPartition, Long> ends = c.endOffsets(parts);
            until("the end is not reached: " + ends, 30, () -> {
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(50))) found.computeIfAbsent(r.key(), k -> new ArrayList<>()).add(r.value());
                return parts.stream().allMatch(part -> c.position(part) >= ends.get(part));
            });
        }
        same(found, wanted);
        same(read(UNCOMMITTED, parts).stream().mapToInt(List::size).sum(), sent);
    }

    public static void main(String[] args) throws Exception {
        server = args[0];
        tag = args[1];
        replicas = args.length > 2 ? Short.parseShort(args[2]) : 1;
        Properties p = new Properties();
        p.put("bootstrap.servers", server);
        admin = Admin.create(p);
        try (Admin closed = admin) {
            visibility();
            fencing();
            offsets("classic");
            offsets("consumer");
            timeout();
            operators();
            many();
        }
    }
}
