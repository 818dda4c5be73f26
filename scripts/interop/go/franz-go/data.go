package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"highwater/interop/checks"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

var acks = map[string]kgo.Acks{
	"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck(),
}

func (client *client) Produce(
	topic string, records []checks.Record, how checks.Produce,
) ([]int64, error) {
	options := []kgo.Opt{
		kgo.RequiredAcks(acks[how.Acks]),
		kgo.ProducerBatchCompression(codecs[how.Codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	if !how.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	} else {
		// Small batches, so that many are under way at once.
		options = append(options, kgo.ProducerBatchMaxBytes(1024), kgo.ProducerLinger(0))
	}
	if how.RequestBytesMax > 0 {
		// The bound is on what is sent, but a batch is filled before it is compressed.
		options = append(options, kgo.ProducerBatchMaxBytes(int32(how.RequestBytesMax)))
	}
	producer, err := client.open(options...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	ctx, cancel := limited()
	defer cancel()
	var sent []*kgo.Record
	for _, record := range records {
		one := &kgo.Record{
			Topic: topic, Partition: record.Partition, Key: record.Key, Value: record.Value,
		}
		if record.TimestampMs != 0 {
			one.Timestamp = time.UnixMilli(record.TimestampMs)
		}
		for _, header := range record.Headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		sent = append(sent, one)
	}
	if err := producer.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return nil, err
	}
	if how.Idempotent {
		if _, _, err := producer.ProducerID(ctx); err != nil {
			return nil, err
		}
	}
	offsets := make([]int64, len(sent))
	for i, record := range sent {
		offsets[i] = record.Offset
	}
	return offsets, nil
}

type reader struct{ client *kgo.Client }

func (reader reader) Close() { reader.client.Close() }

func (reader reader) Poll(limit time.Duration) ([]checks.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	fetches := reader.client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		if failed.Err != context.DeadlineExceeded {
			return nil, failed.Err
		}
	}
	var records []checks.Record
	fetches.EachRecord(func(record *kgo.Record) { records = append(records, received(record)) })
	return records, nil
}

func received(record *kgo.Record) checks.Record {
	one := checks.Record{
		Topic: record.Topic, Partition: record.Partition, Offset: record.Offset,
		Key: record.Key, Value: record.Value, TimestampMs: record.Timestamp.UnixMilli(),
	}
	for _, header := range record.Headers {
		one.Headers = append(one.Headers, checks.Header{Name: header.Key, Value: header.Value})
	}
	return one
}

func (client *client) Read(topic string, from map[int32]int64) (checks.Reader, error) {
	offsets := map[int32]kgo.Offset{}
	for partition, offset := range from {
		switch offset {
		case checks.Earliest:
			offsets[partition] = kgo.NewOffset().AtStart()
		case checks.Latest:
			offsets[partition] = kgo.NewOffset().AtEnd()
		default:
			offsets[partition] = kgo.NewOffset().At(offset)
		}
	}
	consumer, err := client.open(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	return reader{consumer}, err
}

type member struct {
	reader
	network     *checks.Network
	mutex       sync.Mutex
	owned       map[string]bool
	revoked     []string
	assignments int
}

func (client *client) Join(how checks.Join) (checks.Member, error) {
	joined := &member{network: &checks.Network{}, owned: map[string]bool{}}
	options := []kgo.Opt{
		kgo.ConsumerGroup(how.Group),
		kgo.ConsumeTopics(how.Topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(checks.SessionLimit),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.MetadataMaxAge(time.Second),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.Dialer(joined.network.DialContext),
		kgo.OnPartitionsAssigned(joined.given),
		kgo.OnPartitionsRevoked(joined.taken),
		kgo.OnPartitionsLost(joined.taken),
	}
	if how.Pattern {
		options = append(options, kgo.ConsumeRegex())
	}
	if how.InstanceID != "" {
		options = append(options, kgo.InstanceID(how.InstanceID))
	}
	if how.Cooperative {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	consumer, err := client.open(options...)
	joined.reader = reader{consumer}
	return joined, err
}

// given runs even when a rebalance brings nothing new, which is no assignment to count.
func (member *member) given(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	names := written(partitions)
	if len(names) > 0 {
		member.assignments++
	}
	for _, name := range names {
		member.owned[name] = true
	}
}

func (member *member) taken(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	for _, name := range written(partitions) {
		delete(member.owned, name)
		member.revoked = append(member.revoked, name)
	}
}

func written(partitions map[string][]int32) []string {
	var names []string
	for topic, numbers := range partitions {
		for _, number := range numbers {
			names = append(names, checks.TopicPartition(topic, number))
		}
	}
	slices.Sort(names)
	return names
}

func (member *member) Owned() []string {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	var names []string
	for name := range member.owned {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (member *member) Revoked() []string {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return slices.Clone(member.revoked)
}

func (member *member) Assignments() int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return member.assignments
}

func (member *member) Commit(topic string, partition int32, at checks.Committed) error {
	done, err := member.CommitLater(topic, partition, at)
	if err != nil {
		return err
	}
	return <-done
}

func (member *member) Pause(topic string, partition int32) {
	member.client.PauseFetchPartitions(map[string][]int32{topic: {partition}})
}

func (member *member) Resume(topic string, partition int32) {
	member.client.ResumeFetchPartitions(map[string][]int32{topic: {partition}})
}

func (member *member) Crash() { member.network.Cut() }
