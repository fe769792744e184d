// Load on a system, whichever client a subclass brings: as fast as it can, or so many records a second with a reader beside it.
//
// Arguments are NAME=VALUE. Says `measuring` and `measured` when the window begins and ends, then its figures as JSON.
// Latency at a rate is from the moment at which a record was due, so that a system that stalls is not spared what waited meanwhile.

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.StringJoiner;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;

public abstract class Load {
    /** What is still on its way at the end is waited for so long. */
    static final Duration LAST = Duration.ofSeconds(120);

    /** Is told when a record is acknowledged, with null, or why it is not. */
    interface Done {
        void with(Throwable error);
    }

    final Map<String, String> args = new HashMap<>();
    final String topic;
    final int partitions;
    /** A reader goes on until this is set. */
    volatile boolean over;

    private final byte[][] values;
    /** Nanoseconds between records; 0 for as fast as it goes. */
    private final long everyNs;
    private final Histogram acks = new Histogram(3);
    private final Histogram ways = new Histogram(3);
    private final AtomicLong received = new AtomicLong();
    private volatile long from = Long.MAX_VALUE;
    private volatile long to = Long.MAX_VALUE;
    private long sent;
    private long records;
    private long failed;
    private String error = "";

    Load(String[] given) throws Exception {
        for (String arg : given) {
            int at = arg.indexOf('=');
            args.put(arg.substring(0, at), arg.substring(at + 1));
        }
        topic = args.get("topic");
        partitions = Integer.parseInt(args.get("partitions"));
        long rate = Long.parseLong(args.get("rate"));
        everyNs = rate == 0 ? 0 : 1_000_000_000L / rate;
        int size = Integer.parseInt(args.get("record-size"));
        byte[] all = Files.readAllBytes(Path.of(args.get("values")));
        values = new byte[all.length / size][size];
        for (int n = 0; n < values.length; n++) System.arraycopy(all, n * size, values[n], 0, size);
    }

    /** Connections are there before the clock runs. */
    abstract void connect() throws Exception;

    /** Sends a record to a partition; waits only where the client has no room for it. */
    abstract void send(int partition, byte[] value, Done done) throws Exception;

    /** Hands what is written from now on to `received`, until it is over; says when it is ready. */
    abstract void read(Runnable ready) throws Exception;

    /** Waits for the last acks, at most LAST. */
    abstract void close() throws Exception;

    /** The client and its version. */
    abstract String client();

    /** How it is set up. */
    abstract Map<String, Object> on();

    void run() throws Exception {
        Thread reader = new Thread(this::reading);
        connect();
        if (everyNs > 0) {
            reader.start();
            ready.await();
        }
        long start = System.nanoTime();
        from = start + Long.parseLong(args.get("warm-up-ms")) * 1_000_000L;
        to = from + Long.parseLong(args.get("measure-ms")) * 1_000_000L;
        Thread marks = new Thread(() -> {
            until(from);
            System.out.println("measuring");
            until(to);
            System.out.println("measured");
        });
        marks.start();
        for (long n = 0; ; n++) {
            long due = everyNs > 0 ? start + n * everyNs : System.nanoTime();
            if (due >= to) break;
            until(due);
            byte[] value = values[(int) (n % values.length)];
            if (everyNs > 0) {
                value = value.clone();
                ByteBuffer.wrap(value).putLong(due);
            }
            sent++;
            send((int) (n % partitions), value, error -> acked(due, error));
        }
        marks.join();
        close();
        long last = System.nanoTime() + LAST.toNanos();
        while (reader.isAlive() && received.get() < sent - failed && System.nanoTime() < last) Thread.sleep(5);
        over = true;
        reader.join(LAST.toMillis());
        System.out.println(figures());
        // Nothing that is left may keep us.
        System.exit(0);
    }

    private final CountDownLatch ready = new CountDownLatch(1);

    private void reading() {
        try {
            read(ready::countDown);
        } catch (Exception exception) {
            exception.printStackTrace();
            System.exit(1);
        }
    }

    private synchronized void acked(long due, Throwable why) {
        long now = System.nanoTime();
        if (why != null) {
            failed++;
            error = why.toString();
            return;
        }
        if (now >= from && now < to) records++;
        long counts = everyNs > 0 ? due : now;
        if (counts >= from && counts < to) acks.recordValue(now - due);
    }

    /** A reader has this one. */
    final void received(byte[] value) {
        long due = ByteBuffer.wrap(value).getLong();
        if (due >= from && due < to) ways.recordValue(System.nanoTime() - due);
        received.incrementAndGet();
    }

    private static void until(long at) {
        for (long left = at - System.nanoTime(); left > 0; left = at - System.nanoTime()) LockSupport.parkNanos(left);
    }

    private synchronized String figures() {
        StringJoiner list = new StringJoiner(",");
        on().forEach((name, value) -> list.add(String.format("[\"%s\",\"%s\"]", name, value)));
        long missing = everyNs > 0 ? Math.max(0, sent - failed - received.get()) : 0;
        return String.format(Locale.ROOT,
                "{\"client\":\"%s\",\"on\":[%s],\"seconds\":%.6f,\"records\":%d,\"failed\":%d,\"missing\":%d,\"error\":\"%s\","
                        + "\"ack\":%s,\"end_to_end\":%s}",
                client(), list, (to - from) / 1e9, records, failed, missing, error.replaceAll("[\"\\\\\\p{Cntrl}]", " "),
                times(acks), everyNs > 0 ? times(ways) : "null");
    }

    private static String times(Histogram of) {
        return String.format("{\"count\":%d,\"p50_ns\":%d,\"p99_ns\":%d,\"p999_ns\":%d,\"max_ns\":%d}", of.getTotalCount(),
                of.getValueAtPercentile(50), of.getValueAtPercentile(99), of.getValueAtPercentile(99.9), of.getMaxValue());
    }
}
