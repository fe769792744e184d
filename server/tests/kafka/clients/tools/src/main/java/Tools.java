import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;
import java.util.stream.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Exit;

/** Kafka's own command line tools, as their scripts start them, one after the other. */
public class Tools {
    interface Main {
        void main(String[] args) throws Exception;
    }

    /** Ends a tool in the place of the process. Tools that catch everything end once more: what they said first counts. */
    static class Exited extends RuntimeException {
        Exited(int status) {
            super("exited with " + status, null, false, false);
        }
    }

    static Integer status;

    static final PrintStream OUT = System.out;
    static String servers;

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    /** Runs a tool to its end; what it has said. */
    static String tool(String input, Main main, String... args) throws Exception {
        OUT.println("> " + String.join(" ", args));
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        InputStream in = System.in;
        PrintStream err = System.err;
        status = null;
        try (PrintStream to = new PrintStream(said, true)) {
            System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
            System.setOut(to);
            System.setErr(to);
            main.main(args);
        } catch (Exited e) {
            // It has said why.
        } finally {
            System.setIn(in);
            System.setOut(OUT);
            System.setErr(err);
        }
        String all = said.toString(StandardCharsets.UTF_8);
        OUT.println(all);
        check((status == null || status == 0) != fails, "it ends with " + status);
        return all;
    }

    /** Whether the next tool is to fail. */
    static boolean fails;

    static String failing(Main main, String... args) throws Exception {
        fails = true;
        try {
            return tool(main, args);
        } finally {
            fails = false;
        }
    }

    static String tool(Main main, String... args) throws Exception {
        return tool("", main, Stream.concat(Stream.of("--bootstrap-server", servers), Stream.of(args)).toArray(String[]::new));
    }

    static void has(String all, String... parts) {
        for (String part : parts) check(all.contains(part), "`" + part + "` is missing in: " + all);
    }

    static void matches(String all, String pattern) {
        check(Pattern.compile(pattern, Pattern.MULTILINE).matcher(all).find(), "`" + pattern + "` is missing in: " + all);
    }

    static String file(String name, String text) throws Exception {
        Path at = Files.createTempFile(name, ".json");
        at.toFile().deleteOnExit();
        return Files.writeString(at, text).toString();
    }

    public static void main(String[] args) throws Exception {
        servers = args[0];
        int brokers = Integer.parseInt(args[1]);
        Exit.Procedure leave = (code, message) -> {
            if (status == null) status = code;
            throw new Exited(code);
        };
        Exit.setExitProcedure(leave);
        Exit.setHaltProcedure(leave);
        topics(brokers);
        records();
        groups();
        settings();
        users();
        transactions();
        acls();
        brokers(brokers);
        if (brokers > 2) moves(brokers);
        Main topics = org.apache.kafka.tools.TopicCommand::main;
        tool(topics, "--delete", "--topic", "tools");
        check(!tool(topics, "--list").contains("tools"), "it is gone");
        OUT.println("all is well");
    }

    static void topics(int brokers) throws Exception {
        Main topics = org.apache.kafka.tools.TopicCommand::main;
        String replicas = String.valueOf(Math.min(brokers, 3));
        // As scripts have it: what holds here anyway is taken.
        String[] kept = {"--config", "min.insync.replicas=" + (brokers > 2 ? 2 : 1), "--config", "unclean.leader.election.enable=false", "--config", "flush.messages=1000", "--config", "compression.type=producer"};
        tool(topics, with(new String[] {"--create", "--topic", "tools", "--partitions", "3", "--replication-factor", replicas, "--config", "retention.ms=3600000"}, kept));
        tool(topics, "--create", "--topic", "tools", "--if-not-exists");
        has(tool(topics, "--list"), "tools");
        has(tool(topics, "--describe", "--topic", "tools"), "PartitionCount: 3", "ReplicationFactor: " + replicas, "retention.ms=3600000");
        tool(topics, "--alter", "--topic", "tools", "--partitions", "4");
        has(tool(topics, "--describe", "--topic", "tools"), "PartitionCount: 4", "Partition: 3");
        String all = tool(topics, "--describe");
        has(all, "Topic: tools", "Topic: __consumer_offsets");
        check(!tool(topics, "--describe", "--unavailable-partitions").contains("Partition:"), "all are led");
    }

