package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"highwater/interop/checks"
)

type member struct {
	group    sarama.ConsumerGroup
	network  *checks.Network
	messages chan *sarama.ConsumerMessage
	cancel   context.CancelFunc
	done     chan struct{}
	closing  sync.Once

	mutex       sync.Mutex
	session     sarama.ConsumerGroupSession
	owned       map[string]bool
	revoked     []string
	assignments int
}

func (client *client) Join(how checks.Join) (checks.Member, error) {
	if how.Pattern {
		checks.Skip("sarama has none: ConsumerGroup.Consume takes topic names only")
	}
	joined := &member{
		network:  &checks.Network{},
		messages: make(chan *sarama.ConsumerMessage),
		done:     make(chan struct{}),
		owned:    map[string]bool{},
	}
	config := client.config()
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = checks.SessionLimit
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Group.InstanceId = how.InstanceID
	config.Metadata.RefreshFrequency = time.Second
	config.Net.Proxy.Enable = true
	config.Net.Proxy.Dialer = joined.network
	if how.Cooperative {
		config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{
			sarama.NewBalanceStrategyCooperativeSticky(),
		}
	}
	group, err := sarama.NewConsumerGroup(client.addresses, how.Group, config)
	if err != nil {
		return nil, err
	}
	joined.group = group
	var ctx context.Context
	ctx, joined.cancel = context.WithCancel(context.Background())
	go func() {
		for err := range group.Errors() {
			fmt.Fprintf(os.Stderr, "sarama: %s: %v\n", how.Group, err)
		}
	}()
	go func() {
		defer close(joined.done)
		for ctx.Err() == nil {
			if err := group.Consume(ctx, how.Topics, joined); err != nil {
				// A member that was cut off is told so again and again.
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return joined, nil
}

// Setup is the handler's: it starts a session.
func (member *member) Setup(session sarama.ConsumerGroupSession) error {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	member.session = session
	member.assignments++
	return nil
}

// Cleanup is the handler's: it ends a session.
func (member *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim is the handler's: it owns one partition for as long as it runs.
func (member *member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	name := checks.TopicPartition(claim.Topic(), claim.Partition())
	member.mutex.Lock()
	member.owned[name] = true
	member.mutex.Unlock()
	defer func() {
		member.mutex.Lock()
		defer member.mutex.Unlock()
		delete(member.owned, name)
		member.revoked = append(member.revoked, name)
	}()
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case member.messages <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
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

func (member *member) Poll(limit time.Duration) ([]checks.Record, error) {
	return collect(member.messages, limit), nil
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

func (member *member) current() sarama.ConsumerGroupSession {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return member.session
}

// Commit marks and commits. The session reports no error; what is stored tells.
func (member *member) Commit(topic string, partition int32, at checks.Committed) error {
	session := member.current()
	session.MarkOffset(topic, partition, at.Offset, at.Metadata)
	// A mark never goes back nor changes metadata alone; a reset does.
	session.ResetOffset(topic, partition, at.Offset, at.Metadata)
	session.Commit()
	return nil
}

func (member *member) CommitLater(
	topic string, partition int32, at checks.Committed,
) (<-chan error, error) {
	checks.Skip("sarama has none: ConsumerGroupSession.Commit blocks, the rest is its own timer")
	return nil, nil
}

func (member *member) Pause(topic string, partition int32) {
	member.group.Pause(map[string][]int32{topic: {partition}})
}

func (member *member) Resume(topic string, partition int32) {
	member.group.Resume(map[string][]int32{topic: {partition}})
}

func (member *member) Crash() { member.network.Cut() }

func (member *member) Close() {
	member.closing.Do(func() {
		member.cancel()
		<-member.done
		member.group.Close()
	})
}
