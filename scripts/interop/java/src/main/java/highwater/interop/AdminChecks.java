package highwater.interop;

import static highwater.interop.Checks.equal;
import static highwater.interop.Checks.expect;
import static highwater.interop.Checks.fails;
import static highwater.interop.Item.compressible;
import static highwater.interop.Item.numbered;
import static highwater.interop.Item.verify;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Checks of the admin requests and of errors. */
final class AdminChecks {
    private final Broker broker;

    AdminChecks(Broker broker) {
        this.broker = broker;
    }

    void addTo(Map<String, Callable<String>> checks) {
        checks.put("unknown-topic", this::unknownTopic);
        checks.put("invalid-topic", this::invalidTopic);
        checks.put("too-large", this::tooLarge);
        checks.put("topic-exists", this::topicExists);
        checks.put("describe-topic", this::describeTopic);
        checks.put("describe-configs", this::describeConfigs);
        checks.put("alter-configs", this::alterConfigs);
        checks.put("create-partitions", this::createPartitions);
        checks.put("list-offsets", this::listOffsets);
        checks.put("delete-records", this::deleteRecords);
        checks.put("delete-topic", this::deleteTopic);
        checks.put("refuse-compact", this::refuseCompact);
    }

    private TopicDescription describe(String topic) throws Exception {
        return broker.admin.describeTopics(List.of(topic)).topicNameValues().get(topic).get();
    }

    private Config configs(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return broker.admin.describeConfigs(List.of(resource)).values().get(resource).get();
    }

