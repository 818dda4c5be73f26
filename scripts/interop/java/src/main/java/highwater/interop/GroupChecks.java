package highwater.interop;

import static highwater.interop.Checks.equal;
import static highwater.interop.Checks.expect;
import static highwater.interop.Checks.fails;
import static highwater.interop.Item.numbered;
import static highwater.interop.Item.verify;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Checks of consumer groups, of the classic protocol. */
final class GroupChecks {
    /** Enough for a session to expire and all others to join again. */
    private static final int REBALANCE_MS = 3 * Member.SESSION_MS;

    private final Broker broker;

    GroupChecks(Broker broker) {
        this.broker = broker;
    }

    void addTo(Map<String, Callable<String>> checks) {
        checks.put("group-two-rebalances", this::twoRebalances);
        checks.put("group-cooperative", this::cooperative);
        checks.put("group-static", this::staticMember);
        checks.put("commit-sync", this::commitSync);
        checks.put("commit-async", this::commitAsync);
        checks.put("metadata-commit", this::metadataCommit);
        checks.put("crash-resume", this::crashResume);
        checks.put("reset-offsets", this::resetOffsets);
        checks.put("list-groups", this::listGroups);
        checks.put("describe-group", this::describeGroup);
        checks.put("delete-group", this::deleteGroup);
        checks.put("pause-resume", this::pauseResume);
        checks.put("regex-subscription", this::regexSubscription);
        checks.put("fan-in", this::fanIn);
        checks.put("fan-out", this::fanOut);
    }

    private static void within(int limitMs, String what, Callable<Boolean> condition)
            throws Exception {
        long deadline = System.nanoTime() + limitMs * 1_000_000L;
        while (!condition.call()) {
            expect(System.nanoTime() < deadline, "still not so: " + what);
            Thread.sleep(20);
        }
    }

    /** Waits until the members own every partition of the topic exactly once, each something. */
    private static void shared(String topic, int count, Member... members) throws Exception {
        List<String> whole = Broker.partitions(topic, count).stream()
                .map(TopicPartition::toString)
                .toList();
        within(REBALANCE_MS, members.length + " members own each partition once", () -> {
            List<String> owned = new ArrayList<>();
            for (Member member : members) {
                equal(member.poll(20).size(), 0, "records of an empty topic");
                if (member.owned().isEmpty()) {
                    return false;
                }
                owned.addAll(member.owned());
            }
            owned.sort(null);
            return owned.equals(whole);
        });
    }

    private String twoRebalances() throws Exception {
        String topic = broker.create("group-two-rebalances", 4, Map.of());
        try (Member first = Member.join(broker, topic, topic)) {
            shared(topic, 4, first);
            Member second = Member.join(broker, topic, topic);
            shared(topic, 4, first, second);
            second.crash();
            shared(topic, 4, first);
        }
        return null;
    }

    private String cooperative() throws Exception {
        String topic = broker.create("group-cooperative", 4, Map.of());
        Map<String, String> how = Map.of("partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        try (Member first = Member.join(broker, topic, topic, how)) {
            shared(topic, 4, first);
            try (Member second = Member.join(broker, topic, topic, how)) {
                shared(topic, 4, first, second);
                // Only what moved was taken; what stayed was never given up in between.
                equal(List.copyOf(first.revoked), second.owned(), "revoked from the first");
                equal(describe(topic).partitionAssignor(), "cooperative-sticky", "assignor");
            }
        }
        return null;
    }

    private String staticMember() throws Exception {
        String topic = broker.create("group-static", 4, Map.of());
        try (Member first = Member.join(broker, topic, topic, Map.of("group.instance.id", "a"))) {
            shared(topic, 4, first);
            Map<String, String> how = Map.of("group.instance.id", "b");
            Member second = Member.join(broker, topic, topic, how);
            shared(topic, 4, first, second);
            List<String> owned = second.owned();
            int assignments = first.assignments;
            second.close();
            try (Member again = Member.join(broker, topic, topic, how)) {
                within(Broker.TIMEOUT_MS, "the restarted member owns what it owned", () -> {
                    first.poll(20);
                    again.poll(20);
                    return again.owned().equals(owned);
                });
                equal(first.assignments, assignments, "assignments of the member that stayed");
            }
        }
        return null;
    }

