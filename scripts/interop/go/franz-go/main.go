// The franz-go client (kgo and kadm) under test.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"highwater/interop/checks"
)

func main() {
	checks.Main(func(bootstrap string) (checks.Client, error) {
		client := &client{bootstrap: bootstrap}
		general, err := client.open()
		if err != nil {
			return nil, err
		}
		client.admin = kadm.NewClient(general)
		return client, nil
	})
}

type client struct {
	bootstrap string
	admin     *kadm.Client
}

func (client *client) open(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(client.bootstrap),
		kgo.RetryTimeout(checks.Limit),
		// By default a look at a topic created just now waits five seconds.
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, more...)...)
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), checks.Limit)
}

func (client *client) Name() string { return "franz-go" }

func (client *client) Close() { client.admin.Close() }

func (client *client) Code(err error) (int16, bool) {
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Code, true
	}
	return 0, false
}

func (client *client) CreateTopic(
	topic string, partitions int32, configs map[string]string,
) error {
	ctx, cancel := limited()
	defer cancel()
	given := map[string]*string{}
	for name, value := range configs {
		given[name] = &value
	}
	_, err := client.admin.CreateTopic(ctx, partitions, 1, given, topic)
	return err
}

func (client *client) DeleteTopic(topic string) error {
	ctx, cancel := limited()
	defer cancel()
	_, err := client.admin.DeleteTopic(ctx, topic)
	return err
}

func (client *client) Topics() ([]string, error) {
	ctx, cancel := limited()
	defer cancel()
	details, err := client.admin.ListTopics(ctx)
	return details.Names(), err
}

func (client *client) DescribeTopic(topic string) ([]checks.Partition, error) {
	ctx, cancel := limited()
	defer cancel()
	details, err := client.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := details[topic].Err; err != nil {
		return nil, err
	}
	var partitions []checks.Partition
	for _, found := range details[topic].Partitions.Sorted() {
		partitions = append(partitions, checks.Partition{
			ID: found.Partition, Leader: found.Leader, Replicas: found.Replicas, ISR: found.ISR,
		})
	}
	return partitions, nil
}

func (client *client) Brokers() ([]int32, error) {
	ctx, cancel := limited()
	defer cancel()
	brokers, err := client.admin.ListBrokers(ctx)
	return brokers.NodeIDs(), err
}

func (client *client) Configs(topic string) (map[string]checks.Config, error) {
	ctx, cancel := limited()
	defer cancel()
	resources, err := client.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	resource, err := resources.On(topic, nil)
	if err != nil {
		return nil, err
	}
	configs := map[string]checks.Config{}
	for _, found := range resource.Configs {
		isDefault := found.Source.String() != "DYNAMIC_TOPIC_CONFIG"
		configs[found.Key] = checks.Config{Value: found.MaybeValue(), Default: isDefault}
	}
	return configs, resource.Err
}

func (client *client) AlterConfig(topic, name string, value *string) error {
	ctx, cancel := limited()
	defer cancel()
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value}
	if value == nil {
		change.Op = kadm.DeleteConfig
	}
	responses, err := client.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	response, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return response.Err
}

func (client *client) CreatePartitions(topic string, total int32) error {
	ctx, cancel := limited()
	defer cancel()
	responses, err := client.admin.UpdatePartitions(ctx, int(total), topic)
	if err != nil {
		return err
	}
	response, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return response.Err
}

func (client *client) ListOffset(
	topic string, partition int32, timestamp int64,
) (int64, int64, error) {
	ctx, cancel := limited()
	defer cancel()
	var listed kadm.ListedOffsets
	var err error
	switch timestamp {
	case checks.Earliest:
		listed, err = client.admin.ListStartOffsets(ctx, topic)
	case checks.Latest:
		listed, err = client.admin.ListEndOffsets(ctx, topic)
	case checks.MaxTimestamp:
		listed, err = client.admin.ListMaxTimestampOffsets(ctx, topic)
	default:
		listed, err = client.admin.ListOffsetsAfterMilli(ctx, timestamp, topic)
	}
	if err != nil {
		return 0, 0, err
	}
	found, ok := listed.Lookup(topic, partition)
	if !ok {
		return 0, 0, fmt.Errorf("no answer for partition %d", partition)
	}
	return found.Offset, found.Timestamp, found.Err
}

func (client *client) DeleteRecords(topic string, partition int32, offset int64) error {
	ctx, cancel := limited()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	responses, err := client.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	response, found := responses.Lookup(topic, partition)
	if found && response.Err == nil && response.LowWatermark != offset {
		return fmt.Errorf("low watermark %d, expected %d", response.LowWatermark, offset)
	}
	return response.Err
}

func (client *client) Groups() (map[string]string, error) {
	ctx, cancel := limited()
	defer cancel()
	listed, err := client.admin.ListGroups(ctx)
	groups := map[string]string{}
	for _, group := range listed {
		groups[group.Group] = group.ProtocolType
	}
	return groups, err
}

func (client *client) DescribeGroup(group string) (checks.Group, error) {
	ctx, cancel := limited()
	defer cancel()
	described, err := client.admin.DescribeGroups(ctx, group)
	if err != nil {
		return checks.Group{}, err
	}
	one, err := described.On(group, nil)
	if err != nil {
		return checks.Group{}, err
	}
	found := checks.Group{
		State: one.State, ProtocolType: one.ProtocolType, Protocol: one.Protocol,
	}
	for _, member := range one.Members {
		assigned, _ := member.Assigned.AsConsumer()
		owned := map[string][]int32{}
		for _, topic := range assigned.Topics {
			owned[topic.Topic] = topic.Partitions
		}
		found.Members = append(found.Members, written(owned))
	}
	return found, one.Err
}

func (client *client) DeleteGroup(group string) error {
	ctx, cancel := limited()
	defer cancel()
	_, err := client.admin.DeleteGroup(ctx, group)
	return err
}

func (client *client) Committed(
	group, topic string, partition int32,
) (checks.Committed, error) {
	ctx, cancel := limited()
	defer cancel()
	responses, err := client.admin.FetchOffsetsForTopics(ctx, group, topic)
	if err != nil {
		return checks.Committed{}, err
	}
	found, ok := responses.Lookup(topic, partition)
	if !ok {
		return checks.Committed{Offset: -1}, nil
	}
	return checks.Committed{Offset: found.At, Metadata: found.Metadata}, found.Err
}

func (client *client) ResetOffset(group, topic string, partition int32, offset int64) error {
	ctx, cancel := limited()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	responses, err := client.admin.CommitOffsets(ctx, group, offsets)
	if err != nil {
		return err
	}
	return responses.Error()
}
