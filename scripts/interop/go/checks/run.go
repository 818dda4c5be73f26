package checks

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// A failure or a skip ends a check by panicking with one of these.
type (
	failure string
	skip    string
)

// Skip ends a check that the client cannot show; the reason holds the evidence.
func Skip(reason string) { panic(skip(reason)) }

// Main runs the checks named on the command line and prints one JSON line for each.
func Main(connect func(bootstrap string) (Client, error)) {
	bootstrap := flag.String("bootstrap", "", "HOST:PORT")
	prefix := flag.String("prefix", "", "start of every topic and group name")
	names := flag.String("checks", "", "comma-separated names")
	flag.Parse()
	if *bootstrap == "" || *prefix == "" || *names == "" {
		flag.Usage()
		os.Exit(2)
	}
	client, err := connect(*bootstrap)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	run := &Run{client, *prefix}
	functions := map[string]func() string{}
	run.addData(functions)
	run.addAdmin(functions)
	run.addGroups(functions)
	for _, name := range strings.Split(*names, ",") {
		run.one(name, functions[name])
	}
	run.deleteOwn()
	client.Close()
}

// Run is one run of the checks with one client.
type Run struct {
	client Client
	prefix string
}

func (run *Run) one(name string, check func() string) {
	started := time.Now()
	result := map[string]any{"client": run.client.Name(), "check": name, "status": "ok", "note": nil}
	func() {
		defer func() {
			switch why := recover().(type) {
			case nil:
			case skip:
				result["status"], result["note"] = "skip", string(why)
			case failure:
				result["status"], result["note"] = "fail", fmt.Sprintf("%s (%s)", why, where())
			default:
				result["status"], result["note"] = "fail", fmt.Sprintf("%v (%s)", why, where())
			}
		}()
		expect(check != nil, "this client has no such check")
		if note := check(); note != "" {
			result["note"] = note
		}
	}()
	result["ms"] = time.Since(started).Milliseconds()
	line, _ := json.Marshal(result)
	fmt.Println(string(line))
}

// where is the innermost line of a check on the stack of a panic.
func where() string {
	for _, line := range strings.Split(string(debug.Stack()), "\n") {
		for _, file := range []string{"/data.go:", "/admin.go:", "/groups.go:"} {
			if at := strings.Index(line, file); at >= 0 {
				return strings.Fields(line[at+1:])[0]
			}
		}
	}
	return "?"
}

// deleteOwn leaves the broker as it was found; what cannot be deleted is no failure here.
func (run *Run) deleteOwn() {
	topics, _ := run.client.Topics()
	for _, topic := range topics {
		if strings.HasPrefix(topic, run.prefix) {
			if err := run.client.DeleteTopic(topic); err != nil {
				fmt.Fprintf(os.Stderr, "topic %s stays: %v\n", topic, err)
			}
		}
	}
}

func expect(condition bool, format string, values ...any) {
	if !condition {
		panic(failure(fmt.Sprintf(format, values...)))
	}
}

func equal(actual, expected any, what string) {
	expect(reflect.DeepEqual(actual, expected),
		"%s: got %s, expected %s", what, short(actual), short(expected))
}

func short(value any) string {
	text := fmt.Sprintf("%v", value)
	if bytes, ok := value.([]byte); ok {
		text = fmt.Sprintf("%q", bytes)
	}
	if len(text) > 160 {
		return fmt.Sprintf("%s... (%d characters)", text[:120], len(text))
	}
	return text
}

func must(err error) { expect(err == nil, "%v", err) }

func need[T any](value T, err error) T {
	must(err)
	return value
}

// code expects that Kafka error, and says what came instead.
func (run *Run) code(err error, expected int16, what string) {
	expect(err != nil, "%s: no error, expected code %d", what, expected)
	code, found := run.client.Code(err)
	expect(found && code == expected, "%s: got %v (code %d), expected code %d",
		what, err, code, expected)
}

