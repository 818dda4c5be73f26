package highwater.interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** One member of a consumer group; it takes part in rebalances only while it is polled. */
final class Member implements AutoCloseable, ConsumerRebalanceListener {
    /** The shortest session that brokers allow by default. */
    static final int SESSION_MS = 6000;

    final KafkaConsumer<byte[], byte[]> consumer;
    /** Whatever was ever taken from this member. */
    final TreeSet<String> revoked = new TreeSet<>();
    /** How often this member was given something. */
    int assignments;
    private boolean closed;

    private Member(Broker broker, String group, Map<String, ?> more) {
        Map<String, Object> config = new HashMap<>(Map.of(
                "group.id", group,
                "auto.offset.reset", "earliest",
                "session.timeout.ms", SESSION_MS,
                "heartbeat.interval.ms", 300,
                "metadata.max.age.ms", 1000));
        config.putAll(more);
        consumer = broker.consumer(config);
    }

    static Member join(Broker broker, String group, String topic, Map<String, ?> more) {
        Member member = new Member(broker, group, more);
        member.consumer.subscribe(List.of(topic), member);
        return member;
    }

    static Member join(Broker broker, String group, String topic) {
        return join(broker, group, topic, Map.of());
    }

    static Member join(Broker broker, String group, Pattern pattern) {
        Member member = new Member(broker, group, Map.of());
        member.consumer.subscribe(pattern, member);
        return member;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty()) {
            assignments++;
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        partitions.forEach(partition -> revoked.add(partition.toString()));
    }

    /** What this member owns now, as TopicPartition prints it. */
    List<String> owned() {
        List<String> names = new ArrayList<>();
        consumer.assignment().forEach(partition -> names.add(partition.toString()));
        names.sort(null);
        return names;
    }

    /** What comes within that time. */
    List<ConsumerRecord<byte[], byte[]>> poll(int limitMs) {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        long deadline = System.nanoTime() + limitMs * 1_000_000L;
        do {
            consumer.poll(Duration.ofMillis(Math.min(limitMs, 50))).forEach(read::add);
        } while (System.nanoTime() < deadline);
        return read;
    }

    /** Ends without LeaveGroup: the broker sees closed connections, as after a crash. */
    void crash() {
        closed = true;
        consumer.close(CloseOptions.timeout(Duration.ZERO)
                .withGroupMembershipOperation(GroupMembershipOperation.REMAIN_IN_GROUP));
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            consumer.close();
        }
    }
}
