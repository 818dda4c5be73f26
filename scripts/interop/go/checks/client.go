// Package checks is what the Go clients share: the checks themselves, written against the
// interfaces of this file. Each client's program implements them with its own library alone.
package checks

import "time"

// Limit is the longest wait for any single answer; a healthy broker on loopback needs milliseconds.
const Limit = 20 * time.Second

// SessionLimit is the session timeout of group members: the shortest that brokers allow by default.
const SessionLimit = 6 * time.Second

// Offsets that ListOffset takes in place of a timestamp, as the protocol numbers them.
const (
	Latest       = -1
	Earliest     = -2
	MaxTimestamp = -3
)

// Kafka's error codes that checks expect.
const (
	OffsetOutOfRange  = 1
	UnknownTopic      = 3
	MessageTooLarge   = 10
	InvalidTopic      = 17
	UnknownMemberID   = 25
	TopicExists       = 36
	InvalidPartitions = 37
	InvalidConfig     = 40
	NonEmptyGroup     = 68
	GroupIDNotFound   = 69
)

// Header is one header of a record; a nil value is a null.
type Header struct {
	Name  string
	Value []byte
}

// Record is one record as it is sent and as it came back; TimestampMs 0 lets the client choose.
type Record struct {
	Topic       string
	Partition   int32
	Offset      int64
	Key, Value  []byte
	Headers     []Header
	TimestampMs int64
}

// Produce says how records are sent.
type Produce struct {
	Acks       string // "all", "1" or "0"
	Codec      string // "none", "gzip", "snappy", "lz4" or "zstd"
	Idempotent bool
	// BatchRecordsMax bounds a batch where the client has such a bound; 0 leaves it alone.
	BatchRecordsMax int
	RequestBytesMax int
}

// Partition is one partition of a topic as metadata describes it.
type Partition struct {
	ID, Leader    int32
	Replicas, ISR []int32
}

// Config is one configuration of a topic; Default says that nobody set it for this topic.
type Config struct {
	Value   string
	Default bool
}

// Committed is one committed offset.
type Committed struct {
	Offset   int64
	Metadata string
}

// Group is a consumer group as it is described.
type Group struct {
	State, ProtocolType, Protocol string
	// Members holds what each member owns, as TopicPartition writes it.
	Members [][]string
}

// Join says how a member joins its group.
type Join struct {
	Group       string
	Topics      []string
	Pattern     bool   // Topics holds one regular expression
	InstanceID  string // a static member if not empty
	Cooperative bool
}

// Client is one client library, connected to the broker under test.
type Client interface {
	Name() string
	// Code is the Kafka error code inside an error, false if there is none.
	Code(err error) (int16, bool)

	CreateTopic(topic string, partitions int32, configs map[string]string) error
	DeleteTopic(topic string) error
	Topics() ([]string, error)
	DescribeTopic(topic string) ([]Partition, error)
	Brokers() ([]int32, error)
	Configs(topic string) (map[string]Config, error)
	// AlterConfig sets one configuration, or deletes it if value is nil.
	AlterConfig(topic, name string, value *string) error
	CreatePartitions(topic string, total int32) error
	ListOffset(topic string, partition int32, timestamp int64) (offset, found int64, err error)
	DeleteRecords(topic string, partition int32, offset int64) error

	Groups() (map[string]string, error)
	DescribeGroup(group string) (Group, error)
	DeleteGroup(group string) error
	Committed(group, topic string, partition int32) (Committed, error)
	ResetOffset(group, topic string, partition int32, offset int64) error

	// Produce sends all and returns the offsets in the order sent.
	Produce(topic string, records []Record, how Produce) ([]int64, error)
	// Read starts reading partitions by assignment, each from the offset given.
	Read(topic string, from map[int32]int64) (Reader, error)
	Join(how Join) (Member, error)
	Close()
}

// Reader reads by assignment.
type Reader interface {
	// Poll returns what came, waiting for the first record at most that long.
	Poll(limit time.Duration) ([]Record, error)
	Close()
}

// Member is one member of a consumer group.
type Member interface {
	Reader // Close leaves the group, unless the member is static
	// Owned is what the member owns now, sorted, as TopicPartition writes it.
	Owned() []string
	// Revoked is whatever was ever taken from it; Assignments counts how often something was given.
	Revoked() []string
	Assignments() int
	Commit(topic string, partition int32, at Committed) error
	// CommitLater commits without waiting; the channel gets the outcome.
	CommitLater(topic string, partition int32, at Committed) (<-chan error, error)
	Pause(topic string, partition int32)
	Resume(topic string, partition int32)
	// Crash cuts the member's connections: the broker hears nothing of it any more.
	Crash()
}
