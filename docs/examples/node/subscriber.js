// A service of its own that follows the chats of every tenant, in Node.
//
//   npm install
//   KAFKA_BOOTSTRAP=localhost:9092 RAGLINE_URL=http://localhost:8000 node subscriber.js
//
// It prints a line of JSON for every record that it had not read before.
import { Kafka, logLevel } from 'kafkajs'

const READ = new Set(['ragline.chat.message_posted.v1', 'ragline.chat.completion_completed.v1'])

// The topics that carry these types, as the running Ragline says.
const { channels } = await (await fetch(`${process.env.RAGLINE_URL}/asyncapi`)).json()
const topics = Object.keys(channels).filter(
  (name) => channels[name]['x-public'] && Object.keys(channels[name].messages).some((type) => READ.has(type)),
)

const kafka = new Kafka({ brokers: process.env.KAFKA_BOOTSTRAP.split(','), logLevel: logLevel.ERROR })
const consumer = kafka.consumer({ groupId: process.env.GROUP ?? 'my-node-service' })

// A real service has these in its database, written in the transaction of the effect.
const ids = new Set()
const chats = new Map()

async function eachMessage({ message }) {
  const type = message.headers.ce_type?.toString()
  const id = message.headers.ce_id?.toString()
  if (!READ.has(type) || ids.has(id)) return
  const body = JSON.parse(message.value.toString())
  const chat = chats.get(body.session_id)
  if (!chat || body.session_version > chat.version) {
    chats.set(body.session_id, { version: body.session_version, lastText: body.content })
  }
  ids.add(id)
  console.log(JSON.stringify({ type, id, tenant: message.headers.ce_tenantid.toString(), body }))
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => consumer.disconnect())
await consumer.connect()
await consumer.subscribe({ topics, fromBeginning: true })
await consumer.run({ eachMessage }) // an offset is committed after its record has taken effect
