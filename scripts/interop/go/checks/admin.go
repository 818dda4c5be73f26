package checks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (run *Run) addAdmin(checks map[string]func() string) {
	checks["unknown-topic"] = run.unknownTopic
	checks["invalid-topic"] = run.invalidTopic
	checks["too-large"] = run.tooLarge
	checks["topic-exists"] = run.topicExists
	checks["describe-topic"] = run.describeTopic
	checks["describe-configs"] = run.describeConfigs
	checks["alter-configs"] = run.alterConfigs
	checks["create-partitions"] = run.createPartitions
	checks["list-offsets"] = run.listOffsets
	checks["delete-records"] = run.deleteRecords
	checks["delete-topic"] = run.deleteTopic
	checks["refuse-compact"] = run.refuseCompact
}

func (run *Run) unknownTopic() string {
	topic := run.name("never-created")
	_, err := run.client.DescribeTopic(topic)
	run.code(err, UnknownTopic, "describe")
	run.code(run.client.DeleteTopic(topic), UnknownTopic, "delete")
	run.code(run.client.CreatePartitions(topic, 3), UnknownTopic, "create partitions")
	_, err = run.client.Produce(topic, numbered(1, 0, "value"), standard)
	run.code(err, UnknownTopic, "produce")
	return ""
}

func (run *Run) invalidTopic() string {
	for _, name := range []string{"bad/name", "bad name", "..", strings.Repeat("x", 250)} {
		run.code(run.client.CreateTopic(name, 1, nil), InvalidTopic, "create "+name)
	}
	return ""
}

func (run *Run) produceBig(topic string) error {
	_, err := run.client.Produce(topic, []Record{{Value: compressible(40_000)}}, standard)
	return err
}

func (run *Run) tooLarge() string {
	topic := run.createWith("too-large", 1, map[string]string{"max.message.bytes": "20000"})
	run.code(run.produceBig(topic), MessageTooLarge, "produce")
	run.produce(topic, numbered(1, 0, "value"))
	verify(run.read(topic, 1, 0, 1), numbered(1, 0, "value"), 0)
	return ""
}

func (run *Run) topicExists() string {
	topic := run.create("topic-exists", 1)
	run.code(run.client.CreateTopic(topic, 1, nil), TopicExists, "create")
	return ""
}

func (run *Run) describeTopic() string {
	partitions := need(run.client.DescribeTopic(run.create("describe-topic", 3)))
	equal(len(partitions), 3, "partitions")
	brokers := need(run.client.Brokers())
	for i, partition := range partitions {
		equal(partition.ID, int32(i), "partition")
		expect(len(partition.Replicas) > 0, "partition %d has no replica", i)
		for _, replica := range partition.Replicas {
			expect(slices.Contains(brokers, replica), "%d is not among %v", replica, brokers)
		}
		expect(slices.Contains(partition.Replicas, partition.Leader), "leader is no replica")
		expect(slices.Contains(partition.ISR, partition.Leader), "leader is not in sync")
	}
	return ""
}

func (run *Run) describeConfigs() string {
	topic := run.createWith("describe-configs", 1, map[string]string{"retention.ms": "7200000"})
	configs := need(run.client.Configs(topic))
	equal(configs["retention.ms"], Config{"7200000", false}, "retention.ms")
	equal(configs["cleanup.policy"], Config{"delete", true}, "cleanup.policy")
	for _, name := range []string{"retention.bytes", "segment.bytes", "max.message.bytes"} {
		need(strconv.ParseInt(configs[name].Value, 10, 64))
	}
	return ""
}

func (run *Run) alterConfigs() string {
	topic := run.createWith("alter-configs", 1, map[string]string{"retention.ms": "7200000"})
	limit := func() string { return need(run.client.Configs(topic))["max.message.bytes"].Value }
	set := func(name, value string) error { return run.client.AlterConfig(topic, name, &value) }
	original := limit()
	must(set("max.message.bytes", "34567"))
	eventually("altered", func() bool { return limit() == "34567" })
	equal(need(run.client.Configs(topic))["retention.ms"].Value, "7200000", "the one left alone")
	run.code(run.produceBig(topic), MessageTooLarge, "above the new limit")
	must(run.client.AlterConfig(topic, "max.message.bytes", nil))
	eventually("back at the default", func() bool { return limit() == original })
	must(run.produceBig(topic))
	run.code(set("retention.ms", "soon"), InvalidConfig, "a value that is no number")
	run.code(set("no.such.config", "1"), InvalidConfig, "a name that does not exist")
	return ""
}