    static void records() throws Exception {
        String lines = IntStream.range(0, 100).mapToObj(n -> "key-" + n + ":value " + n + "\n").collect(Collectors.joining());
        tool(lines, org.apache.kafka.tools.ConsoleProducer::main, "--bootstrap-server", servers, "--topic", "tools", "--property", "parse.key=true", "--property", "key.separator=:");
        String read = tool(org.apache.kafka.tools.consumer.ConsoleConsumer::main, "--topic", "tools", "--group", "tools-group", "--from-beginning", "--max-messages", "100", "--timeout-ms", "30000", "--property", "print.key=true");
        has(read, "key-0\tvalue 0", "key-99\tvalue 99", "Processed a total of 100 messages");
        String offsets = tool(org.apache.kafka.tools.GetOffsetShell::main, "--topic", "tools");
        check(offsets.lines().filter(line -> line.startsWith("tools:")).mapToInt(line -> Integer.parseInt(line.split(":")[2])).sum() == 100, offsets);
        has(tool(org.apache.kafka.tools.GetOffsetShell::main, "--topic", "tools", "--time", "earliest"), "tools:0:0");
        tool("", org.apache.kafka.tools.ProducerPerformance::main, "--topic", "many", "--num-records", "20000", "--record-size", "1000", "--throughput", "-1", "--producer-props", "bootstrap.servers=" + servers, "compression.type=lz4");
        matches(tool(org.apache.kafka.tools.ConsumerPerformance::main, "--topic", "many", "--messages", "20000", "--timeout", "30000"), ", 20000, ");
    }

    static void groups() throws Exception {
        Main groups = org.apache.kafka.tools.consumer.group.ConsumerGroupCommand::main;
        has(tool(groups, "--list"), "tools-group");
        matches(tool(groups, "--list", "--state"), "tools-group +Classic +Empty|tools-group +Empty");
        has(tool(org.apache.kafka.tools.GroupsCommand::main, "--list"), "tools-group");
        String described = tool(groups, "--describe", "--group", "tools-group");
        check(lag(described) == 0, described);
        tool(groups, "--reset-offsets", "--group", "tools-group", "--topic", "tools", "--to-earliest", "--execute");
        described = tool(groups, "--describe", "--group", "tools-group");
        check(lag(described) == 100, described);
        matches(tool(groups, "--describe", "--group", "tools-group", "--state"), "tools-group .*Empty");
        tool(groups, "--delete-offsets", "--group", "tools-group", "--topic", "tools:3");
        has(tool(groups, "--delete", "--group", "tools-group"), "successful");
        check(!tool(groups, "--list").contains("tools-group"), "it is gone");
    }

    /** The sum of what the members of a group have not read yet: the sixth column. */
    static long lag(String described) {
        return described.lines().filter(line -> line.startsWith("tools-group")).mapToLong(line -> Long.parseLong(line.split(" +")[5])).sum();
    }

    static void settings() throws Exception {
        Main settings = kafka.admin.ConfigCommand::main;
        String[] topic = {"--entity-type", "topics", "--entity-name", "tools"};
        tool(settings, with(topic, "--alter", "--add-config", "max.message.bytes=65536"));
        has(tool(settings, with(topic, "--describe")), "max.message.bytes=65536", "retention.ms=3600000");
        tool(settings, with(topic, "--alter", "--delete-config", "max.message.bytes"));
        check(!tool(settings, with(topic, "--describe")).contains("max.message.bytes"), "it has its default");
        has(tool(settings, with(topic, "--describe", "--all")), "max.message.bytes=", "segment.bytes=");
        tool(settings, "--entity-type", "brokers", "--entity-name", "1", "--describe");
        String[] client = {"--entity-type", "clients", "--entity-name", "loader"};
        tool(settings, with(client, "--alter", "--add-config", "producer_byte_rate=1048576,consumer_byte_rate=2097152"));
        has(tool(settings, with(client, "--describe")), "producer_byte_rate=1048576", "consumer_byte_rate=2097152");
        tool(settings, with(client, "--alter", "--delete-config", "producer_byte_rate"));
        check(!tool(settings, with(client, "--describe")).contains("producer_byte_rate"), "it is taken away");
        tool(settings, "--entity-type", "clients", "--entity-default", "--alter", "--add-config", "consumer_byte_rate=1000000000");
        has(tool(settings, "--entity-type", "clients", "--describe"), "loader", "consumer_byte_rate=1.0E9");
        tool(settings, "--entity-type", "clients", "--entity-default", "--alter", "--delete-config", "consumer_byte_rate");
    }