    private OffsetAndMetadata committed(String group, String topic) throws Exception {
        return broker.admin.listConsumerGroupOffsets(group)
                .partitionsToOffsetAndMetadata()
                .get()
                .get(new TopicPartition(topic, 0));
    }

    private static Map<TopicPartition, OffsetAndMetadata> at(String topic, long offset) {
        return Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(offset));
    }

    /** A topic of ten records, which is also the group's name. */
    private String tenRecords(String name) throws Exception {
        String topic = broker.create(name);
        broker.produce(topic, numbered(10));
        return topic;
    }

    private Member joinAndRead(String topic) {
        Member member = Member.join(broker, topic, topic);
        verify(Broker.poll(member.consumer, 10), numbered(10));
        return member;
    }

    /** A new member reads the ten records from that offset. */
    private String resumes(String topic, int offset) {
        try (Member member = Member.join(broker, topic, topic)) {
            var read = Broker.poll(member.consumer, 10 - offset);
            verify(read, numbered(10).subList(offset, 10), offset);
        }
        return null;
    }

    private String commitSync() throws Exception {
        String topic = tenRecords("commit-sync");
        try (Member member = joinAndRead(topic)) {
            member.consumer.commitSync(at(topic, 6));
            equal(committed(topic, topic).offset(), 6L, "committed");
        }
        return resumes(topic, 6);
    }

    private String commitAsync() throws Exception {
        String topic = tenRecords("commit-async");
        try (Member member = joinAndRead(topic)) {
            List<Exception> errors = new ArrayList<>();
            member.consumer.commitAsync(at(topic, 4), (offsets, error) -> errors.add(error));
            within(Broker.TIMEOUT_MS, "the commit is answered", () -> {
                member.poll(20);
                return !errors.isEmpty();
            });
            equal(errors.get(0), null, "error of the commit");
            equal(committed(topic, topic).offset(), 4L, "committed");
        }
        return resumes(topic, 4);
    }

    private String metadataCommit() throws Exception {
        String topic = tenRecords("metadata-commit");
        try (Member member = joinAndRead(topic)) {
            for (String metadata : List.of("r\u00e9sum\u00e9 at \ud83c\udf0a", "")) {
                var offset = new OffsetAndMetadata(5, metadata);
                var partition = new TopicPartition(topic, 0);
                member.consumer.commitSync(Map.of(partition, offset));
                equal(committed(topic, topic).metadata(), metadata, "metadata");
            }
        }
        return null;
    }

    private String crashResume() throws Exception {
        String topic = tenRecords("crash-resume");
        Member member = joinAndRead(topic);
        member.consumer.commitSync(at(topic, 5));
        member.crash();
        return resumes(topic, 5);
    }

    private Object reset(String topic, long offset) throws Exception {
        return broker.admin.alterConsumerGroupOffsets(topic, at(topic, offset)).all().get();
    }

    private String resetOffsets() throws Exception {
        String topic = tenRecords("reset-offsets");
        try (Member member = joinAndRead(topic)) {
            member.consumer.commitSync(at(topic, 10));
            fails(UnknownMemberIdException.class, "a group that has members",
                    () -> reset(topic, 2));
        }
        for (long offset : List.of(2L, 7L)) {
            reset(topic, offset);
            equal(committed(topic, topic).offset(), offset, "reset");
        }
        return resumes(topic, 7);
    }

    private ConsumerGroupDescription describe(String group) throws Exception {
        return broker.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private List<GroupListing> listed(String group) throws Exception {
        return broker.admin.listGroups().all().get().stream()
                .filter(listing -> listing.groupId().equals(group))
                .toList();
    }

    private String listGroups() throws Exception {
        String topic = broker.create("list-groups");
        equal(listed(topic), List.of(), "listed before it exists");
        try (Member member = Member.join(broker, topic, topic)) {
            shared(topic, 1, member);
            equal(listed(topic).size(), 1, "how often it is listed");
            equal(listed(topic).get(0).protocol(), "consumer", "protocol type");
            equal(listed(topic).get(0).groupState().orElse(null), GroupState.STABLE, "state");
        }
        return null;
    }

    private String describeGroup() throws Exception {
        String topic = broker.create("describe-group", 4, Map.of());
        try (Member first = Member.join(broker, topic, topic);
                Member second = Member.join(broker, topic, topic)) {
            shared(topic, 4, first, second);
            within(Broker.TIMEOUT_MS, "Stable",
                    () -> describe(topic).groupState() == GroupState.STABLE);
            List<String> found = describe(topic).members().stream()
                    .map(one -> one.assignment().topicPartitions().stream()
                            .map(TopicPartition::toString)
                            .sorted()
                            .toList()
                            .toString())
                    .sorted()
                    .toList();
            String[] expected = {first.owned().toString(), second.owned().toString()};
            Arrays.sort(expected);
            equal(found, List.of(expected), "what the members own");
            equal(describe(topic).partitionAssignor(), "range", "assignor");
        }
        equal(describe(topic).groupState(), GroupState.EMPTY, "state after all left");
        fails(GroupIdNotFoundException.class, "an unknown group", () -> describe("no-" + topic));
        return null;
    }

    private Object delete(String group) throws Exception {
        return broker.admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    private String deleteGroup() throws Exception {
        String topic = tenRecords("delete-group");
        try (Member member = joinAndRead(topic)) {
            member.consumer.commitSync(at(topic, 10));
            fails(GroupNotEmptyException.class, "a group with members", () -> delete(topic));
        }
        delete(topic);
        equal(listed(topic), List.of(), "listed after deletion");
        fails(GroupIdNotFoundException.class, "deleting it again", () -> delete(topic));
        return resumes(topic, 0);
    }

    private String pauseResume() throws Exception {
        String topic = broker.create("pause-resume", 2, Map.of());
        try (Member member = Member.join(broker, topic, topic)) {
            shared(topic, 2, member);
            var paused = List.of(new TopicPartition(topic, 0));
            member.consumer.pause(paused);
            broker.produce(topic, numbered(5));
            broker.produce(topic, numbered(5, 1, "value"));
            verify(Broker.poll(member.consumer, 5), numbered(5, 1, "value"));
            equal(member.poll(1000).size(), 0, "records of a paused partition");
            member.consumer.resume(paused);
            verify(Broker.poll(member.consumer, 5), numbered(5));
        }
        return null;
    }

    private String regexSubscription() throws Exception {
        String first = broker.create("regex-a");
        broker.create("not-regex");
        Pattern pattern = Pattern.compile(Pattern.quote(broker.name("regex-")) + ".*");
        try (Member member = Member.join(broker, broker.name("regex-subscription"), pattern)) {
            shared(first, 1, member);
            String second = broker.create("regex-b");
            within(Broker.TIMEOUT_MS, "the new topic is found", () -> {
                member.poll(20);
                return member.owned().equals(List.of(first + "-0", second + "-0"));
            });
            broker.produce(second, numbered(3));
            verify(Broker.poll(member.consumer, 3), numbered(3));
        }
        return null;
    }

    private static List<Item> threeParts(int count) {
        List<Item> all = new ArrayList<>();
        for (int partition = 0; partition < 3; partition++) {
            all.addAll(numbered(count, partition, "value"));
        }
        return all;
    }

    private String fanIn() throws Exception {
        String topic = broker.create("fan-in", 3, Map.of());
        List<Thread> producers = new ArrayList<>();
        for (int partition = 0; partition < 3; partition++) {
            List<Item> part = numbered(200, partition, "value");
            Thread producer = new Thread(() -> {
                try {
                    broker.produce(topic, part);
                } catch (Exception error) {
                    System.err.println("fan-in: " + error);
                }
            });
            producer.start();
            producers.add(producer);
        }
        try (Member member = Member.join(broker, topic, topic)) {
            verify(Broker.poll(member.consumer, 600), threeParts(200));
        }
        for (Thread producer : producers) {
            producer.join();
        }
        return null;
    }

    private String fanOut() throws Exception {
        String topic = broker.create("fan-out", 3, Map.of());
        broker.produce(topic, threeParts(100));
        List<Member> members = new ArrayList<>();
        for (int group = 0; group < 3; group++) {
            members.add(Member.join(broker, topic + "-" + group, topic));
        }
        for (Member member : members) {
            try (member) {
                verify(Broker.poll(member.consumer, 300), threeParts(100));
            }
        }
        return null;
    }
}
