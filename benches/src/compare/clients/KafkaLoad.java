// Load by Apache Kafka's own client.

import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

public class KafkaLoad extends Load {
    private final Properties settings = new Properties();
    private KafkaProducer<byte[], byte[]> producer;

    KafkaLoad(String[] given) throws Exception {
        super(given);
        settings.put("bootstrap.servers", args.get("at"));
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        settings.put("acks", "all");
        if (args.containsKey("linger-ms")) settings.put("linger.ms", args.get("linger-ms"));
    }

    public static void main(String[] given) throws Exception {
        new KafkaLoad(given).run();
    }

    @Override
    void connect() {
        producer = new KafkaProducer<>(settings);
        producer.partitionsFor(topic);
    }

    @Override
    void send(int partition, byte[] value, Done done) {
        producer.send(new ProducerRecord<>(topic, partition, null, value), (acked, error) -> done.with(error));
    }

    @Override
    void read(Runnable ready) {
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
            ready.run();
            while (!over) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) received(record.value());
            }
        }
    }

    @Override
    void close() {
        producer.close(LAST);
    }

    @Override
    String client() {
        return "kafka-clients " + AppInfoParser.getVersion();
    }

    @Override
    Map<String, Object> on() {
        Map<String, Object> on = new LinkedHashMap<>();
        ProducerConfig all = new ProducerConfig(settings);
        for (String name : List.of("acks", "enable.idempotence", "max.in.flight.requests.per.connection", "linger.ms", "batch.size",
                "buffer.memory", "compression.type")) {
            on.put(name, all.values().get(name));
        }
        return on;
    }
}