    /** Passwords for both mechanisms are kept, changed, told by their iterations, and forgotten one after the other. */
    static void users() throws Exception {
        Main settings = kafka.admin.ConfigCommand::main;
        String[] user = {"--entity-type", "users", "--entity-name", "reader"};
        tool(settings, with(user, "--alter", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=secret],SCRAM-SHA-512=[password=secret]"));
        has(tool(settings, with(user, "--describe")), "SCRAM-SHA-256=iterations=8192", "SCRAM-SHA-512=iterations=4096");
        tool(settings, with(user, "--alter", "--add-config", "SCRAM-SHA-256=[iterations=16384,password=another]"));
        tool(settings, with(user, "--alter", "--delete-config", "SCRAM-SHA-512"));
        String described = tool(settings, "--entity-type", "users", "--describe");
        has(described, "user-principal 'reader' are SCRAM-SHA-256=iterations=16384");
        check(!described.contains("SCRAM-SHA-512"), described);
        tool(settings, with(user, "--alter", "--delete-config", "SCRAM-SHA-256"));
        check(!tool(settings, "--entity-type", "users", "--describe").contains("reader"), "nothing is kept of him");
        // Quotas: of a user, of a client of his, of all users.
        String[] app = with(user, "--entity-type", "clients", "--entity-name", "app"), all = {"--entity-type", "users", "--entity-default"};
        tool(settings, with(user, "--alter", "--add-config", "producer_byte_rate=2048"));
        tool(settings, with(app, "--alter", "--add-config", "consumer_byte_rate=4096"));
        tool(settings, with(all, "--alter", "--add-config", "producer_byte_rate=8192,consumer_byte_rate=8192"));
        has(tool(settings, with(user, "--describe")), "user-principal 'reader' are producer_byte_rate=2048.0");
        has(tool(settings, with(app, "--describe")), "user-principal 'reader', client-id 'app' are consumer_byte_rate=4096.0");
        described = tool(settings, "--entity-type", "users", "--describe");
        has(described, "default user-principal are ", "user-principal 'reader' are producer_byte_rate=2048.0");
        tool(settings, with(user, "--alter", "--delete-config", "producer_byte_rate"));
        tool(settings, with(app, "--alter", "--delete-config", "consumer_byte_rate"));
        tool(settings, with(all, "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate"));
        described = tool(settings, "--entity-type", "users", "--describe");
        check(!described.contains("byte_rate"), described);
    }

    /** What is open is told, and not for the tool to end: nothing hangs. */
    static void transactions() throws Exception {
        Main transactions = org.apache.kafka.tools.TransactionsCommand::main;
        Properties p = new Properties();
        p.putAll(Map.of("bootstrap.servers", servers, "transactional.id", "tools-tx", "linger.ms", "0"));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            long at = producer.send(new ProducerRecord<>("tools", 2, "key", "open")).get().offset();
            matches(tool(transactions, "list"), "tools-tx.*Ongoing");
            matches(tool(transactions, "list", "--transactional-id-pattern", "tools-t."), "tools-tx.*Ongoing");
            check(!tool(transactions, "list", "--transactional-id-pattern", "tools").contains("tools-tx"), "whole names match");
            matches(tool(transactions, "describe", "--transactional-id", "tools-tx"), "tools-tx.*Ongoing.*tools-2");
            matches(tool(transactions, "describe-producers", "--topic", "tools", "--partition", "2"), "-1\\s+0\\s+\\d+\\s+" + at);
            check(!tool(transactions, "find-hanging", "--topic", "tools", "--max-transaction-timeout", "0").contains(String.valueOf(at) + "\t"), "it does not hang");
            has(failing(transactions, "abort", "--topic", "tools", "--partition", "2", "--start-offset", String.valueOf(at)), "Failed to abort transaction");
            producer.commitTransaction();
        }
        matches(tool(transactions, "describe", "--transactional-id", "tools-tx"), "tools-tx.*CompleteCommit");
        matches(tool(transactions, "describe-producers", "--topic", "tools", "--partition", "2"), "\\s1\\s+-?\\d+\\s+\\d+\\s+None");
        has(failing(transactions, "abort", "--topic", "tools", "--partition", "2", "--start-offset", "0"), "Could not find any open transactions");
    }

