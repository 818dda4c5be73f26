// The kafkajs client under test: --bootstrap HOST:PORT --prefix P --checks a,b,c.
'use strict'

const { parseArgs } = require('node:util')
const { Broker } = require('./broker')
const { runAll } = require('./report')

const { values } = parseArgs({
  options: {
    bootstrap: { type: 'string' },
    prefix: { type: 'string' },
    checks: { type: 'string' },
  },
})
for (const required of ['bootstrap', 'prefix', 'checks']) {
  if (!values[required]) {
    process.stderr.write(`missing --${required}\n`)
    process.exit(2)
  }
}

// What a member that was cut off still tries fails after its check has ended.
process.on('unhandledRejection', error => process.stderr.write(`unhandled: ${error.message}\n`))

async function main() {
  const broker = new Broker(values.bootstrap, values.prefix)
  await broker.admin.connect()
  const parts = [require('./data'), require('./requests'), require('./groups')]
  const checks = Object.assign({}, ...parts.map(part => part(broker)))
  await runAll(values.checks.split(','), checks)
  await broker.deleteOwn()
}

// Members that were cut off keep their timers; nothing waits for them.
main().then(() => process.exit(0), error => {
  process.stderr.write(`${error.stack}\n`)
  process.exit(1)
})
