// The sarama client under test.
package main

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"highwater/interop/checks"
)

func main() {
	checks.Main(func(bootstrap string) (checks.Client, error) {
		client := &client{addresses: []string{bootstrap}}
		var err error
		client.admin, err = sarama.NewClusterAdmin(client.addresses, client.config())
		return client, err
	})
}

type client struct {
	addresses []string
	admin     sarama.ClusterAdmin
}

func (client *client) config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Admin.Timeout = checks.Limit
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

func (client *client) Name() string { return "sarama" }

func (client *client) Close() { client.admin.Close() }

func (client *client) Code(err error) (int16, bool) {
	var code sarama.KError
	var topic *sarama.TopicError
	var partition *sarama.TopicPartitionError
	switch {
	case errors.As(err, &topic):
		return int16(topic.Err), true
	case errors.As(err, &partition):
		return int16(partition.Err), true
	case errors.As(err, &code):
		return int16(code), true
	}
	return 0, false
}

func (client *client) CreateTopic(
	topic string, partitions int32, configs map[string]string,
) error {
	detail := &sarama.TopicDetail{
		NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{},
	}
	for name, value := range configs {
		detail.ConfigEntries[name] = &value
	}
	return client.admin.CreateTopic(topic, detail, false)
}

func (client *client) DeleteTopic(topic string) error { return client.admin.DeleteTopic(topic) }

func (client *client) Topics() ([]string, error) {
	// The admin's ListTopics asks for configs too; the list itself is in the metadata.
	metadata, err := sarama.NewClient(client.addresses, client.config())
	if err != nil {
		return nil, err
	}
	defer metadata.Close()
	return metadata.Topics()
}

func (client *client) DescribeTopic(topic string) ([]checks.Partition, error) {
	described, err := client.admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	if described[0].Err != sarama.ErrNoError {
		return nil, described[0].Err
	}
	partitions := make([]checks.Partition, len(described[0].Partitions))
	for _, found := range described[0].Partitions {
		if int(found.ID) >= len(partitions) {
			return nil, fmt.Errorf("partition %d of %d", found.ID, len(partitions))
		}
		partitions[found.ID] = checks.Partition{
			ID: found.ID, Leader: found.Leader, Replicas: found.Replicas, ISR: found.Isr,
		}
	}
	return partitions, nil
}

func (client *client) Brokers() ([]int32, error) {
	brokers, _, err := client.admin.DescribeCluster()
	var ids []int32
	for _, broker := range brokers {
		ids = append(ids, broker.ID())
	}
	return ids, err
}

func (client *client) Configs(topic string) (map[string]checks.Config, error) {
	entries, err := client.admin.DescribeConfig(
		sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	configs := map[string]checks.Config{}
	for _, entry := range entries {
		configs[entry.Name] = checks.Config{
			Value: entry.Value, Default: entry.Source != sarama.SourceTopic,
		}
	}
	return configs, err
}

func (client *client) AlterConfig(topic, name string, value *string) error {
	entry := sarama.IncrementalAlterConfigsEntry{
		Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value,
	}
	if value == nil {
		entry.Operation = sarama.IncrementalAlterConfigsOperationDelete
	}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{name: entry}
	return client.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (client *client) CreatePartitions(topic string, total int32) error {
	return client.admin.CreatePartitions(topic, total, nil, false)
}

func (client *client) ListOffset(
	topic string, partition int32, timestamp int64,
) (int64, int64, error) {
	if timestamp == checks.MaxTimestamp {
		checks.Skip("all shown but the max timestamp: it came with ListOffsets version 7, " +
			"and sarama's newest is 6 (offset_request.go)")
	}
	asked := map[string]map[int32]int64{topic: {partition: timestamp}}
	listed, err := client.admin.ListOffsets(asked, nil)
	if err != nil {
		return 0, 0, err
	}
	found := listed[topic][partition]
	if found == nil {
		return 0, 0, fmt.Errorf("no answer for partition %d", partition)
	}
	if found.Err != nil && found.Err != sarama.ErrNoError {
		return 0, 0, found.Err
	}
	return found.Offset, found.Timestamp, nil
}

func (client *client) DeleteRecords(topic string, partition int32, offset int64) error {
	return client.admin.DeleteRecords(topic, map[int32]int64{partition: offset})
}

func (client *client) Groups() (map[string]string, error) {
	return client.admin.ListConsumerGroups()
}

func (client *client) DescribeGroup(group string) (checks.Group, error) {
	described, err := client.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return checks.Group{}, err
	}
	one := described[0]
	found := checks.Group{
		State: one.State, ProtocolType: one.ProtocolType, Protocol: one.Protocol,
	}
	for _, member := range one.Members {
		assignment, err := member.GetMemberAssignment()
		if err != nil {
			return found, err
		}
		found.Members = append(found.Members, written(assignment.Topics))
	}
	if one.Err != sarama.ErrNoError {
		return found, one.Err
	}
	return found, nil
}

func (client *client) DeleteGroup(group string) error {
	return client.admin.DeleteConsumerGroup(group)
}

func (client *client) Committed(
	group, topic string, partition int32,
) (checks.Committed, error) {
	asked := map[string][]int32{topic: {partition}}
	response, err := client.admin.ListConsumerGroupOffsets(group, asked)
	if err != nil {
		return checks.Committed{}, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return checks.Committed{Offset: -1}, nil
	}
	if block.Err != sarama.ErrNoError {
		return checks.Committed{}, block.Err
	}
	return checks.Committed{Offset: block.Offset, Metadata: block.Metadata}, nil
}

func (client *client) ResetOffset(group, topic string, partition int32, offset int64) error {
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{
		topic: {partition: {Offset: offset, LeaderEpoch: -1}},
	}
	response, err := client.admin.AlterConsumerGroupOffsets(group, offsets, nil)
	if err != nil {
		return err
	}
	if code := response.Errors[topic][partition]; code != sarama.ErrNoError {
		return code
	}
	return nil
}
