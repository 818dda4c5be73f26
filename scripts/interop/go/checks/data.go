package checks

import (
	"fmt"
	"slices"
	"time"
)

const kib = 1024

func (run *Run) addData(checks map[string]func() string) {
	checks["create"] = run.createTopic
	for _, acks := range []string{"all", "1", "0"} {
		checks["acks-"+acks] = func() string { return run.acks(acks) }
	}
	checks["idempotence"] = run.idempotence
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		checks["codec-"+codec] = func() string { return run.codec(codec) }
	}
	checks["content"] = run.content
	checks["partitions"] = run.partitions
	checks["many-records"] = run.manyRecords
	checks["large-record"] = run.largeRecord
	checks["from-start"] = run.fromStart
	checks["from-end"] = run.fromEnd
	checks["from-timestamp"] = func() string { return run.fromTimestamp("none") }
	checks["from-timestamp-gzip"] = func() string { return run.fromTimestamp("gzip") }
	checks["offset-out-of-range"] = run.offsetOutOfRange
}

func (run *Run) createTopic() string {
	topic := run.create("create", 3)
	expect(slices.Contains(need(run.client.Topics()), topic), "not listed")
	return ""
}

func ascending(count int) []int64 {
	offsets := make([]int64, count)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	return offsets
}

func (run *Run) acks(acks string) string {
	topic := run.create("acks-"+acks, 1)
	records := numbered(100, 0, "value")
	offsets := need(run.client.Produce(topic, records, Produce{Acks: acks, Codec: "none"}))
	if acks != "0" {
		equal(offsets, ascending(100), "acknowledged offsets")
	}
	verify(run.read(topic, 1, 0, 100), records, 0)
	return ""
}

func (run *Run) idempotence() string {
	topic := run.create("idempotence", 1)
	records := numbered(1000, 0, "value")
	how := Produce{Acks: "all", Codec: "none", Idempotent: true, BatchRecordsMax: 10}
	equal(need(run.client.Produce(topic, records, how)), ascending(1000), "acknowledged offsets")
	verify(run.read(topic, 1, 0, 1000), records, 0)
	return ""
}

func (run *Run) codec(codec string) string {
	topic := run.create("codec-"+codec, 1)
	var records []Record
	for i := range 50 {
		key := fmt.Appendf(nil, "k%d", i)
		records = append(records, Record{Key: key, Value: compressible(2 * kib)})
	}
	how := Produce{Acks: "all", Codec: codec, RequestBytesMax: 4 * kib * kib}
	need(run.client.Produce(topic, records, how))
	if codec != "none" {
		// Above the default max.message.bytes unless the client compressed it.
		big := Record{Key: []byte("big"), Value: compressible(2 * kib * kib)}
		need(run.client.Produce(topic, []Record{big}, how))
		records = append(records, big)
	}
	verify(run.read(topic, 1, 0, len(records)), records, 0)
	return ""
}

func (run *Run) content() string {
	topic := run.create("content", 1)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	records := []Record{
		{Key: []byte("key"), Value: []byte("value"), Headers: []Header{
			{"a", []byte("1")},
			{"a", []byte("2")},
			{"empty", []byte{}},
			{"null", nil},
			{"schl\u00fcssel", []byte{0, 255}},
		}},
		{Key: nil, Value: []byte("null key")},
		{Key: []byte{}, Value: []byte("empty key")},
		{Key: []byte("null value"), Value: nil},
		{Key: []byte("empty value"), Value: []byte{}},
		{Headers: []Header{{"only", []byte("header")}}},
		{Key: every, Value: every},
		{Key: []byte("\u0448\u043b\u044e\u0437"), Value: []byte("\U0001f30a")},
	}
	run.produce(topic, records)
	verify(run.read(topic, 1, 0, len(records)), records, 0)
	return ""
}

func (run *Run) partitions() string {
	topic := run.create("partitions", 3)
	var records []Record
	for partition := range int32(3) {
		records = append(records, numbered(100+int(partition), partition, "value")...)
	}
	run.produce(topic, records)
	verify(run.read(topic, 3, 0, len(records)), records, 0)
	return ""
}

func (run *Run) manyRecords() string {
	topic := run.create("many-records", 3)
	var records []Record
	for i := range 20_000 {
		value := fmt.Appendf(nil, "record %d", i)
		records = append(records, Record{Partition: int32(i % 3), Key: value, Value: value})
	}
	run.produce(topic, records)
	verify(run.read(topic, 3, 0, len(records)), records, 0)
	return ""
}

func (run *Run) largeRecord() string {
	topic := run.create("large-record", 1)
	records := []Record{
		{Key: []byte("large"), Value: incompressible(900 * kib)},
		{Key: []byte("small"), Value: []byte("after")},
	}
	run.produce(topic, records)
	verify(run.read(topic, 1, 0, 2), records, 0)
	return ""
}

func (run *Run) fromStart() string {
	topic := run.create("from-start", 1)
	records := append(numbered(10, 0, "first"), numbered(10, 0, "second")...)
	run.produce(topic, records[:10])
	run.produce(topic, records[10:])
	verify(run.read(topic, 1, Earliest, 20), records, 0)
	verify(run.read(topic, 1, 13, 7), records[13:], 13)
	return ""
}

func (run *Run) fromEnd() string {
	topic := run.create("from-end", 1)
	run.produce(topic, numbered(10, 0, "before"))
	reader := need(run.client.Read(topic, map[int32]int64{0: Latest}))
	defer reader.Close()
	// This leaves a fetch parked at the broker.
	equal(len(need(reader.Poll(500*time.Millisecond))), 0, "records before the end")
	after := numbered(10, 0, "after")
	run.produce(topic, after)
	verify(poll(reader, 10), after, 10)
	return ""
}

func (run *Run) fromTimestamp(codec string) string {
	topic := run.create("from-timestamp-"+codec, 1)
	base := time.Now().UnixMilli() - 60_000
	var records []Record
	for i := range 20 {
		at := base + 1000*int64(i)
		records = append(records, Record{Value: fmt.Appendf(nil, "at %d", i), TimestampMs: at})
	}
	how := Produce{Acks: "all", Codec: codec}
	need(run.client.Produce(topic, records[:10], how))
	need(run.client.Produce(topic, records[10:], how))
	for _, pair := range [][2]int64{{-1, 0}, {7000, 7}, {12_500, 13}} {
		offset, _, err := run.client.ListOffset(topic, 0, base+pair[0])
		must(err)
		equal(offset, pair[1], fmt.Sprintf("offset for base%+d", pair[0]))
	}
	verify(run.read(topic, 1, 7, 13), records[7:], 7)
	return ""
}

func (run *Run) offsetOutOfRange() string {
	topic := run.create("offset-out-of-range", 1)
	run.produce(topic, numbered(5, 0, "value"))
	reader := need(run.client.Read(topic, map[int32]int64{0: 1000}))
	defer reader.Close()
	deadline := time.Now().Add(Limit)
	for {
		read, err := reader.Poll(100 * time.Millisecond)
		equal(len(read), 0, "records beyond the end")
		if err != nil {
			run.code(err, OffsetOutOfRange, "reading beyond the end")
			return ""
		}
		expect(time.Now().Before(deadline), "no error")
	}
}
