// Checks of consumer groups. Each uses topics and groups of its own.
'use strict'

const { readFileSync } = require('node:fs')
const { AssignerProtocol, PartitionAssigners } = require('kafkajs')
const { Member, shared, written } = require('./broker')
const { Skip, equal, eventually, expect, fails, numbered, sleep, verify } = require('./report')

module.exports = broker => ({
  'group-two-rebalances': () => twoRebalances(broker),
  'group-cooperative': cooperative,
  'group-static': staticMember,
  'commit-sync': () => commitSync(broker),
  'commit-async': () => commitAsync(broker),
  'metadata-commit': () => metadataCommit(broker),
  'crash-resume': () => crashResume(broker),
  'reset-offsets': () => resetOffsets(broker),
  'list-groups': () => listGroups(broker),
  'describe-group': () => describeGroup(broker),
  'delete-group': () => deleteGroup(broker),
  'pause-resume': () => pauseResume(broker),
  'regex-subscription': () => regexSubscription(broker),
  'fan-in': () => fanIn(broker),
  'fan-out': () => fanOut(broker),
})

async function twoRebalances(broker) {
  const topic = await broker.create('group-two-rebalances', 4)
  const group = broker.name('group-two-rebalances')
  const first = await broker.join(group, topic)
  await shared(topic, 4, first)
  const second = await broker.join(group, topic)
  await shared(topic, 4, first, second)
  second.crash()
  await shared(topic, 4, first)
  await first.close()
}

/** What a cooperative member must send is not in what kafkajs sends: looked at, not believed. */
async function cooperative() {
  equal(Object.keys(PartitionAssigners), ['roundRobin'], 'assignors of kafkajs')
  const sent = { version: 1, topics: ['t'], userData: Buffer.alloc(0) }
  const owned = { ...sent, ownedPartitions: [{ topic: 't', partitions: [0] }] }
  const encode = AssignerProtocol.MemberMetadata.encode
  expect(encode(sent).equals(encode(owned)), 'kafkajs sends owned partitions now')
  throw new Skip('kafkajs has roundRobin alone, and its subscription cannot name what a member ' +
    'owns (src/consumer/assignerProtocol.js)')
}

async function staticMember() {
  const file = require.resolve('kafkajs/src/consumer/consumerGroup.js')
  expect(!readFileSync(file, 'utf8').includes('groupInstanceId'), 'kafkajs has it now')
  throw new Skip('kafkajs encodes group.instance.id, but a consumer has no option for it and ' +
    'always sends null (src/consumer/consumerGroup.js)')
}

/** Expects that a new member reads the ten records of the topic from that offset. */
async function resumes(broker, group, topic, offset) {
  const member = await broker.join(group, topic)
  verify(await member.take(10 - offset), numbered(10).slice(offset), offset)
  await member.close()
}

/** A topic with ten records and a member that has read them. */
async function tenRead(broker, name) {
  const [topic, group] = [await broker.create(name), broker.name(name)]
  await broker.produce(topic, numbered(10))
  const member = await broker.join(group, topic)
  verify(await member.take(10), numbered(10))
  return { topic, group, member }
}

async function commitSync(broker) {
  const { topic, group, member } = await tenRead(broker, 'commit-sync')
  await member.commit(topic, 0, 6)
  equal((await broker.committed(group, topic)).offset, 6, 'committed')
  await member.close()
  await resumes(broker, group, topic, 6)
}

async function commitAsync(broker) {
  const { topic, group, member } = await tenRead(broker, 'commit-async')
  const committing = member.commit(topic, 0, 4)
  await eventually('committed', async () => (await broker.committed(group, topic)).offset === 4)
  await committing
  await member.close()
  await resumes(broker, group, topic, 4)
}

/** kafkajs itself turns empty metadata into null when it reads it back. */
async function metadataCommit(broker) {
  const { topic, group, member } = await tenRead(broker, 'metadata-commit')
  for (const metadata of ['r\u00e9sum\u00e9 at \u{1f30a}', '']) {
    await member.commit(topic, 0, 5, metadata)
    const expected = { offset: 5, metadata: metadata || null }
    equal(await broker.committed(group, topic), expected, 'committed')
  }
  await member.close()
}

async function crashResume(broker) {
  const { topic, group, member } = await tenRead(broker, 'crash-resume')
  await member.commit(topic, 0, 5)
  member.crash()
  await resumes(broker, group, topic, 5)
}

