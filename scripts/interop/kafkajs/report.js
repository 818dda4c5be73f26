// Running checks, reporting them, and comparing records.
//
// A check is an async function that throws on failure, throws Skip when kafkajs cannot show it,
// and may return a note. Each outcome is one JSON line on stdout.
'use strict'

const { isDeepStrictEqual, inspect } = require('node:util')

// Longest wait for any single answer; a healthy broker on loopback needs milliseconds.
const LIMIT_MS = 20_000

/** The client cannot show this; the message holds the evidence. */
class Skip extends Error {}

async function runAll(names, checks) {
  for (const name of names) {
    const started = performance.now()
    let status = 'ok'
    let note = null
    try {
      expect(checks[name], 'this client has no such check')
      note = (await checks[name]()) ?? null
    } catch (error) {
      status = error instanceof Skip ? 'skip' : 'fail'
      note = status === 'skip' ? error.message : `${error.message} (${where(error)})`
    }
    const ms = Math.round(performance.now() - started)
    process.stdout.write(JSON.stringify({ client: 'kafkajs', check: name, status, ms, note }) + '\n')
  }
}

/** File and line of the check, rather than of what it called. */
function where(error) {
  const found = /(data|requests|groups)\.js:\d+/.exec(error.stack ?? '')
  return found ? found[0] : '?'
}

function expect(condition, message) {
  if (!condition) throw new Error(message)
}

function equal(actual, expected, what) {
  const short = value => inspect(value, { breakLength: Infinity }).slice(0, 160)
  const message = () => `${what}: got ${short(actual)}, expected ${short(expected)}`
  if (!isDeepStrictEqual(actual, expected)) throw new Error(message())
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function eventually(what, condition, limitMs = LIMIT_MS) {
  const deadline = performance.now() + limitMs
  while (!(await condition())) {
    expect(performance.now() < deadline, `still not so: ${what}`)
    await sleep(20)
  }
}

/** Kafka's name of an error, out of whatever kafkajs wrapped it in. */
function nameOf(error) {
  const inner = [error.cause, ...(error.errors ?? [])]
  inner.push(...[...(error.groups ?? []), ...(error.partitions ?? [])].map(one => one.error))
  return error.type ?? inner.filter(Boolean).map(nameOf).find(Boolean)
}

async function fails(call, expected, what) {
  try {
    await call()
  } catch (error) {
    equal(nameOf(error) ?? error.message, expected, what)
    return
  }
  throw new Error(`${what}: no error, expected ${expected}`)
}

/** `count` distinct records for one partition, with keys. */
function numbered(count, partition = 0, prefix = 'value') {
  return Array.from({ length: count }, (_, i) => ({
    partition,
    key: Buffer.from(`key-${i}`),
    value: Buffer.from(`${prefix}-${partition}-${i}`),
  }))
}

/** Text of exactly that size, which every codec shrinks at least fivefold. */
function compressible(size) {
  return Buffer.alloc(size, 'the high-water mark is the offset below which all is committed\n')
}

/** Bytes without visible pattern, the same on every run. */
function incompressible(size) {
  let state = 0x9e3779b9
  return Buffer.from({ length: size }, 0).map(() => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state & 255
  })
}

/** Headers as kafkajs hands them over: one name, one value or several. */
function headersOf(record) {
  const bytes = value => (value === null ? null : Buffer.from(value))
  return Object.entries(record.headers ?? {}).map(([name, value]) =>
    [name, Array.isArray(value) ? value.map(bytes) : bytes(value)])
}

/** Checks count, offset continuity from `firstOffset` in every partition, and all content. */
function verify(read, expected, firstOffset = 0) {
  equal(read.length, expected.length, 'records read')
  for (const partition of new Set(expected.map(record => record.partition))) {
    const got = read.filter(record => record.partition === partition)
    const want = expected.filter(record => record.partition === partition)
    equal(got.length, want.length, `records of partition ${partition}`)
    got.forEach((actual, index) => {
      const at = `partition ${partition} offset ${firstOffset + index}`
      equal(Number(actual.offset), firstOffset + index, `${at}: offset`)
      equal(actual.key, want[index].key, `${at}: key`)
      equal(actual.value, want[index].value, `${at}: value`)
      equal(headersOf(actual), headersOf(want[index]), `${at}: headers`)
      expect(Number(actual.timestamp) > 0, `${at}: no timestamp`)
      if (want[index].timestamp) {
        equal(actual.timestamp, want[index].timestamp, `${at}: timestamp`)
      }
    })
  }
}

module.exports = {
  LIMIT_MS, Skip, runAll, expect, equal, sleep, eventually, fails, numbered, compressible,
  incompressible, verify,
}
