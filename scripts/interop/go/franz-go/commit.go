package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"highwater/interop/checks"
)

// CommitLater commits as this member; kgo takes the metadata by a hook on the request.
func (member *member) CommitLater(
	topic string, partition int32, at checks.Committed,
) (<-chan error, error) {
	done := make(chan error, 1)
	ctx := kgo.PreCommitFnContext(context.Background(), func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			for j := range request.Topics[i].Partitions {
				request.Topics[i].Partitions[j].Metadata = &at.Metadata
			}
		}
		return nil
	})
	offset := kgo.EpochOffset{Epoch: -1, Offset: at.Offset}
	member.client.CommitOffsets(
		ctx,
		map[string]map[int32]kgo.EpochOffset{topic: {partition: offset}},
		func(
			_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error,
		) {
			if err == nil {
				err = kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
			}
			done <- err
		},
	)
	return done, nil
}