    private Object alter(String topic, String name, String value, OpType type) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp operation = new AlterConfigOp(new ConfigEntry(name, value), type);
        return broker.admin
                .incrementalAlterConfigs(Map.of(resource, List.of(operation)))
                .all()
                .get();
    }

    private Object grow(String topic, int total) throws Exception {
        return broker.admin
                .createPartitions(Map.of(topic, NewPartitions.increaseTo(total)))
                .all()
                .get();
    }

    private Object delete(String topic) throws Exception {
        return broker.admin.deleteTopics(List.of(topic)).all().get();
    }

    private ListOffsetsResultInfo offset(String topic, int partition, OffsetSpec spec)
            throws Exception {
        TopicPartition at = new TopicPartition(topic, partition);
        return broker.admin.listOffsets(Map.of(at, spec)).partitionResult(at).get();
    }

    /** Other nodes may trail an acknowledged change. */
    private static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + Broker.TIMEOUT_MS * 1_000_000L;
        while (!condition.call()) {
            expect(System.nanoTime() < deadline, "still not so: " + what);
            Thread.sleep(50);
        }
    }

    private String unknownTopic() throws Exception {
        String topic = broker.name("never-created");
        var unknown = UnknownTopicOrPartitionException.class;
        fails(unknown, "describe", () -> describe(topic));
        fails(unknown, "delete", () -> delete(topic));
        fails(unknown, "create partitions", () -> grow(topic, 3));
        try (var consumer = broker.consumer(Map.of())) {
            equal(consumer.partitionsFor(topic), List.of(), "partitions a consumer is told");
        }
        return null;
    }

    private String invalidTopic() throws Exception {
        for (String name : List.of("bad/name", "bad name", "..", "x".repeat(250))) {
            NewTopic topic = new NewTopic(name, 1, (short) 1);
            fails(InvalidTopicException.class, "create " + name,
                    () -> broker.admin.createTopics(List.of(topic)).all().get());
        }
        fails(InvalidTopicException.class, "produce",
                () -> broker.produce("bad/name", numbered(1)));
        return null;
    }

    private String tooLarge() throws Exception {
        String topic = broker.create("too-large", 1, Map.of("max.message.bytes", "20000"));
        List<Item> big = List.of(Item.of(0, null, compressible(40_000)));
        fails(RecordTooLargeException.class, "produce", () -> broker.produce(topic, big));
        broker.produce(topic, numbered(1));
        verify(broker.read(topic, 1, 1), numbered(1));
        return null;
    }

    private String topicExists() throws Exception {
        broker.create("topic-exists");
        fails(TopicExistsException.class, "create", () -> broker.create("topic-exists"));
        return null;
    }

    private String describeTopic() throws Exception {
        TopicDescription description = describe(broker.create("describe-topic", 3, Map.of()));
        equal(description.isInternal(), false, "internal");
        equal(description.partitions().stream().map(p -> p.partition()).toList(),
                List.of(0, 1, 2), "partitions");
        var brokers = broker.admin.describeCluster().nodes().get().stream()
                .map(Node::id)
                .collect(Collectors.toSet());
        for (var partition : description.partitions()) {
            expect(partition.leader() != null, "no leader for " + partition);
            var replicas = partition.replicas().stream().map(Node::id).toList();
            expect(brokers.containsAll(replicas), replicas + " are not among " + brokers);
            expect(partition.replicas().contains(partition.leader()), "leader is no replica");
            expect(partition.isr().contains(partition.leader()), "leader is not in sync");
        }
        return null;
    }

    private String describeConfigs() throws Exception {
        String topic = broker.create("describe-configs", 1, Map.of("retention.ms", "7200000"));
        Config configs = configs(topic);
        ConfigEntry retention = configs.get("retention.ms");
        equal(retention.value(), "7200000", "retention.ms");
        equal(retention.source(), ConfigSource.DYNAMIC_TOPIC_CONFIG, "its source");
        equal(retention.type(), ConfigEntry.ConfigType.LONG, "its type");
        equal(configs.get("cleanup.policy").value(), "delete", "cleanup.policy");
        expect(configs.get("cleanup.policy").isDefault(), "cleanup.policy is not the default");
        for (String name : List.of("retention.bytes", "segment.bytes", "max.message.bytes")) {
            expect(configs.get(name) != null, name + " is missing");
            Long.parseLong(configs.get(name).value());
        }
        return null;
    }

    private String alterConfigs() throws Exception {
        String topic = broker.create("alter-configs", 1, Map.of("retention.ms", "7200000"));
        String limit = "max.message.bytes";
        String standard = configs(topic).get(limit).value();
        alter(topic, limit, "34567", OpType.SET);
        eventually("altered", () -> configs(topic).get(limit).value().equals("34567"));
        equal(configs(topic).get("retention.ms").value(), "7200000", "the config left alone");
        List<Item> big = List.of(Item.of(0, null, compressible(40_000)));
        fails(RecordTooLargeException.class, "the new limit", () -> broker.produce(topic, big));
        alter(topic, limit, null, OpType.DELETE);
        eventually("default again", () -> configs(topic).get(limit).value().equals(standard));
        broker.produce(topic, big);
        var invalid = InvalidConfigurationException.class;
        fails(invalid, "a value that is no number",
                () -> alter(topic, "retention.ms", "soon", OpType.SET));
        fails(invalid, "a name that does not exist",
                () -> alter(topic, "no.such.config", "1", OpType.SET));
        return null;
    }

    private String createPartitions() throws Exception {
        String topic = broker.create("create-partitions");
        List<Item> items = new ArrayList<>(numbered(3));
        broker.produce(topic, items);
        grow(topic, 4);
        eventually("four partitions", () -> describe(topic).partitions().size() == 4);
        for (int partition = 1; partition < 4; partition++) {
            items.addAll(numbered(5, partition, "value"));
        }
        broker.produce(topic, items.subList(3, items.size()));
        verify(broker.read(topic, 4, items.size()), items);
        fails(InvalidPartitionsException.class, "fewer than there are", () -> grow(topic, 2));
        return null;
    }

    private String listOffsets() throws Exception {
        String topic = broker.create("list-offsets", 3, Map.of());
        long base = System.currentTimeMillis() - 60_000;
        List<Item> together = new ArrayList<>();
        for (long age : List.of(1000L, 5000L, 2000L)) {
            broker.produce(topic, List.of(Item.at(0, "own batch", base + age)));
            together.add(Item.at(1, "one batch", base + age));
        }
        broker.produce(topic, together);
        for (int partition : List.of(0, 1)) {
            equal(offset(topic, partition, OffsetSpec.earliest()).offset(), 0L, "earliest");
            equal(offset(topic, partition, OffsetSpec.latest()).offset(), 3L, "latest");
            for (OffsetSpec spec :
                    List.of(OffsetSpec.forTimestamp(base + 1500), OffsetSpec.maxTimestamp())) {
                var found = offset(topic, partition, spec);
                String what = spec.getClass().getSimpleName() + " of partition " + partition;
                equal(found.offset(), 1L, what);
                equal(found.timestamp(), base + 5000, what + ": its timestamp");
            }
        }
        equal(offset(topic, 2, OffsetSpec.latest()).offset(), 0L, "end of nothing");
        equal(offset(topic, 2, OffsetSpec.maxTimestamp()).offset(), -1L, "max of nothing");
        return null;
    }

    private String deleteRecords() throws Exception {
        String topic = broker.create("delete-records");
        broker.produce(topic, numbered(20));
        TopicPartition at = new TopicPartition(topic, 0);
        var deleted = broker.admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(12)));
        equal(deleted.lowWatermarks().get(at).get().lowWatermark(), 12L, "low watermark");
        eventually("earliest is 12", () -> offset(topic, 0, OffsetSpec.earliest()).offset() == 12);
        try (var consumer = broker.consumer(Map.of())) {
            equal(consumer.beginningOffsets(List.of(at)).get(at), 12L, "beginning");
        }
        List<Item> left = new ArrayList<>(numbered(20).subList(12, 20));
        verify(broker.read(topic, 1, 8), left, 12);
        fails(OffsetOutOfRangeException.class, "reading a deleted offset",
                () -> broker.readFrom(topic, 3, 1));
        var beyond = Map.of(at, RecordsToDelete.beforeOffset(21));
        fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class,
                "deleting beyond the end", () -> broker.admin.deleteRecords(beyond).all().get());
        broker.produce(topic, numbered(1, 0, "after"));
        left.addAll(numbered(1, 0, "after"));
        verify(broker.read(topic, 1, 9), left, 12);
        return null;
    }

    private String deleteTopic() throws Exception {
        String topic = broker.create("delete-topic");
        broker.produce(topic, numbered(5, 0, "old"));
        delete(topic);
        eventually("the topic is gone",
                () -> !broker.admin.listTopics().names().get().contains(topic));
        broker.create("delete-topic");
        eventually("the topic is back",
                () -> broker.admin.listTopics().names().get().contains(topic));
        equal(offset(topic, 0, OffsetSpec.latest()).offset(), 0L, "end of the new topic");
        broker.produce(topic, numbered(3, 0, "new"));
        verify(broker.read(topic, 1, 3), numbered(3, 0, "new"));
        return null;
    }

    private String refuseCompact() throws Exception {
        var invalid = InvalidConfigurationException.class;
        fails(invalid, "create",
                () -> broker.create("refuse-compact", 1, Map.of("cleanup.policy", "compact")));
        String topic = broker.create("refuse-compact-later");
        fails(invalid, "alter", () -> alter(topic, "cleanup.policy", "compact", OpType.SET));
        return null;
    }
}
