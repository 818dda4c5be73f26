// Checks of administrative requests and of errors.
'use strict'

const {
  Skip, compressible, equal, eventually, expect, fails, numbered, verify,
} = require('./report')

const TOPIC = 2
const SET_FOR_TOPIC = 1
const BY_DEFAULT = 5

module.exports = broker => ({
  'unknown-topic': () => unknownTopic(broker),
  'invalid-topic': () => invalidTopic(broker),
  'too-large': () => tooLarge(broker),
  'topic-exists': () => topicExists(broker),
  'describe-topic': () => describeTopic(broker),
  'describe-configs': () => describeConfigs(broker),
  'alter-configs': () => alterConfigs(broker),
  'create-partitions': () => createPartitions(broker),
  'list-offsets': () => listOffsets(broker),
  'delete-records': () => deleteRecords(broker),
  'delete-topic': () => deleteTopic(broker),
  'refuse-compact': () => refuseCompact(broker),
})

async function unknownTopic(broker) {
  const topic = broker.name('never-created')
  const unknown = 'UNKNOWN_TOPIC_OR_PARTITION'
  const more = [{ topic, count: 3 }]
  await fails(() => broker.partitions(topic), unknown, 'describe')
  await fails(() => broker.admin.deleteTopics({ topics: [topic] }), unknown, 'delete')
  await fails(() => broker.admin.createPartitions({ topicPartitions: more }), unknown, 'grow')
  await fails(() => broker.produce(topic, numbered(1)), unknown, 'produce')
  await fails(() => broker.read(topic, 1), unknown, 'consume')
}

async function invalidTopic(broker) {
  for (const topic of ['bad/name', 'bad name', '..', 'x'.repeat(250)]) {
    const topics = [{ topic, numPartitions: 1, replicationFactor: 1 }]
    const what = `create ${topic}`
    await fails(() => broker.admin.createTopics({ topics }), 'INVALID_TOPIC_EXCEPTION', what)
  }
}

const produceBig = (broker, topic) =>
  broker.produce(topic, [{ partition: 0, value: compressible(40_000) }])

async function tooLarge(broker) {
  const topic = await broker.create('too-large', 1, { 'max.message.bytes': '20000' })
  await fails(() => produceBig(broker, topic), 'MESSAGE_TOO_LARGE', 'produce')
  await broker.produce(topic, numbered(1))
  verify(await broker.read(topic, 1), numbered(1))
}

async function topicExists(broker) {
  const topic = await broker.create('topic-exists')
  const topics = [{ topic, numPartitions: 1, replicationFactor: 1 }]
  // kafkajs turns exactly TOPIC_ALREADY_EXISTS into false, and throws any other error.
  equal(await broker.admin.createTopics({ topics }), false, 'creating it again')
}

async function describeTopic(broker) {
  const partitions = await broker.partitions(await broker.create('describe-topic', 3))
  const { brokers } = await broker.admin.describeCluster()
  const known = brokers.map(({ nodeId }) => nodeId)
  equal(partitions.map(one => one.partitionId).sort(), [0, 1, 2], 'partitions')
  for (const { partitionId, leader, replicas, isr } of partitions) {
    expect(replicas.length, `partition ${partitionId} has no replica`)
    expect(replicas.every(id => known.includes(id)), `${replicas} are not all in ${known}`)
    expect(replicas.includes(leader) && isr.includes(leader), `${leader} is not in sync`)
  }
}

async function describeConfigs(broker) {
  const topic = await broker.create('describe-configs', 1, { 'retention.ms': '7200000' })
  const configs = await broker.config(topic)
  const found = name => [configs[name]?.configValue, configs[name]?.configSource]
  equal(found('retention.ms'), ['7200000', SET_FOR_TOPIC], 'retention.ms')
  equal(found('cleanup.policy'), ['delete', BY_DEFAULT], 'cleanup.policy')
  for (const name of ['retention.bytes', 'segment.bytes', 'max.message.bytes']) {
    expect(/^-?\d+$/.test(found(name)[0]), `${name} is ${found(name)[0]}`)
  }
}

/** kafkajs knows only the request that replaces all of a topic's configurations. */
const replaceConfigs = (broker, topic, configs) => {
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  return broker.admin.alterConfigs({ resources: [{ type: TOPIC, name: topic, configEntries }] })
}

