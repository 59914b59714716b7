/**
 * Looks for a document that becomes a container outside of the posture, or that crashes anything on the way:
 * `node tools/fuzz-jail.ts [--documents 1000000] [--seed N] [--workers 2]`. docs/fuzzing.md says what it does.
 * To see one document alone, which a finding names: `--seed N --from NUMBER --documents 1`.
 */
import { parseArgs } from 'node:util'
import { isMainThread, parentPort as port, Worker, workerData } from 'node:worker_threads'
import { emptyTally, fuzzOne, type Tally } from './fuzz/fuzz.ts'

type Share = { seed: number; from: number; documents: number; step: number }
type Message = { tally: Tally } | { finding: { number: number; error: string } }

if (isMainThread) await main()
else work(workerData as Share)

function work({ seed, from, documents, step }: Share): void {
  const tally = emptyTally()
  for (let i = 0; i < documents; i++) {
    const number = from + i * step
    try {
      fuzzOne(seed, number, tally)
    } catch (error) {
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
      const message: Message = { finding: { number, error: stack } }
      port?.postMessage(message)
      return
    }
  }
  const message: Message = { tally }
  port?.postMessage(message)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      documents: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      workers: { type: 'string', default: '2' },
      from: { type: 'string', default: '0' },
    },
  })
  const [documents, seed, workers, from] = [values.documents, values.seed, values.workers, values.from].map(
    Number,
  )
  if (![documents, seed, workers, from].every((n) => Number.isSafeInteger(n) && (n ?? -1) >= 0) || !workers)
    throw new Error('The options are whole numbers, and there is at least one worker')
  const [count = 0, first = 0] = [documents, from]
  console.log(`${count} documents from number ${first}, seed ${seed}, ${workers} workers`)
  const began = performance.now()
  const messages = await Promise.all(
    Array.from({ length: workers }, (_, index) =>
      run({
        seed: seed ?? 0,
        from: first + index,
        documents: Math.floor(count / workers) + (index < count % workers ? 1 : 0),
        step: workers,
      }),
    ),
  )
  const total = emptyTally()
  for (const message of messages) {
    if ('finding' in message) {
      console.error(`FINDING: document ${message.finding.number} of seed ${seed}\n${message.finding.error}`)
      process.exitCode = 1
    } else add(total, message.tally)
  }
  const seconds = (performance.now() - began) / 1_000
  console.table(total.stages)
  console.log('accepted, by kind:', total.accepted)
  console.log(
    `${total.documents} documents, ${total.configurations} configurations within the posture, ${seconds.toFixed(0)} s`,
  )
}

function run(share: Share): Promise<Message> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: share })
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

function add(total: Tally, part: Tally): void {
  total.documents += part.documents
  total.configurations += part.configurations
  for (const [form, stages] of Object.entries(part.stages)) addCounts((total.stages[form] ??= {}), stages)
  addCounts(total.accepted, part.accepted)
}

function addCounts(total: Record<string, number>, part: Record<string, number>): void {
  for (const [key, count] of Object.entries(part)) total[key] = (total[key] ?? 0) + count
}
