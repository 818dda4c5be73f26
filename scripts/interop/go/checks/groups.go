package checks

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

func (run *Run) addGroups(checks map[string]func() string) {
	checks["group-two-rebalances"] = run.groupTwoRebalances
	checks["group-cooperative"] = run.groupCooperative
	checks["group-static"] = run.groupStatic
	checks["commit-sync"] = run.commitSync
	checks["commit-async"] = run.commitAsync
	checks["metadata-commit"] = run.metadataCommit
	checks["crash-resume"] = run.crashResume
	checks["reset-offsets"] = run.resetOffsets
	checks["list-groups"] = run.listGroups
	checks["describe-group"] = run.describeGroup
	checks["delete-group"] = run.deleteGroup
	checks["pause-resume"] = run.pauseResume
	checks["regex-subscription"] = run.regexSubscription
	checks["fan-in"] = run.fanIn
	checks["fan-out"] = run.fanOut
}

// TopicPartition is how owned partitions are written.
func TopicPartition(topic string, partition int32) string {
	return fmt.Sprintf("%s/%d", topic, partition)
}

// RebalanceLimit is enough for a session to expire and all others to join again.
const RebalanceLimit = 3 * SessionLimit

func (run *Run) join(group string, topics ...string) Member {
	return need(run.client.Join(Join{Group: group, Topics: topics}))
}

func whole(topic string, count int32) []string {
	var all []string
	for partition := range count {
		all = append(all, TopicPartition(topic, partition))
	}
	return all
}

// shared waits until the members own every partition of the topic exactly once, each something.
func shared(topic string, count int32, members ...Member) {
	what := fmt.Sprintf("%d members own each of %d partitions once", len(members), count)
	eventuallyWithin(RebalanceLimit, what, func() bool {
		var owned []string
		for _, member := range members {
			// A member that is polled takes part in rebalances; these topics hold no records.
			need(member.Poll(20 * time.Millisecond))
			if len(member.Owned()) == 0 {
				return false
			}
			owned = append(owned, member.Owned()...)
		}
		slices.Sort(owned)
		return slices.Equal(owned, whole(topic, count))
	})
}

func (run *Run) groupTwoRebalances() string {
	topic, group := run.create("group-two-rebalances", 4), run.name("group-two-rebalances")
	first := run.join(group, topic)
	defer first.Close()
	shared(topic, 4, first)
	second := run.join(group, topic)
	defer second.Close()
	shared(topic, 4, first, second)
	second.Crash()
	shared(topic, 4, first)
	return ""
}

func (run *Run) groupCooperative() string {
	topic, group := run.create("group-cooperative", 4), run.name("group-cooperative")
	how := Join{Group: group, Topics: []string{topic}, Cooperative: true}
	first := need(run.client.Join(how))
	defer first.Close()
	shared(topic, 4, first)
	second := need(run.client.Join(how))
	defer second.Close()
	shared(topic, 4, first, second)
	// Only what moved was taken; what stayed was never given up in between.
	revoked := first.Revoked()
	slices.Sort(revoked)
	equal(revoked, second.Owned(), "revoked from the first member")
	equal(need(run.client.DescribeGroup(group)).Protocol, "cooperative-sticky", "assignor")
	return ""
}

func (run *Run) groupStatic() string {
	topic, group := run.create("group-static", 4), run.name("group-static")
	join := func(instance string) Member {
		return need(run.client.Join(
			Join{Group: group, Topics: []string{topic}, InstanceID: instance}))
	}
	first := join("first")
	defer first.Close()
	shared(topic, 4, first)
	second := join("second")
	shared(topic, 4, first, second)
	owned, assignments := second.Owned(), first.Assignments()
	second.Crash()
	second.Close()
	second = join("second")
	defer second.Close()
	eventually("the restarted member owns what it owned", func() bool {
		need(first.Poll(20 * time.Millisecond))
		need(second.Poll(20 * time.Millisecond))
		return slices.Equal(second.Owned(), owned)
	})
	equal(first.Assignments(), assignments, "assignments of the member that stayed")
	return ""
}