async function alterConfigs(broker) {
  const topic = await broker.create('alter-configs', 1, { 'retention.ms': '7200000' })
  const value = async name => (await broker.config(topic))[name].configValue
  const [limit, retention] = [await value('max.message.bytes'), '7200000']
  const both = { 'retention.ms': retention, 'max.message.bytes': '34567' }
  await replaceConfigs(broker, topic, both)
  await eventually('altered', async () => (await value('max.message.bytes')) === '34567')
  equal(await value('retention.ms'), retention, 'the one that was given again')
  await fails(() => produceBig(broker, topic), 'MESSAGE_TOO_LARGE', 'above the new limit')
  await replaceConfigs(broker, topic, { 'retention.ms': retention })
  await eventually('at its default', async () => (await value('max.message.bytes')) === limit)
  await produceBig(broker, topic)
  for (const nonsense of [{ 'retention.ms': 'soon' }, { 'no.such.config': '1' }]) {
    const what = Object.keys(nonsense)[0]
    await fails(() => replaceConfigs(broker, topic, nonsense), 'INVALID_CONFIG', what)
  }
  equal(await value('retention.ms'), retention, 'retention.ms after refusals')
  const requests = require('kafkajs/src/protocol/requests')
  expect(!('IncrementalAlterConfigs' in requests), 'kafkajs has it now')
  throw new Skip('all shown by AlterConfigs, which replaces a topic\'s configurations; ' +
    'kafkajs has no IncrementalAlterConfigs (src/protocol/requests)')
}

async function createPartitions(broker) {
  const topic = await broker.create('create-partitions')
  const records = numbered(3)
  await broker.produce(topic, records)
  const grow = count => broker.admin.createPartitions({ topicPartitions: [{ topic, count }] })
  await grow(4)
  await eventually('four partitions', async () => (await broker.partitions(topic)).length === 4)
  for (const partition of [1, 2, 3]) records.push(...numbered(5, partition))
  await broker.produce(topic, records.slice(3))
  verify(await broker.read(topic, records.length), records)
  await fails(() => grow(2), 'INVALID_PARTITIONS', 'fewer than there are')
}

async function listOffsets(broker) {
  const topic = await broker.create('list-offsets', 3)
  const base = Date.now() - 60_000
  const at = (partition, age) =>
    ({ partition, value: Buffer.from('value'), timestamp: String(base + age) })
  const ages = [1000, 5000, 2000]
  for (const age of ages) await broker.produce(topic, [at(0, age)])
  await broker.produce(topic, ages.map(age => at(1, age)))
  const ends = await broker.admin.fetchTopicOffsets(topic)
  const found = ends.map(one => [one.partition, Number(one.low), Number(one.high)]).sort()
  equal(found, [[0, 0, 3], [1, 0, 3], [2, 0, 0]], 'partition, earliest, latest')
  const first = await broker.admin.fetchTopicOffsetsByTimestamp(topic, base + 1500)
  const offsets = first.map(one => [one.partition, Number(one.offset)]).sort()
  equal(offsets, [[0, 1], [1, 1], [2, 0]], 'partition, first offset at that time')
  const versions = require('kafkajs/src/protocol/requests/listOffsets').versions
  equal(Math.max(...versions), 3, 'the newest ListOffsets of kafkajs')
  throw new Skip('all shown but the max timestamp: it came with ListOffsets version 7, ' +
    'and the newest of kafkajs is 3 (src/protocol/requests/listOffsets)')
}

async function deleteRecords(broker) {
  const topic = await broker.create('delete-records')
  await broker.produce(topic, numbered(20))
  const until = offset =>
    broker.admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset }] })
  // It looks only at metadata that something else has fetched.
  await broker.admin.fetchTopicOffsets(topic)
  await until('12')
  await eventually('earliest is 12', async () =>
    (await broker.admin.fetchTopicOffsets(topic))[0].low === '12')
  verify(await broker.read(topic, 8), numbered(20).slice(12), 12)
  await fails(() => until('21'), 'OFFSET_OUT_OF_RANGE', 'beyond the end')
}

async function deleteTopic(broker) {
  const topic = await broker.create('delete-topic')
  await broker.produce(topic, numbered(5, 0, 'old'))
  await broker.admin.deleteTopics({ topics: [topic] })
  const listed = async () => (await broker.admin.listTopics()).includes(topic)
  await eventually('the topic is gone', async () => !(await listed()))
  await broker.create('delete-topic')
  await eventually('the topic is back', listed)
  equal((await broker.admin.fetchTopicOffsets(topic))[0].high, '0', 'end of the new topic')
  await broker.produce(topic, numbered(3, 0, 'new'))
  verify(await broker.read(topic, 3), numbered(3, 0, 'new'))
}

async function refuseCompact(broker) {
  const compact = { 'cleanup.policy': 'compact' }
  const created = () => broker.create('refuse-compact', 1, compact)
  await fails(created, 'INVALID_CONFIG', 'create')
  const topic = await broker.create('refuse-compact-later')
  await fails(() => replaceConfigs(broker, topic, compact), 'INVALID_CONFIG', 'alter')
}
