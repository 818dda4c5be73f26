package main

import (
	"time"

	"github.com/IBM/sarama"

	"highwater/interop/checks"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

var acks = map[string]sarama.RequiredAcks{
	"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse,
}

func (client *client) Produce(
	topic string, records []checks.Record, how checks.Produce,
) ([]int64, error) {
	config := client.config()
	config.Producer.RequiredAcks = acks[how.Acks]
	config.Producer.Compression = codecs[how.Codec]
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	if how.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1 // sarama insists
		config.Producer.Flush.MaxMessages = how.BatchRecordsMax
		config.Producer.Flush.Frequency = time.Millisecond
	}
	if how.RequestBytesMax > 0 {
		config.Producer.MaxMessageBytes = how.RequestBytesMax
	}
	producer, err := sarama.NewSyncProducer(client.addresses, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var sent []*sarama.ProducerMessage
	for _, record := range records {
		sent = append(sent, message(topic, record))
	}
	if err := producer.SendMessages(sent); err != nil {
		if several, ok := err.(sarama.ProducerErrors); ok {
			return nil, several[0].Err
		}
		return nil, err
	}
	offsets := make([]int64, len(sent))
	for i, one := range sent {
		offsets[i] = one.Offset
	}
	return offsets, nil
}

func message(topic string, record checks.Record) *sarama.ProducerMessage {
	one := &sarama.ProducerMessage{Topic: topic, Partition: record.Partition}
	if record.Key != nil {
		one.Key = sarama.ByteEncoder(record.Key)
	}
	if record.Value != nil {
		one.Value = sarama.ByteEncoder(record.Value)
	}
	if record.TimestampMs != 0 {
		one.Timestamp = time.UnixMilli(record.TimestampMs)
	}
	for _, header := range record.Headers {
		one.Headers = append(one.Headers, sarama.RecordHeader{
			Key: []byte(header.Name), Value: header.Value,
		})
	}
	return one
}

func received(message *sarama.ConsumerMessage) checks.Record {
	one := checks.Record{
		Topic: message.Topic, Partition: message.Partition, Offset: message.Offset,
		Key: message.Key, Value: message.Value, TimestampMs: message.Timestamp.UnixMilli(),
	}
	for _, header := range message.Headers {
		one.Headers = append(one.Headers, checks.Header{Name: string(header.Key), Value: header.Value})
	}
	return one
}

type reader struct {
	consumer   sarama.Consumer
	partitions []sarama.PartitionConsumer
	messages   chan *sarama.ConsumerMessage
	failed     error
}

func (client *client) Read(topic string, from map[int32]int64) (checks.Reader, error) {
	config := client.config()
	config.Consumer.Return.Errors = true
	consumer, err := sarama.NewConsumer(client.addresses, config)
	if err != nil {
		return nil, err
	}
	reader := &reader{consumer: consumer, messages: make(chan *sarama.ConsumerMessage)}
	for number, offset := range from {
		// sarama numbers the latest and the earliest offset as the protocol does.
		partition, err := consumer.ConsumePartition(topic, number, offset)
		if err != nil {
			// It asks for the range first, and so refuses here what others meet when fetching.
			reader.failed = err
			break
		}
		reader.partitions = append(reader.partitions, partition)
		go func() {
			for message := range partition.Messages() {
				reader.messages <- message
			}
		}()
	}
	return reader, nil
}

func (reader *reader) Poll(limit time.Duration) ([]checks.Record, error) {
	if reader.failed != nil {
		return nil, reader.failed
	}
	return collect(reader.messages, limit), nil
}

// collect waits for the first message at most that long, then takes what is there.
func collect(messages <-chan *sarama.ConsumerMessage, limit time.Duration) []checks.Record {
	var records []checks.Record
	wait := time.After(limit)
	for {
		select {
		case message := <-messages:
			records = append(records, received(message))
			wait = time.After(5 * time.Millisecond)
		case <-wait:
			return records
		}
	}
}

func (reader *reader) Close() {
	for _, partition := range reader.partitions {
		partition.AsyncClose()
	}
	// What was read ahead is taken off the channel, so that the partitions can end.
	collect(reader.messages, 10*time.Millisecond)
	reader.consumer.Close()
}