func (run *Run) commitSync() string {
	topic, group := run.create("commit-sync", 1), run.name("commit-sync")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	verify(poll(member, 10), numbered(10, 0, "value"), 0)
	must(member.Commit(topic, 0, Committed{Offset: 6}))
	equal(need(run.client.Committed(group, topic, 0)).Offset, int64(6), "committed")
	member.Close()
	run.resumes(group, topic, 6)
	return ""
}

// resumes expects that a new member reads the ten records of the topic from that offset.
func (run *Run) resumes(group, topic string, offset int64) {
	member := run.join(group, topic)
	defer member.Close()
	verify(poll(member, int(10-offset)), numbered(10, 0, "value")[offset:], offset)
}

func (run *Run) commitAsync() string {
	topic, group := run.create("commit-async", 1), run.name("commit-async")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	verify(poll(member, 10), numbered(10, 0, "value"), 0)
	done := need(member.CommitLater(topic, 0, Committed{Offset: 4}))
	select {
	case err := <-done:
		must(err)
	case <-time.After(Limit):
		expect(false, "the commit was never answered")
	}
	eventually("committed", func() bool {
		return need(run.client.Committed(group, topic, 0)).Offset == 4
	})
	member.Close()
	run.resumes(group, topic, 4)
	return ""
}

func (run *Run) metadataCommit() string {
	topic, group := run.create("metadata-commit", 1), run.name("metadata-commit")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	defer member.Close()
	poll(member, 10)
	for _, metadata := range []string{"r\u00e9sum\u00e9 at \U0001f30a", ""} {
		must(member.Commit(topic, 0, Committed{5, metadata}))
		equal(need(run.client.Committed(group, topic, 0)), Committed{5, metadata}, "committed")
	}
	return ""
}

func (run *Run) crashResume() string {
	topic, group := run.create("crash-resume", 1), run.name("crash-resume")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	defer member.Close()
	poll(member, 10)
	must(member.Commit(topic, 0, Committed{Offset: 5}))
	member.Crash()
	run.resumes(group, topic, 5)
	return ""
}

func (run *Run) resetOffsets() string {
	topic, group := run.create("reset-offsets", 1), run.name("reset-offsets")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	poll(member, 10)
	must(member.Commit(topic, 0, Committed{Offset: 10}))
	err := run.client.ResetOffset(group, topic, 0, 2)
	run.code(err, UnknownMemberID, "resetting a group that has members")
	member.Close()
	run.becomes(group, "Empty")
	for _, offset := range []int64{2, 7} {
		must(run.client.ResetOffset(group, topic, 0, offset))
		equal(need(run.client.Committed(group, topic, 0)).Offset, offset, "reset")
	}
	run.resumes(group, topic, 7)
	return ""
}

func (run *Run) becomes(group, state string) {
	eventually(group+" is "+state, func() bool {
		return need(run.client.DescribeGroup(group)).State == state
	})
}

func (run *Run) listGroups() string {
	topic, group := run.create("list-groups", 1), run.name("list-groups")
	_, before := need(run.client.Groups())[group]
	expect(!before, "listed before it exists")
	member := run.join(group, topic)
	defer member.Close()
	shared(topic, 1, member)
	equal(need(run.client.Groups())[group], "consumer", "protocol type in the list")
	return ""
}

func (run *Run) describeGroup() string {
	topic, group := run.create("describe-group", 4), run.name("describe-group")
	first := run.join(group, topic)
	defer first.Close()
	shared(topic, 4, first)
	second := run.join(group, topic)
	defer second.Close()
	shared(topic, 4, first, second)
	run.becomes(group, "Stable")
	found := need(run.client.DescribeGroup(group))
	equal(found.ProtocolType, "consumer", "protocol type")
	expect(found.Protocol != "", "no assignor")
	expected := [][]string{first.Owned(), second.Owned()}
	sortGroups(expected)
	sortGroups(found.Members)
	equal(found.Members, expected, "what the members own")
	first.Close()
	second.Close()
	run.becomes(group, "Empty")
	return ""
}