func (run *Run) createPartitions() string {
	topic := run.create("create-partitions", 1)
	records := numbered(3, 0, "value")
	run.produce(topic, records)
	must(run.client.CreatePartitions(topic, 4))
	eventually("four partitions", func() bool {
		return len(need(run.client.DescribeTopic(topic))) == 4
	})
	for partition := range int32(3) {
		records = append(records, numbered(5, partition+1, "value")...)
	}
	run.produce(topic, records[3:])
	verify(run.read(topic, 4, 0, len(records)), records, 0)
	run.code(run.client.CreatePartitions(topic, 2), InvalidPartitions, "fewer than there are")
	return ""
}

func (run *Run) offset(topic string, partition int32, timestamp int64) int64 {
	offset, _, err := run.client.ListOffset(topic, partition, timestamp)
	must(err)
	return offset
}

func (run *Run) listOffsets() string {
	topic := run.create("list-offsets", 3)
	base := time.Now().UnixMilli() - 60_000
	var together []Record
	for _, age := range []int64{1000, 5000, 2000} {
		run.produce(topic, []Record{{Value: []byte("own batch"), TimestampMs: base + age}})
		one := Record{Partition: 1, Value: []byte("one batch"), TimestampMs: base + age}
		together = append(together, one)
	}
	run.produce(topic, together)
	for partition := range int32(2) {
		equal(run.offset(topic, partition, Earliest), int64(0), "earliest")
		equal(run.offset(topic, partition, Latest), int64(3), "latest")
		run.firstAt(topic, partition, base+1500, base+5000)
	}
	equal(run.offset(topic, 2, Latest), int64(0), "end of nothing")
	// Last, since not every client can ask for it.
	for partition := range int32(2) {
		run.firstAt(topic, partition, MaxTimestamp, base+5000)
	}
	equal(run.offset(topic, 2, MaxTimestamp), int64(-1), "max of nothing")
	return ""
}

// firstAt expects that asking for a timestamp finds offset 1 with that time.
func (run *Run) firstAt(topic string, partition int32, timestamp, time int64) {
	offset, found, err := run.client.ListOffset(topic, partition, timestamp)
	must(err)
	what := fmt.Sprintf("timestamp %d of partition %d", timestamp, partition)
	equal(offset, int64(1), what)
	equal(found, time, what+": its timestamp")
}

func (run *Run) deleteRecords() string {
	topic := run.create("delete-records", 1)
	run.produce(topic, numbered(20, 0, "value"))
	must(run.client.DeleteRecords(topic, 0, 12))
	eventually("earliest is 12", func() bool { return run.offset(topic, 0, Earliest) == 12 })
	verify(run.read(topic, 1, Earliest, 8), numbered(20, 0, "value")[12:], 12)
	run.code(run.client.DeleteRecords(topic, 0, 21), OffsetOutOfRange, "beyond the end")
	return ""
}

func (run *Run) deleteTopic() string {
	topic := run.create("delete-topic", 1)
	run.produce(topic, numbered(5, 0, "old"))
	must(run.client.DeleteTopic(topic))
	listed := func() bool { return slices.Contains(need(run.client.Topics()), topic) }
	eventually("the topic is gone", func() bool { return !listed() })
	run.create("delete-topic", 1)
	eventually("the topic is back", listed)
	equal(run.offset(topic, 0, Latest), int64(0), "end of the new topic")
	run.produce(topic, numbered(3, 0, "new"))
	verify(run.read(topic, 1, 0, 3), numbered(3, 0, "new"), 0)
	return ""
}

func (run *Run) refuseCompact() string {
	compact := "compact"
	err := run.client.CreateTopic(
		run.name("refuse-compact"), 1, map[string]string{"cleanup.policy": compact})
	run.code(err, InvalidConfig, "create")
	topic := run.create("refuse-compact-later", 1)
	run.code(run.client.AlterConfig(topic, "cleanup.policy", &compact), InvalidConfig, "alter")
	return ""
}
