// The broker under test as kafkajs sees it: topics, sending, and group members.
//
// kafkajs has no consumer without a group, so everything is read by a member of a group; where a
// check is not about groups, of a group of its own.
'use strict'

const net = require('node:net')
const {
  CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel,
} = require('kafkajs')
const { LIMIT_MS, equal, eventually, expect, sleep } = require('./report')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = new (require('kafkajs-lz4'))().codec
CompressionCodecs[CompressionTypes.ZSTD] = require('@kafkajs/zstd')()

// The shortest session that brokers allow by default.
const SESSION_MS = 6000
// Enough for a session to expire and all others to join again.
const REBALANCE_LIMIT_MS = 3 * SESSION_MS

/** Dials for one member, and can be cut: then no byte leaves it any more, as if it was killed. */
class Network {
  sockets = new Set()
  isCut = false

  dial = ({ host, port, onConnect }) => {
    const socket = net.connect({ host, port }, onConnect)
    this.sockets.add(socket)
    if (this.isCut) socket.destroy(new Error('this member has crashed'))
    return socket
  }

  cut() {
    this.isCut = true
    for (const socket of this.sockets) socket.destroy()
  }
}

/** A member of a consumer group; what it receives waits in `records`. */
class Member {
  records = []
  owned = []
  assignments = 0
  network = new Network()

  /** `topics` are names or regular expressions; `seeks` are made before anything is fetched. */
  static async join(broker, { group, topics, fromBeginning = true, seeks = [], ...more }) {
    const member = new Member()
    const kafka = broker.connect({ socketFactory: member.network.dial })
    const consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: SESSION_MS,
      rebalanceTimeout: SESSION_MS,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 100,
      metadataMaxAge: 1000,
      allowAutoTopicCreation: false,
      ...more,
    })
    member.consumer = consumer
    consumer.on(consumer.events.REBALANCING, () => { member.owned = [] })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.assignments += 1
      member.owned = written(payload.memberAssignment)
    })
    await consumer.connect()
    try {
      await consumer.subscribe({ topics, fromBeginning })
    } catch (error) {
      await consumer.disconnect()
      throw error
    }
    const eachMessage = async ({ partition, message }) => {
      member.records.push({ ...message, partition })
    }
    const running = consumer.run({ autoCommit: false, eachMessage })
    for (const seek of seeks) consumer.seek(seek)
    await running
    return member
  }

  /** Takes that many records, and waits a little longer to see that no more come. */
  async take(count) {
    await eventually(`${count} records`, () => this.records.length >= count)
    await sleep(150)
    return this.records.splice(0)
  }

  commit(topic, partition, offset, metadata) {
    return this.consumer.commitOffsets([{ topic, partition, offset: String(offset), metadata }])
  }

  crash() {
    this.network.cut()
  }

  /** Leaves the group; a member that was cut off cannot. */
  async close() {
    if (!this.network.isCut) await this.consumer.disconnect()
  }
}

/** An assignment as `topic/partition`, sorted. */
function written(assignment) {
  return Object.entries(assignment)
    .flatMap(([topic, partitions]) => partitions.map(partition => `${topic}/${partition}`))
    .sort()
}

/** Waits until the members own every partition of the topic exactly once, each something. */
function shared(topic, count, ...members) {
  const whole = written({ [topic]: Array.from({ length: count }, (_, i) => i) })
  return eventually(`${members.length} members own each of ${count} partitions once`, () => {
    const owned = members.flatMap(member => member.owned).sort()
    return members.every(member => member.owned.length) && owned.join() === whole.join()
  }, REBALANCE_LIMIT_MS)
}

class Broker {
  constructor(bootstrap, prefix) {
    this.bootstrap = bootstrap
    this.prefix = prefix
    this.groups = 0
    this.admin = this.connect().admin()
  }

  connect(more = {}) {
    return new Kafka({
      clientId: 'interop',
      brokers: [this.bootstrap],
      logLevel: logLevel.NOTHING,
      connectionTimeout: 5000,
      requestTimeout: LIMIT_MS / 2,
      retry: { retries: 4, initialRetryTime: 50, maxRetryTime: 500 },
      ...more,
    })
  }

  name(name) {
    return `${this.prefix}-${name}`
  }

  /** Creates a topic and returns its full name; kafkajs waits until it has its leaders. */
  async create(name, numPartitions = 1, configs = {}) {
    const topic = this.name(name)
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
    expect(await this.admin.createTopics({ topics }), `${topic} exists already`)
    await eventually('described after its creation', async () => {
      const found = await this.partitions(topic).catch(() => [])
      return found.length === numPartitions
    })
    return topic
  }

  async partitions(topic) {
    const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions
  }

  async config(topic) {
    const { resources } = await this.admin.describeConfigs({ resources: [{ type: 2, name: topic }] })
    return Object.fromEntries(resources[0].configEntries.map(entry => [entry.configName, entry]))
  }

  /** Sends all in one call; returns the offsets of each partition as they were acknowledged. */
  async produce(topic, records, { acks = -1, codec = 'None', ...more } = {}) {
    const producer = await this.producer(more)
    try {
      const compression = CompressionTypes[codec]
      const answers = await producer.send({ topic, messages: records, acks, compression })
      return Object.fromEntries(answers.map(one => [one.partition, Number(one.baseOffset)]))
    } finally {
      await producer.disconnect()
    }
  }

  async producer(more = {}) {
    const producer = this.connect().producer({
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
      ...more,
    })
    await producer.connect()
    return producer
  }

  /** A member of a group of its own, which reads the topic alone. */
  reader(topic, more = {}) {
    this.groups += 1
    return Member.join(this, { group: this.name(`reader-${this.groups}`), topics: [topic], ...more })
  }

  /** Reads that many records from the beginning, or from an offset of partition 0. */
  async read(topic, count, offset) {
    const seeks = offset === undefined ? [] : [{ topic, partition: 0, offset: String(offset) }]
    const reader = await this.reader(topic, { seeks })
    try {
      return await reader.take(count)
    } finally {
      await reader.close()
    }
  }

  join(group, topic, more = {}) {
    return Member.join(this, { group, topics: [topic], ...more })
  }

  async committed(group, topic) {
    const found = await this.admin.fetchOffsets({ groupId: group, topics: [topic] })
    const { offset, metadata } = found[0].partitions[0]
    return { offset: Number(offset), metadata }
  }

  async group(group) {
    const { groups } = await this.admin.describeGroups([group])
    equal(groups[0].errorCode, 0, `describing ${group}`)
    return groups[0]
  }

  becomes(group, state) {
    const same = async () => (await this.group(group)).state === state
    return eventually(`${group} is ${state}`, same)
  }

  /** Leaves the broker as it was found; what cannot be deleted is no failure here. */
  async deleteOwn() {
    const own = (await this.admin.listTopics()).filter(topic => topic.startsWith(this.prefix))
    try {
      if (own.length) await this.admin.deleteTopics({ topics: own })
    } catch (error) {
      process.stderr.write(`topics of this run stay: ${error.message}\n`)
    }
  }
}

module.exports = { Broker, Member, shared, written }
