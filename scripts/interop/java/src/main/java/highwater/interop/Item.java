package highwater.interop;

import static highwater.interop.Checks.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** A record as it is sent and as it must come back; `timestamp` null lets the client choose. */
record Item(int partition, byte[] key, byte[] value, List<Header> headers, Long timestamp) {

    static Item of(int partition, byte[] key, byte[] value) {
        return new Item(partition, key, value, List.of(), null);
    }

    static Item at(int partition, String value, long timestamp) {
        return new Item(partition, null, bytes(value), List.of(), timestamp);
    }

    /** Distinct records for one partition, with keys. */
    static List<Item> numbered(int count, int partition, String prefix) {
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            items.add(of(partition, bytes("key-" + i), bytes(prefix + "-" + partition + "-" + i)));
        }
        return items;
    }

    static List<Item> numbered(int count) {
        return numbered(count, 0, "value");
    }

    static Header header(String name, byte[] value) {
        return new RecordHeader(name, value);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Text that every codec shrinks at least fivefold. */
    static byte[] compressible(int size) {
        byte[] line = bytes("the high-water mark is the offset below which all is committed\n");
        byte[] text = new byte[size];
        for (int i = 0; i < size; i++) {
            text[i] = line[i % line.length];
        }
        return text;
    }

    /** Bytes without visible pattern, the same on every run. */
    static byte[] incompressible(int size) {
        byte[] noise = new byte[size];
        new Random(1).nextBytes(noise);
        return noise;
    }

    ProducerRecord<byte[], byte[]> toRecord(String topic) {
        return new ProducerRecord<>(topic, partition, timestamp, key, value, headers);
    }

    /**
     * Checks count, offset continuity from `firstOffset` in every partition, and all content.
     * Partitions may interleave; within one, order matters.
     */
    static void verify(
            List<ConsumerRecord<byte[], byte[]>> read, List<Item> expected, long firstOffset) {
        equal(read.size(), expected.size(), "records read");
        for (int partition : expected.stream().map(Item::partition).distinct().sorted().toList()) {
            var got = read.stream().filter(r -> r.partition() == partition).toList();
            var want = expected.stream().filter(item -> item.partition == partition).toList();
            equal(got.size(), want.size(), "records of partition " + partition);
            for (int i = 0; i < want.size(); i++) {
                want.get(i).verifyOne(got.get(i), firstOffset + i);
            }
        }
    }

    static void verify(List<ConsumerRecord<byte[], byte[]>> read, List<Item> expected) {
        verify(read, expected, 0);
    }

    private void verifyOne(ConsumerRecord<byte[], byte[]> actual, long offset) {
        String at = "partition " + partition + " offset " + offset;
        equal(actual.offset(), offset, at + ": offset");
        equal(text(actual.key()), text(key), at + ": key");
        equal(text(actual.value()), text(value), at + ": value");
        equal(Arrays.asList(actual.headers().toArray()), headers, at + ": headers");
        Checks.expect(actual.timestamp() > 0, at + ": no timestamp");
        if (timestamp != null) {
            equal(actual.timestamp(), timestamp, at + ": timestamp");
        }
    }

    /** One character per byte, so that differing bytes compare unequal and print short. */
    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.ISO_8859_1);
    }
}
