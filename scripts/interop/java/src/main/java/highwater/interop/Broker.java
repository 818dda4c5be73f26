package highwater.interop;

import static highwater.interop.Checks.equal;
import static highwater.interop.Checks.expect;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The broker under test as the Java client sees it; every topic name gets the run's prefix. */
final class Broker implements AutoCloseable {
    /** Longest wait for any single answer; a healthy broker on loopback needs milliseconds. */
    static final int TIMEOUT_MS = 20_000;

    private final String bootstrap;
    private final String prefix;
    final Admin admin;

    Broker(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(config(Map.of(
                "default.api.timeout.ms", TIMEOUT_MS, "request.timeout.ms", TIMEOUT_MS / 2)));
    }

    private Map<String, Object> config(Map<String, ?> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        config.putAll(more);
        return config;
    }

    String name(String name) {
        return prefix + "-" + name;
    }

    /** Creates a topic, one replica each, and returns its full name. */
    String create(String name, int partitions, Map<String, String> configs) throws Exception {
        NewTopic topic = new NewTopic(name(name), Optional.of(partitions), Optional.of((short) 1));
        admin.createTopics(List.of(topic.configs(configs))).all().get();
        return topic.name();
    }

    String create(String name) throws Exception {
        return create(name, 1, Map.of());
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, ?> more) {
        Map<String, Object> config = config(Map.of(
                "acks", "all",
                "linger.ms", 50,
                "max.block.ms", TIMEOUT_MS,
                "request.timeout.ms", TIMEOUT_MS / 2,
                "delivery.timeout.ms", TIMEOUT_MS));
        config.putAll(more);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Sends all in one flush; returns the offsets in the order sent, throws on any error. */
    List<Long> produce(String topic, List<Item> items, Map<String, ?> more) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = producer(more)) {
            for (Item item : items) {
                sent.add(producer.send(item.toRecord(topic)));
            }
            producer.flush();
        }
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            offsets.add(future.get().offset());
        }
        return offsets;
    }

    List<Long> produce(String topic, List<Item> items) throws Exception {
        return produce(topic, items, Map.of());
    }

    /** A consumer without group: it can only be assigned, never subscribed, and never commits. */
    KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> more) {
        Map<String, Object> config = config(Map.of(
                "enable.auto.commit", false,
                "auto.offset.reset", "none",
                "allow.auto.create.topics", false,
                "fetch.max.wait.ms", 50,
                "default.api.timeout.ms", TIMEOUT_MS,
                "request.timeout.ms", TIMEOUT_MS / 2));
        config.putAll(more);
        return new KafkaConsumer<>(
                config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < count; partition++) {
            partitions.add(new TopicPartition(topic, partition));
        }
        return partitions;
    }

    /** Reads `count` records by assignment from the start of the first `partitions` partitions. */
    List<ConsumerRecord<byte[], byte[]>> read(String topic, int partitions, int count) {
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, partitions));
            consumer.seekToBeginning(consumer.assignment());
            return readOn(consumer, count);
        }
    }

    /** Reads `count` records of partition 0 by assignment from that offset. */
    List<ConsumerRecord<byte[], byte[]>> readFrom(String topic, long offset, int count) {
        try (var consumer = consumer(Map.of())) {
            consumer.assign(partitions(topic, 1));
            consumer.seek(new TopicPartition(topic, 0), offset);
            return readOn(consumer, count);
        }
    }

    /** Reads until `count` records have come and every position is at its partition's end. */
    static List<ConsumerRecord<byte[], byte[]>> readOn(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        var read = poll(consumer, count);
        consumer.endOffsets(consumer.assignment()).forEach((partition, end) ->
                equal(consumer.position(partition), end, "position in " + partition));
        return read;
    }

    /** Polls until `count` records have come. */
    static List<ConsumerRecord<byte[], byte[]>> poll(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        long deadline = System.nanoTime() + TIMEOUT_MS * 1_000_000L;
        while (read.size() < count) {
            expect(System.nanoTime() < deadline, "only " + read.size() + " of " + count);
            consumer.poll(Duration.ofMillis(100)).forEach(read::add);
        }
        return read;
    }

    /** Leaves the broker as it was found; what cannot be deleted is no failure here. */
    void deleteOwnTopics() throws InterruptedException {
        try {
            List<String> own = admin.listTopics().names().get().stream()
                    .filter(name -> name.startsWith(prefix))
                    .toList();
            admin.deleteTopics(own).all().get();
        } catch (ExecutionException error) {
            System.err.println("topics of this run stay: " + error.getMessage());
        }
    }

    @Override
    public void close() {
        admin.close();
    }
}