func eventually(what string, condition func() bool) {
	eventuallyWithin(Limit, what, condition)
}

func eventuallyWithin(limit time.Duration, what string, condition func() bool) {
	deadline := time.Now().Add(limit)
	for !condition() {
		expect(time.Now().Before(deadline), "still not so: %s", what)
		time.Sleep(20 * time.Millisecond)
	}
}

func (run *Run) name(name string) string { return run.prefix + "-" + name }

func (run *Run) create(name string, partitions int32) string {
	return run.createWith(name, partitions, nil)
}

func (run *Run) createWith(name string, partitions int32, configs map[string]string) string {
	topic := run.name(name)
	must(run.client.CreateTopic(topic, partitions, configs))
	// Brokers with a metadata log of their own may trail what they acknowledged.
	eventually("described after its creation", func() bool {
		found, err := run.client.DescribeTopic(topic)
		return err == nil && len(found) == int(partitions)
	})
	return topic
}

var standard = Produce{Acks: "all", Codec: "none"}

func (run *Run) produce(topic string, records []Record) {
	need(run.client.Produce(topic, records, standard))
}

// read reads that many records of the first partitions, each from the same offset.
func (run *Run) read(topic string, partitions int32, offset int64, count int) []Record {
	from := map[int32]int64{}
	for partition := range partitions {
		from[partition] = offset
	}
	reader := need(run.client.Read(topic, from))
	defer reader.Close()
	return poll(reader, count)
}

// poll polls until that many records have come, and a little longer to see that no more do.
func poll(reader Reader, count int) []Record {
	var read []Record
	deadline := time.Now().Add(Limit)
	for len(read) < count {
		expect(time.Now().Before(deadline), "only %d of %d records", len(read), count)
		read = append(read, need(reader.Poll(100*time.Millisecond))...)
	}
	return append(read, need(reader.Poll(50*time.Millisecond))...)
}

func numbered(count int, partition int32, prefix string) []Record {
	var records []Record
	for i := range count {
		records = append(records, Record{
			Partition: partition,
			Key:       fmt.Appendf(nil, "key-%d", i),
			Value:     fmt.Appendf(nil, "%s-%d-%d", prefix, partition, i),
		})
	}
	return records
}

// compressible is text that every codec shrinks at least fivefold.
func compressible(size int) []byte {
	line := []byte("the high-water mark is the offset below which all is committed\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

// incompressible is bytes without visible pattern, the same on every run.
func incompressible(size int) []byte {
	noise := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(noise)
	return noise
}

// verify checks count, offset continuity in every partition, and all content. Partitions may
// interleave; within one, order matters.
func verify(read, expected []Record, firstOffset int64) {
	equal(len(read), len(expected), "records read")
	next := map[int32]int64{}
	wanted := map[int32][]Record{}
	for _, record := range expected {
		wanted[record.Partition] = append(wanted[record.Partition], record)
	}
	for _, actual := range read {
		index := next[actual.Partition]
		next[actual.Partition]++
		expect(index < int64(len(wanted[actual.Partition])), "too many in partition %d", actual.Partition)
		want := wanted[actual.Partition][index]
		at := fmt.Sprintf("partition %d offset %d", actual.Partition, firstOffset+index)
		equal(actual.Offset, firstOffset+index, at+": offset")
		equal(actual.Key, want.Key, at+": key")
		equal(actual.Value, want.Value, at+": value")
		expect(slices.EqualFunc(actual.Headers, want.Headers, sameHeader),
			"%s: headers %v, expected %v", at, actual.Headers, want.Headers)
		expect(actual.TimestampMs > 0, "%s: no timestamp", at)
		if want.TimestampMs != 0 {
			equal(actual.TimestampMs, want.TimestampMs, at+": timestamp")
		}
	}
}

func sameHeader(a, b Header) bool {
	return a.Name == b.Name && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
}
