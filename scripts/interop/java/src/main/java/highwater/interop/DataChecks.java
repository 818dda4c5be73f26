package highwater.interop;

import static highwater.interop.Checks.equal;
import static highwater.interop.Checks.expect;
import static highwater.interop.Checks.fails;
import static highwater.interop.Item.bytes;
import static highwater.interop.Item.compressible;
import static highwater.interop.Item.header;
import static highwater.interop.Item.incompressible;
import static highwater.interop.Item.numbered;
import static highwater.interop.Item.verify;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.common.TopicPartition;

/** Checks of producing and consuming. */
final class DataChecks {
    private static final int KIB = 1024;
    private static final int PARKED_MS = 3000;

    private final Broker broker;

    DataChecks(Broker broker) {
        this.broker = broker;
    }

    void addTo(Map<String, Callable<String>> checks) {
        checks.put("create", this::create);
        checks.put("acks-all", () -> acks("all"));
        checks.put("acks-1", () -> acks("1"));
        checks.put("acks-0", () -> acks("0"));
        checks.put("idempotence", this::idempotence);
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            checks.put("codec-" + codec, () -> codec(codec));
        }
        checks.put("content", this::content);
        checks.put("partitions", this::partitions);
        checks.put("many-records", this::manyRecords);
        checks.put("large-record", this::largeRecord);
        checks.put("from-start", this::fromStart);
        checks.put("from-end", this::fromEnd);
        checks.put("from-timestamp", () -> fromTimestamp("none"));
        checks.put("from-timestamp-gzip", () -> fromTimestamp("gzip"));
        checks.put("offset-out-of-range", this::offsetOutOfRange);
    }

    private String create() throws Exception {
        String topic = broker.create("create", 3, Map.of());
        expect(broker.admin.listTopics().names().get().contains(topic), "not listed");
        return null;
    }

    private String acks(String acks) throws Exception {
        String topic = broker.create("acks-" + acks);
        List<Item> items = numbered(100);
        var offsets = broker.produce(
                topic, items, Map.of("acks", acks, "enable.idempotence", acks.equals("all")));
        if (!acks.equals("0")) {
            equal(offsets, LongStream.range(0, 100).boxed().toList(), "acknowledged offsets");
        }
        verify(broker.read(topic, 1, 100), items);
        return null;
    }

    /** The producer fails for good when it gets no producer id, so that needs no own check. */
    private String idempotence() throws Exception {
        String topic = broker.create("idempotence");
        List<Item> items = numbered(1000);
        var offsets = broker.produce(topic, items, Map.of(
                "enable.idempotence", true,
                "max.in.flight.requests.per.connection", 5,
                "linger.ms", 0,
                "batch.size", 500));
        equal(offsets, LongStream.range(0, 1000).boxed().toList(), "acknowledged offsets");
        verify(broker.read(topic, 1, 1000), items);
        return null;
    }

    private String codec(String codec) throws Exception {
        String topic = broker.create("codec-" + codec);
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            items.add(Item.of(0, bytes("k" + i), compressible(2 * KIB)));
        }
        Map<String, Object> more =
                Map.of("compression.type", codec, "max.request.size", 4 * KIB * KIB);
        broker.produce(topic, items, more);
        if (!codec.equals("none")) {
            // Above the default max.message.bytes unless the client compressed it.
            Item big = Item.of(0, bytes("big"), compressible(2 * KIB * KIB));
            broker.produce(topic, List.of(big), more);
            items.add(big);
        }
        verify(broker.read(topic, 1, items.size()), items);
        return null;
    }

    private String content() throws Exception {
        String topic = broker.create("content");
        byte[] every = new byte[256];
        for (int i = 0; i < every.length; i++) {
            every[i] = (byte) i;
        }
        var headers = List.of(
                header("a", bytes("1")),
                header("a", bytes("2")),
                header("empty", new byte[0]),
                header("null", null),
                header("schl\u00fcssel", new byte[] {0, -1}));
        List<Item> items = List.of(
                new Item(0, bytes("key"), bytes("value"), headers, null),
                Item.of(0, null, bytes("null key")),
                Item.of(0, new byte[0], bytes("empty key")),
                Item.of(0, bytes("null value"), null),
                Item.of(0, bytes("empty value"), new byte[0]),
                new Item(0, null, null, List.of(header("only", bytes("header"))), null),
                Item.of(0, every, every),
                Item.of(0, bytes("\u0448\u043b\u044e\u0437"), bytes("\ud83c\udf0a")));
        broker.produce(topic, items);
        verify(broker.read(topic, 1, items.size()), items);
        return null;
    }

    private String partitions() throws Exception {
        String topic = broker.create("partitions", 3, Map.of());
        List<Item> items = new ArrayList<>();
        for (int partition = 0; partition < 3; partition++) {
            items.addAll(numbered(100 + partition, partition, "value"));
        }
        broker.produce(topic, items);
        verify(broker.read(topic, 3, items.size()), items);
        return null;
    }

    private String manyRecords() throws Exception {
        String topic = broker.create("many-records", 3, Map.of());
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < 20_000; i++) {
            items.add(Item.of(i % 3, bytes("" + i), bytes("record " + i)));
        }
        broker.produce(topic, items);
        verify(broker.read(topic, 3, items.size()), items);
        return null;
    }

    private String largeRecord() throws Exception {
        int size = Integer.parseInt(System.getenv("LARGE_RECORD_BYTES"));
        Map<String, String> limit = Map.of("max.message.bytes", "" + 2 * size);
        String topic = broker.create("large-record", 1, limit);
        List<Item> items = List.of(
                Item.of(0, bytes("large"), incompressible(size)),
                Item.of(0, bytes("small"), bytes("after")));
        broker.produce(topic, items, Map.of("max.request.size", 2 * size));
        verify(broker.read(topic, 1, 2), items);
        return null;
    }

    private String fromStart() throws Exception {
        String topic = broker.create("from-start");
        List<Item> items = new ArrayList<>(numbered(10));
        broker.produce(topic, numbered(10));
        items.addAll(numbered(10, 0, "second"));
        broker.produce(topic, numbered(10, 0, "second"));
        verify(broker.read(topic, 1, 20), items);
        verify(broker.readFrom(topic, 13, 7), items.subList(13, 20), 13);
        return null;
    }

    private String fromEnd() throws Exception {
        String topic = broker.create("from-end");
        broker.produce(topic, numbered(10, 0, "before"));
        // A fetch parked at the end for seconds is woken by the records that come.
        try (var consumer = broker.consumer(Map.of("fetch.max.wait.ms", PARKED_MS))) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToEnd(List.of(partition));
            equal(consumer.position(partition), 10L, "the end");
            // This poll leaves a fetch at the broker when it returns.
            equal(consumer.poll(Duration.ofMillis(200)).count(), 0, "records before the end");
            List<Item> after = numbered(10, 0, "after");
            broker.produce(topic, after);
            long produced = System.nanoTime();
            var read = Broker.poll(consumer, 10);
            long waited = (System.nanoTime() - produced) / 1_000_000;
            verify(read, after, 10);
            expect(waited < PARKED_MS / 2, "the parked fetch slept on for " + waited + " ms");
        }
        return null;
    }

    private String fromTimestamp(String codec) throws Exception {
        String topic = broker.create("from-timestamp-" + codec);
        long base = System.currentTimeMillis() - 60_000;
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            items.add(Item.at(0, "at " + i, base + 1000 * i));
        }
        broker.produce(topic, items.subList(0, 10), Map.of("compression.type", codec));
        broker.produce(topic, items.subList(10, 20), Map.of("compression.type", codec));
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = broker.consumer(Map.of())) {
            for (long[] pair : new long[][] {{-1, 0}, {7000, 7}, {12_500, 13}}) {
                var found = consumer.offsetsForTimes(Map.of(partition, base + pair[0]));
                String what = "offset for timestamp base+" + pair[0];
                equal(found.get(partition).offset(), pair[1], what);
                equal(found.get(partition).timestamp(), base + 1000 * pair[1], what + ": time");
            }
            var beyond = consumer.offsetsForTimes(Map.of(partition, base + 19_001));
            equal(beyond.get(partition), null, "offset for a timestamp after the last");
        }
        verify(broker.readFrom(topic, 7, 13), items.subList(7, 20), 7);
        return null;
    }

    private String offsetOutOfRange() throws Exception {
        String topic = broker.create("offset-out-of-range");
        broker.produce(topic, numbered(5));
        fails(OffsetOutOfRangeException.class, "reading beyond the end",
                () -> broker.readFrom(topic, 1000, 1));
        try (var consumer = broker.consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(Broker.partitions(topic, 1));
            consumer.seek(new TopicPartition(topic, 0), 1000);
            verify(Broker.readOn(consumer, 5), numbered(5));
        }
        return null;
    }
}