async function resetOffsets(broker) {
  const { topic, group, member } = await tenRead(broker, 'reset-offsets')
  await member.commit(topic, 0, 10)
  const reset = offset =>
    broker.admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset }] })
  const refused = 'The consumer group must have no running instances, current state: Stable'
  await fails(() => reset('2'), refused, 'resetting a group that has members')
  await member.close()
  await broker.becomes(group, 'Empty')
  for (const offset of ['2', '7']) {
    await reset(offset)
    equal((await broker.committed(group, topic)).offset, Number(offset), 'reset')
    await broker.becomes(group, 'Empty')
  }
  await resumes(broker, group, topic, 7)
  return 'kafkajs looks at the state itself before it sends a reset'
}

async function listed(broker, group) {
  const { groups } = await broker.admin.listGroups()
  return groups.find(one => one.groupId === group)?.protocolType
}

async function listGroups(broker) {
  const [topic, group] = [await broker.create('list-groups'), broker.name('list-groups')]
  equal(await listed(broker, group), undefined, 'before it exists')
  const member = await broker.join(group, topic)
  await shared(topic, 1, member)
  equal(await listed(broker, group), 'consumer', 'protocol type in the list')
  await member.close()
}

async function describeGroup(broker) {
  const [topic, group] = [await broker.create('describe-group', 4), broker.name('describe-group')]
  const first = await broker.join(group, topic)
  await shared(topic, 4, first)
  const second = await broker.join(group, topic)
  await shared(topic, 4, first, second)
  await broker.becomes(group, 'Stable')
  const found = await broker.group(group)
  equal(found.protocolType, 'consumer', 'protocol type')
  equal(found.protocol, 'RoundRobinAssigner', 'assignor')
  const owned = found.members.map(({ memberAssignment }) =>
    written(AssignerProtocol.MemberAssignment.decode(memberAssignment).assignment).join())
  const expected = [first, second].map(member => member.owned.join())
  equal(owned.sort(), expected.sort(), 'what the members own')
  await first.close()
  await second.close()
  await broker.becomes(group, 'Empty')
}

async function deleteGroup(broker) {
  const { topic, group, member } = await tenRead(broker, 'delete-group')
  await member.commit(topic, 0, 10)
  const remove = () => broker.admin.deleteGroups([group])
  await fails(remove, 'NON_EMPTY_GROUP', 'deleting a group that has members')
  await member.close()
  await broker.becomes(group, 'Empty')
  await remove()
  equal(await listed(broker, group), undefined, 'still listed')
  equal((await broker.committed(group, topic)).offset, -1, 'its offset')
  await fails(remove, 'GROUP_ID_NOT_FOUND', 'deleting it again')
}

async function pauseResume(broker) {
  const [topic, group] = [await broker.create('pause-resume', 2), broker.name('pause-resume')]
  const member = await broker.join(group, topic)
  await shared(topic, 2, member)
  member.consumer.pause([{ topic, partitions: [0] }])
  // A fetch sent before the pause may still bring what comes now; let it end first.
  await sleep(500)
  const [paused, flowing] = [numbered(5, 0), numbered(5, 1)]
  await broker.produce(topic, [...paused, ...flowing])
  verify(await member.take(5), flowing)
  await sleep(1000)
  equal(member.records.length, 0, 'records of a paused partition')
  member.consumer.resume([{ topic, partitions: [0] }])
  verify(await member.take(5), paused)
  await member.close()
}

async function regexSubscription(broker) {
  const [group, first] = [broker.name('regex-subscription'), await broker.create('regex-a')]
  await broker.create('not-regex')
  const topics = [new RegExp(`^${broker.prefix}-regex-.*`)]
  const member = await Member.join(broker, { group, topics })
  await shared(first, 1, member)
  await broker.create('regex-b')
  // Three times its metadata's age: nothing looks at the expression any more.
  await sleep(3000)
  equal(member.owned, [`${first}/0`], 'owned after a matching topic was created')
  await member.close()
  throw new Skip('matched once, others are not: shown; kafkajs resolves an expression when it ' +
    'subscribes and never again (src/consumer/index.js)')
}

async function fanIn(broker) {
  const [topic, group] = [await broker.create('fan-in', 3), broker.name('fan-in')]
  const parts = [0, 1, 2].map(partition => numbered(200, partition))
  const sent = parts.map(records => broker.produce(topic, records))
  const member = await broker.join(group, topic)
  const read = await member.take(600)
  await Promise.all(sent)
  verify(read, parts.flat())
  await member.close()
}

async function fanOut(broker) {
  const topic = await broker.create('fan-out', 3)
  const all = [0, 1, 2].flatMap(partition => numbered(100, partition))
  const members = await Promise.all([0, 1, 2].map(number =>
    broker.join(broker.name(`fan-out-${number}`), topic)))
  await broker.produce(topic, all)
  for (const member of members) {
    verify(await member.take(all.length), all)
    await member.close()
  }
}
