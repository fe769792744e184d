// Load by the client of NATS for Java, on a stream of JetStream: a partition is a subject of it.

import io.nats.client.Connection;
import io.nats.client.JetStream;
import io.nats.client.JetStreamOptions;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.DeliverPolicy;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

public class NatsLoad extends Load {
    /** Records without an ack at most: this client has no bound of its own; that of the one for Go is 4,000. */
    private static final int UNACKED_MAX = 4000;

    private final Semaphore room = new Semaphore(UNACKED_MAX);
    private final String[] subjects;
    private Connection connection;
    private JetStream stream;

    NatsLoad(String[] given) throws Exception {
        super(given);
        subjects = new String[partitions];
        for (int n = 0; n < partitions; n++) subjects[n] = topic + "." + n;
    }

    public static void main(String[] given) throws Exception {
        new NatsLoad(given).run();
    }

    @Override
    void connect() throws Exception {
        // An ack is waited for as long as it takes: by default this client gives up what was not answered within seconds.
        Options patient = new Options.Builder().server("nats://" + args.get("at")).requestCleanupInterval(LAST).build();
        connection = Nats.connect(patient);
        stream = connection.jetStream(JetStreamOptions.builder().requestTimeout(LAST).build());
    }

    @Override
    void send(int partition, byte[] value, Done done) throws Exception {
        room.acquire();
        stream.publishAsync(subjects[partition], value).whenComplete((ack, error) -> {
            room.release();
            done.with(error);
        });
    }

    @Override
    void read(Runnable ready) throws Exception {
        // A connection of its own, as a reader elsewhere has.
        try (Connection reading = Nats.connect("nats://" + args.get("at"))) {
            ConsumerConfiguration fresh = ConsumerConfiguration.builder().deliverPolicy(DeliverPolicy.New).build();
            PushSubscribeOptions ordered = PushSubscribeOptions.builder().ordered(true).configuration(fresh).build();
            JetStreamSubscription all = reading.jetStream().subscribe(topic + ".*", ordered);
            reading.flush(LAST);
            ready.run();
            while (!over) {
                Message message = all.nextMessage(Duration.ofMillis(100));
                if (message != null) received(message.getData());
            }
        }
    }

    @Override
    void close() throws Exception {
        // All of it is there once every ack is.
        room.tryAcquire(UNACKED_MAX, LAST.toMillis(), TimeUnit.MILLISECONDS);
    }

    @Override
    String client() {
        return "jnats " + Nats.CLIENT_VERSION;
    }

    @Override
    Map<String, Object> on() {
        Map<String, Object> on = new LinkedHashMap<>();
        on.put("acks", "of the stream");
        on.put("records without an ack at most", UNACKED_MAX);
        return on;
    }
}
