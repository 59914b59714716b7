import { parentPort, workerData } from 'node:worker_threads'
import { BundleRefused, parseBundle } from './bundle.ts'
import { type Decision, parseDecision } from './decision.ts'
import { PolicyModule } from './module.ts'

/** One policy on a thread of its own, which whoever asks may end at any time. */

/** What the thread says: once that it is ready, or why it cannot be; then one answer for each input. */
export type ThreadMessage =
  | { kind: 'ready'; entrypoint: string }
  | { kind: 'unusable'; why: string }
  | { kind: 'decision'; decision: Decision }
  | { kind: 'failed'; why: string }

// What a policy prints would pile up in the process that nobody could end.
console.log = () => {}
console.error = () => {}

const { bundle, entrypoint } = workerData as { bundle: Uint8Array; entrypoint: string | undefined }
const tell = (message: ThreadMessage) => parentPort?.postMessage(message, [])

try {
  const policy = new PolicyModule(await parseBundle(bundle), entrypoint)
  parentPort?.on('message', (input: string) => tell(answer(policy, input)))
  tell({ kind: 'ready', entrypoint: policy.entrypoint })
} catch (error) {
  tell({ kind: 'unusable', why: error instanceof BundleRefused ? error.message : 'it cannot be loaded' })
}

function answer(policy: PolicyModule, input: string): ThreadMessage {
  try {
    const decision = parseDecision(policy.evaluate(JSON.parse(input)))
    if (decision) return { kind: 'decision', decision }
    return { kind: 'failed', why: 'it gave no decision that can be understood' }
  } catch (error) {
    // The library throws texts for what a module aborts with.
    const why = typeof error === 'string' ? error : ((error as { message?: unknown } | null)?.message ?? '')
    return {
      kind: 'failed',
      why: `it failed: ${String(why)
        .slice(0, 200)
        .replace(/\p{Cc}+/gu, ' ')}`,
    }
  }
}
