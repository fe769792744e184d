import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.file.*;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.connect.cli.ConnectDistributed;

/**
 * A worker of Kafka Connect, distributed, with its file connectors: lines of a file go to a topic, and from there to another file. Its settings, offsets and
 * states are in topics, so that the next worker goes on where this one has ended. With a pause in milliseconds behind each line it says "go" once lines come out.
 */
public class Connect {
    static final HttpClient HTTP = HttpClient.newHttpClient();

    public static void main(String[] args) throws Exception {
        String servers = args[0];
        Path dir = Path.of(args[1]);
        int from = Integer.parseInt(args[2]), to = Integer.parseInt(args[3]);
        int port;
        try (ServerSocket free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        Properties worker = new Properties();
        worker.putAll(Map.of("bootstrap.servers", servers, "group.id", "workers", "listeners", "http://127.0.0.1:" + port, "offset.flush.interval.ms", "500", "plugin.discovery", "service_load", "scheduled.rebalance.max.delay.ms", "0", "session.timeout.ms", "6000", "heartbeat.interval.ms", "1000"));
        for (String kind : List.of("config", "offset", "status")) {
            worker.put(kind + ".storage.topic", "connect-" + kind);
            worker.put(kind + ".storage.replication.factor", "-1");
        }
        worker.put("key.converter", "org.apache.kafka.connect.storage.StringConverter");
        worker.put("value.converter", "org.apache.kafka.connect.storage.StringConverter");
        Path settings = dir.resolve("worker.properties"), source = dir.resolve("source.txt"), sink = dir.resolve("sink.txt");
        try (OutputStream out = Files.newOutputStream(settings)) {
            worker.store(out, null);
        }
        Thread connect = new Thread(() -> ConnectDistributed.main(new String[] {settings.toString()}));
        connect.setDaemon(true);
        connect.start();
        int pause = args.length > 4 ? Integer.parseInt(args[4]) : 0;
        if (pause == 0) append(source, IntStream.range(from, to).mapToObj(n -> n + "\n").collect(Collectors.joining()));
        else slowly(source, from, to, pause).start();
        put(port, "source", "{\"connector.class\": \"FileStreamSource\", \"tasks.max\": \"1\", \"file\": \"" + source + "\", \"topic\": \"lines\"}");
        put(port, "sink", "{\"connector.class\": \"FileStreamSink\", \"tasks.max\": \"1\", \"file\": \"" + sink + "\", \"topics\": \"lines\"}");
        Set<String> wanted = IntStream.range(0, to).mapToObj(String::valueOf).collect(Collectors.toSet());
        long end = System.nanoTime() + 120_000_000_000L;
        while (!Files.exists(sink) || !new HashSet<>(Files.readAllLines(sink)).containsAll(wanted)) {
            if (System.nanoTime() > end) throw new AssertionError(Files.exists(sink) ? Files.readAllLines(sink).size() + " lines of " + to : "no lines: " + get(port, "/connectors/source/status") + get(port, "/connectors/sink/status"));
            if (pause > 0 && Files.exists(sink) && Files.readAllLines(sink).size() > 50) {
                System.out.println("go");
                pause = 0;
            }
            Thread.sleep(100);
        }
        // How far it has come is noted every half second; the next one may repeat what came after that, and lose nothing.
        Thread.sleep(1500);
        if (from > 0) {
            int repeated = Files.readAllLines(sink).size() - to;
            if (repeated > 0) throw new AssertionError(repeated + " lines are there twice: it did not go on where the one before had ended");
        }
        Runtime.getRuntime().halt(0);
    }

    static void append(Path file, String lines) throws IOException {
        Files.writeString(file, lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    static Thread slowly(Path file, int from, int to, int pause) {
        Thread writer = new Thread(() -> {
            try {
                for (int n = from; n < to; n++) {
                    append(file, n + "\n");
                    Thread.sleep(pause);
                }
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        writer.setDaemon(true);
        return writer;
    }

    static void put(int port, String name, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + "/connectors/" + name + "/config")).header("Content-Type", "application/json").PUT(HttpRequest.BodyPublishers.ofString(body)).build();
        long end = System.nanoTime() + 90_000_000_000L;
        String said = "";
        while (System.nanoTime() < end) {
            try {
                HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
                said = answer.toString() + answer.body();
                if (answer.statusCode() / 100 == 2) return;
            } catch (IOException e) {
                said = e.toString();
            }
            Thread.sleep(200);
        }
        throw new AssertionError("a connector is not taken: " + said);
    }

    static String get(int port, String path) throws Exception {
        return HTTP.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + path)).build(), HttpResponse.BodyHandlers.ofString()).body();
    }
}