    /** Rules are added, listed by what they have to do with, and removed. */
    static void acls() throws Exception {
        Main acls = org.apache.kafka.tools.AclCommand::main;
        tool(acls, "--add", "--allow-principal", "User:reader", "--consumer", "--topic", "tools", "--group", "tools-group");
        tool(acls, "--add", "--allow-principal", "User:*", "--deny-principal", "User:stranger", "--deny-host", "10.0.0.1", "--operation", "Write", "--topic", "to", "--resource-pattern-type", "prefixed");
        tool(acls, "--add", "--allow-principal", "User:admin", "--operation", "Alter", "--cluster");
        String listed = tool(acls, "--list", "--topic", "tools", "--resource-pattern-type", "match");
        has(listed, "principal=User:reader, host=*, operation=READ, permissionType=ALLOW", "principal=User:stranger, host=10.0.0.1, operation=WRITE, permissionType=DENY", "patternType=PREFIXED");
        check(!listed.contains("User:admin"), listed);
        has(tool(acls, "--list"), "resourceType=GROUP, name=tools-group", "resourceType=CLUSTER, name=kafka-cluster");
        tool(acls, "--remove", "--force", "--topic", "tools");
        listed = tool(acls, "--list");
        check(!listed.contains("name=tools,"), listed);
        tool(acls, "--remove", "--force", "--topic", "to", "--resource-pattern-type", "prefixed");
        tool(acls, "--remove", "--force", "--group", "tools-group", "--cluster");
        check(!tool(acls, "--list").contains("resourceType="), "none is left");
    }

    static String[] with(String[] first, String... more) {
        return Stream.concat(Stream.of(first), Stream.of(more)).toArray(String[]::new);
    }

    static void brokers(int brokers) throws Exception {
        has(tool("", org.apache.kafka.tools.ClusterTool::main, "cluster-id", "--bootstrap-server", servers), "Cluster ID: ");
        String versions = tool(org.apache.kafka.tools.BrokerApiVersionsCommand::main);
        check(versions.lines().filter(line -> line.contains("Produce(0): 0 to 13")).count() == brokers, versions);
        String gone = file("gone", "{\"version\": 1, \"partitions\": [{\"topic\": \"tools\", \"partition\": 1, \"offset\": 5}]}");
        has(tool(org.apache.kafka.tools.DeleteRecordsCommand::main, "--offset-json-file", gone), "low_watermark: 5");
        String dirs = tool(org.apache.kafka.tools.LogDirsCommand::main, "--describe", "--topic-list", "many");
        check(Pattern.compile("\"partition\":\"many-0\",\"size\":[1-9]").matcher(dirs).results().count() == Math.min(brokers, 3), dirs);
        String elected = tool(org.apache.kafka.tools.LeaderElectionCommand::main, "--election-type", "preferred", "--all-topic-partitions");
        check(!elected.contains("Error"), elected);
        has(tool(org.apache.kafka.tools.LeaderElectionCommand::main, "--election-type", "preferred", "--topic", "tools", "--partition", "0"), "tools-0");
    }

    /** A partition goes from two brokers to two others, and back to one. */
    static void moves(int brokers) throws Exception {
        Main topics = org.apache.kafka.tools.TopicCommand::main;
        Main moves = org.apache.kafka.tools.reassign.ReassignPartitionsCommand::main;
        tool(topics, "--create", "--topic", "moved", "--partitions", "1", "--replication-factor", "2");
        String described = tool(topics, "--describe", "--topic", "moved");
        Matcher found = Pattern.compile("Replicas: ([0-9]),([0-9])").matcher(described);
        check(found.find(), described);
        List<Integer> before = List.of(Integer.parseInt(found.group(1)), Integer.parseInt(found.group(2)));
        int free = IntStream.rangeClosed(1, brokers).filter(broker -> !before.contains(broker)).findFirst().getAsInt();
        String proposed = tool(moves, "--generate", "--topics-to-move-json-file", file("topics", "{\"version\": 1, \"topics\": [{\"topic\": \"moved\"}]}"), "--broker-list", "1,2,3");
        has(proposed, "Proposed partition reassignment configuration");
        move(moves, List.of(free, before.get(0)));
        matches(tool(topics, "--describe", "--topic", "moved"), "Leader: " + free + "\tReplicas: " + free + "," + before.get(0));
        move(moves, List.of(free));
        has(tool(topics, "--describe", "--topic", "moved"), "ReplicationFactor: 1");
        has(tool(moves, "--list"), "No partition reassignments found.");
    }

    static void move(Main moves, List<Integer> to) throws Exception {
        String wanted = file("moves", "{\"version\": 1, \"partitions\": [{\"topic\": \"moved\", \"partition\": 0, \"replicas\": " + to + "}]}");
        has(tool(moves, "--execute", "--reassignment-json-file", wanted), "Successfully started partition reassignment");
        long end = System.nanoTime() + 60_000_000_000L;
        while (!tool(moves, "--verify", "--reassignment-json-file", wanted).contains("is completed")) {
            check(System.nanoTime() < end, "it does not end");
            Thread.sleep(200);
        }
        tool(org.apache.kafka.tools.LeaderElectionCommand::main, "--election-type", "preferred", "--topic", "moved", "--partition", "0");
    }
}
