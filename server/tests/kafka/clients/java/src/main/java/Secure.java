import java.io.FileReader;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

/** Apache Kafka's own client with the settings of a file, over TLS or with a user's name, say: it makes a topic, writes, and reads in a group. */
public class Secure {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.load(new FileReader(args[1]));
        String topic = args[2];
        p.putAll(Map.of("bootstrap.servers", args[0], "group.id", topic + "-java", "auto.offset.reset", "earliest"));
        try (Admin admin = Admin.create(p)) {
            admin.createTopics(List.of(new NewTopic(topic, Optional.of(6), Optional.empty()))).all().get(60, TimeUnit.SECONDS);
        }
        try (Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < 1000; n++) sent.add(producer.send(new ProducerRecord<>(topic, "key-" + n, "value-" + n)));
            for (var one : sent) one.get(60, TimeUnit.SECONDS);
        }
        Set<String> read = new HashSet<>();
        try (Consumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60); read.size() < 1000; ) {
                if (System.nanoTime() > end) throw new IllegalStateException("read " + read.size() + " of 1000");
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100)))
                    if (!read.add(r.value())) throw new IllegalStateException(r.value() + " came twice");
            }
        }
    }
}
