import java.io.FileReader;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

/** A user who may do everything gives rights to another one and takes them back; what that one may not do, she is told as Kafka tells it. */
public class Rights {
    interface Step {
        void run() throws Exception;
    }

    static Properties properties(String servers, String file) throws Exception {
        Properties p = new Properties();
        p.load(new FileReader(file));
        p.putAll(Map.of("bootstrap.servers", servers, "auto.offset.reset", "earliest", "max.block.ms", "30000", "default.api.timeout.ms", "30000"));
        return p;
    }

    static void refused(Class<? extends Exception> as, Step step) throws Exception {
        try {
            step.run();
        } catch (Exception e) {
            Throwable why = e instanceof ExecutionException ? e.getCause() : e;
            if (as.isInstance(why)) return;
            throw e;
        }
        throw new IllegalStateException("it was done, and should end as " + as.getSimpleName());
    }

    static AclBinding rule(ResourceType type, String name, PatternType pattern, AclOperation operation, AclPermissionType permission) {
        return new AclBinding(new ResourcePattern(type, name, pattern), new AccessControlEntry("User:alice", "*", operation, permission));
    }

    /** What is changed at one node is heard of at the others soon. */
    static void soon(Step step) throws Exception {
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); ; Thread.sleep(50)) {
            try {
                step.run();
                return;
            } catch (Exception e) {
                if (System.nanoTime() > end) throw e;
            }
        }
    }

    static double throttled(Producer<?, ?> producer) {
        return producer.metrics().entrySet().stream().filter(m -> m.getKey().name().equals("produce-throttle-time-max"))
            .mapToDouble(m -> (double) m.getValue().metricValue()).filter(value -> value > 0).sum();
    }

    static Set<String> read(Properties p, String group, String topic, int count) {
        Properties ours = new Properties();
        ours.putAll(p);
        ours.put("group.id", group);
        Set<String> read = new TreeSet<>();
        try (Consumer<String, String> consumer = new KafkaConsumer<>(ours, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30); read.size() < count; ) {
                if (System.nanoTime() > end) throw new IllegalStateException("read " + read);
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) read.add(r.value());
            }
        }
        return read;
    }

    public static void main(String[] args) throws Exception {
        Properties root = properties(args[0], args[1]), alice = properties(args[0], args[2]);
        StringSerializer s = new StringSerializer();
        try (Admin all = Admin.create(root); Admin hers = Admin.create(alice); Producer<String, String> writer = new KafkaProducer<>(alice, s, s)) {
            all.createTopics(List.of(new NewTopic("granted", Optional.of(3), Optional.empty()), new NewTopic("secret", Optional.of(3), Optional.empty())))
                .all().get(30, TimeUnit.SECONDS);
            refused(TopicAuthorizationException.class, () -> writer.send(new ProducerRecord<>("granted", "too early")).get());
            all.createAcls(List.of(
                rule(ResourceType.TOPIC, "gran", PatternType.PREFIXED, AclOperation.WRITE, AclPermissionType.ALLOW),
                rule(ResourceType.TOPIC, "gran", PatternType.PREFIXED, AclOperation.READ, AclPermissionType.ALLOW),
                rule(ResourceType.GROUP, "readers", PatternType.LITERAL, AclOperation.READ, AclPermissionType.ALLOW))).all().get(30, TimeUnit.SECONDS);
            soon(() -> writer.send(new ProducerRecord<>("granted", "key", "written")).get());
            refused(TopicAuthorizationException.class, () -> writer.send(new ProducerRecord<>("secret", "may not be")).get());
            soon(() -> {
                if (!read(alice, "readers", "granted", 1).equals(Set.of("written"))) throw new IllegalStateException("something else is read");
            });
            soon(() -> refused(GroupAuthorizationException.class, () -> read(alice, "others", "granted", 1)));
            refused(TopicAuthorizationException.class, () -> read(alice, "readers", "secret", 1));
            soon(() -> {
                if (!hers.listTopics().names().get().equals(Set.of("granted"))) throw new IllegalStateException("she sees others' topics");
            });
            refused(TopicAuthorizationException.class, () -> hers.createTopics(List.of(new NewTopic("hers", 1, (short) 1))).all().get());
            refused(TopicAuthorizationException.class, () -> hers.deleteTopics(List.of("granted")).all().get());
            refused(ClusterAuthorizationException.class, () -> hers.describeAcls(AclBindingFilter.ANY).values().get());
            refused(ClusterAuthorizationException.class,
                () -> hers.createAcls(List.of(rule(ResourceType.TOPIC, "secret", PatternType.LITERAL, AclOperation.READ, AclPermissionType.ALLOW))).all().get());
            Properties tx = new Properties();
            tx.putAll(alice);
            tx.put("transactional.id", "hers");
            try (Producer<String, String> producer = new KafkaProducer<>(tx, s, s)) {
                refused(TransactionalIdAuthorizationException.class, producer::initTransactions);
            }
            // Her quota is hers, whatever her clients call themselves.
            all.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, "alice")),
                List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 5000.0))))).all().get();
            try (Producer<String, String> others = new KafkaProducer<>(root, s, s)) {
                soon(() -> {
                    for (Producer<String, String> each : List.of(writer, others)) each.send(new ProducerRecord<>("granted", 0, "key", "x".repeat(8000))).get();
                    if (throttled(writer) == 0) throw new IllegalStateException("she is not throttled");
                });
                if (throttled(others) != 0) throw new IllegalStateException("somebody else is throttled");
            }
            // What is taken back, and what is forbidden beside what lets, holds at once for who is connected.
            all.createAcls(List.of(rule(ResourceType.TOPIC, "granted", PatternType.LITERAL, AclOperation.WRITE, AclPermissionType.DENY))).all().get();
            soon(() -> refused(TopicAuthorizationException.class, () -> writer.send(new ProducerRecord<>("granted", "forbidden")).get()));
            if (all.deleteAcls(List.of(AclBindingFilter.ANY)).all().get().size() != 4) throw new IllegalStateException("there were four rules");
            soon(() -> refused(AuthorizationException.class, () -> read(alice, "readers", "granted", 1)));
        }
    }
}
