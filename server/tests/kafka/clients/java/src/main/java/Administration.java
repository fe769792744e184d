import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.StringSerializer;

/** What operators do with Apache Kafka's own client: settings, more partitions, fewer records, and which brokers there are. */
public class Administration {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void refused(KafkaFuture<Void> done, Class<? extends ApiException> why) throws Exception {
        try {
            done.get();
        } catch (ExecutionException e) {
            check(why.isInstance(e.getCause()), e.getCause().toString());
            return;
        }
        throw new AssertionError("it is not refused, as " + why);
    }

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(p); Producer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            DescribeClusterResult cluster = admin.describeCluster();
            check(cluster.nodes().get().size() == Integer.parseInt(args[1]), cluster.nodes().get().toString());
            check(!cluster.clusterId().get().isEmpty() && cluster.controller().get() != null, "it has an id and a controller");
            NewTopic topic = new NewTopic("administered", 2, (short) 1).configs(Map.of("retention.ms", "3600000"));
            check(admin.createTopics(List.of(new NewTopic("dry", 3, (short) 1)), new CreateTopicsOptions().validateOnly(true)).numPartitions("dry").get() == 3, "a dry run says what would be");
            check(!admin.listTopics().names().get().contains("dry"), "and makes nothing");
            CreateTopicsResult made = admin.createTopics(List.of(topic));
            made.all().get();
            Uuid id = made.topicId("administered").get();
            check(!id.equals(Uuid.ZERO_UUID) && id.equals(admin.describeTopics(List.of("administered")).allTopicNames().get().get("administered").topicId()), "it has the id " + id);
            check(made.numPartitions("administered").get() == 2 && made.replicationFactor("administered").get() == 1, "as it was asked for");
            Config told = made.config("administered").get();
            check(told.get("retention.ms").value().equals("3600000") && !told.get("retention.ms").isDefault() && told.get("segment.bytes").isDefault(), told.toString());
            refused(admin.createTopics(List.of(topic)).all(), TopicExistsException.class);

            ConfigResource at = new ConfigResource(ConfigResource.Type.TOPIC, "administered");
            Config is = admin.describeConfigs(List.of(at), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get().get(at);
            check(is.get("retention.ms").value().equals("3600000") && !is.get("retention.ms").isDefault(), is.toString());
            check(is.get("segment.bytes").isDefault() && is.get("segment.bytes").documentation() != null, is.toString());
            check(is.get("retention.ms").synonyms().size() == 2, is.get("retention.ms").synonyms().toString());
            alter(admin, at, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND).get();
            alter(admin, at, "retention.ms", "", AlterConfigOp.OpType.DELETE).get();
            alter(admin, at, "max.message.bytes", "65536", AlterConfigOp.OpType.SET).get();
            is = admin.describeConfigs(List.of(at)).all().get().get(at);
            check(is.get("cleanup.policy").value().contains("compact") && is.get("cleanup.policy").value().contains("delete"), is.toString());
            check(is.get("retention.ms").isDefault() && is.get("max.message.bytes").value().equals("65536"), is.toString());
            alter(admin, at, "cleanup.policy", "compact", AlterConfigOp.OpType.SUBTRACT).get();
            check(admin.describeConfigs(List.of(at)).all().get().get(at).get("cleanup.policy").value().equals("delete"), "it is taken away again");
            refused(alter(admin, at, "no.such.setting", "1", AlterConfigOp.OpType.SET), InvalidConfigurationException.class);
            refused(alter(admin, at, "max.message.bytes", "many", AlterConfigOp.OpType.SET), InvalidConfigurationException.class);
            refused(alter(admin, new ConfigResource(ConfigResource.Type.TOPIC, "nowhere"), "retention.ms", "1", AlterConfigOp.OpType.SET), UnknownTopicOrPartitionException.class);

            admin.createPartitions(Map.of("administered", NewPartitions.increaseTo(5)), new CreatePartitionsOptions().validateOnly(true)).all().get();
            admin.createPartitions(Map.of("administered", NewPartitions.increaseTo(4))).all().get();
            check(admin.describeTopics(List.of("administered")).allTopicNames().get().get("administered").partitions().size() == 4, "it has four");
            refused(admin.createPartitions(Map.of("administered", NewPartitions.increaseTo(3))).all(), InvalidPartitionsException.class);
            DescribeTopicsOptions paged = new DescribeTopicsOptions().partitionSizeLimitPerResponse(3);
            Map<String, TopicDescription> pages = admin.describeTopics(List.of("administered", "__consumer_offsets"), paged).allTopicNames().get();
            check(pages.get("administered").partitions().size() == 4 && pages.get("__consumer_offsets").isInternal(), "page by page: " + pages);
            check(!pages.get("administered").topicId().equals(Uuid.ZERO_UUID), "it has an id");
            Collection<ConfigResource> resources = admin.listConfigResources().all().get();
            check(resources.contains(at) && resources.contains(new ConfigResource(ConfigResource.Type.BROKER, "1")), resources.toString());
            resources = admin.listConfigResources(Set.of(ConfigResource.Type.BROKER), new ListConfigResourcesOptions()).all().get();
            check(resources.size() == Integer.parseInt(args[1]), resources.toString());

            Uuid instance = producer.clientInstanceId(Duration.ofSeconds(30));
            check(!instance.equals(Uuid.ZERO_UUID) && instance.equals(producer.clientInstanceId(Duration.ofSeconds(30))), "it has an id of its own");

            for (int n = 0; n < 20; n++) producer.send(new ProducerRecord<>("administered", 0, null, "" + n)).get();
            TopicPartition first = new TopicPartition("administered", 0);
            check(admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(7))).lowWatermarks().get(first).get().lowWatermark() == 7, "seven go");
            check(admin.listOffsets(Map.of(first, OffsetSpec.earliest())).partitionResult(first).get().offset() == 7, "and the eighth is first");
            check(admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(first).get().lowWatermark() == 20, "all go");
            admin.deleteTopics(List.of("administered")).all().get();
            refused(admin.deleteTopics(List.of("administered")).all(), UnknownTopicOrPartitionException.class);
        }
    }

    static KafkaFuture<Void> alter(Admin admin, ConfigResource at, String name, String value, AlterConfigOp.OpType how) {
        return admin.incrementalAlterConfigs(Map.of(at, List.of(new AlterConfigOp(new ConfigEntry(name, value), how)))).all();
    }
}