func sortGroups(members [][]string) {
	slices.SortFunc(members, func(a, b []string) int {
		return strings.Compare(strings.Join(a, " "), strings.Join(b, " "))
	})
}

func (run *Run) deleteGroup() string {
	topic, group := run.create("delete-group", 1), run.name("delete-group")
	run.produce(topic, numbered(10, 0, "value"))
	member := run.join(group, topic)
	poll(member, 10)
	must(member.Commit(topic, 0, Committed{Offset: 10}))
	run.code(run.client.DeleteGroup(group), NonEmptyGroup, "deleting a group that has members")
	member.Close()
	run.becomes(group, "Empty")
	must(run.client.DeleteGroup(group))
	_, listed := need(run.client.Groups())[group]
	expect(!listed, "still listed")
	equal(need(run.client.Committed(group, topic, 0)).Offset, int64(-1), "its offset")
	run.code(run.client.DeleteGroup(group), GroupIDNotFound, "deleting it again")
	return ""
}

func (run *Run) pauseResume() string {
	topic, group := run.create("pause-resume", 2), run.name("pause-resume")
	member := run.join(group, topic)
	defer member.Close()
	shared(topic, 2, member)
	member.Pause(topic, 0)
	// A fetch sent before the pause may still bring what comes now; let it end first.
	need(member.Poll(time.Second))
	records := append(numbered(5, 0, "value"), numbered(5, 1, "value")...)
	run.produce(topic, records)
	verify(poll(member, 5), records[5:], 0)
	equal(len(need(member.Poll(time.Second))), 0, "records of a paused partition")
	member.Resume(topic, 0)
	verify(poll(member, 5), records[:5], 0)
	return ""
}

func (run *Run) regexSubscription() string {
	group, first := run.name("regex-subscription"), run.create("regex-a", 1)
	run.create("not-regex", 1)
	pattern := "^" + run.prefix + "-regex-.*"
	how := Join{Group: group, Topics: []string{pattern}, Pattern: true}
	member := need(run.client.Join(how))
	defer member.Close()
	shared(first, 1, member)
	second := run.create("regex-b", 1)
	expected := []string{TopicPartition(first, 0), TopicPartition(second, 0)}
	eventually("the new topic is found", func() bool {
		need(member.Poll(20 * time.Millisecond))
		return slices.Equal(member.Owned(), expected)
	})
	run.produce(second, numbered(3, 0, "value"))
	verify(poll(member, 3), numbered(3, 0, "value"), 0)
	return ""
}

func (run *Run) fanIn() string {
	topic, group := run.create("fan-in", 3), run.name("fan-in")
	done := make(chan error)
	var all []Record
	for partition := range int32(3) {
		records := numbered(200, partition, "value")
		all = append(all, records...)
		go func() {
			_, err := run.client.Produce(topic, records, standard)
			done <- err
		}()
	}
	member := run.join(group, topic)
	defer member.Close()
	read := poll(member, len(all))
	for range 3 {
		must(<-done)
	}
	verify(read, all, 0)
	return ""
}

func (run *Run) fanOut() string {
	topic := run.create("fan-out", 3)
	var all []Record
	for partition := range int32(3) {
		all = append(all, numbered(100, partition, "value")...)
	}
	var members []Member
	for group := range 3 {
		member := run.join(run.name(fmt.Sprintf("fan-out-%d", group)), topic)
		defer member.Close()
		members = append(members, member)
	}
	run.produce(topic, all)
	for _, member := range members {
		verify(poll(member, len(all)), all, 0)
	}
	return ""
}
