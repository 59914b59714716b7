import { execFile } from 'node:child_process'
import { closeSync, openSync, writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Agent, request } from 'undici'
import { WebSocket } from 'ws'
import { until } from '../../src/stdx/index.ts'

const INSPECTOR = 'http://127.0.0.1:9229'
const MESSAGE_BYTES_MAX = 2 ** 30

type Message = { id?: number; method?: string; params?: { chunk?: string } }

/**
 * Has a Node process that the benchmark started collect its garbage, and write its heap to `snapshotFile` if one is
 * named. The process listens for a debugger on the loopback interface from then on, so it must end with the benchmark.
 */
export async function collectGarbage(pid: number, snapshotFile?: string): Promise<void> {
  // Our daemons have a loopback interface of their own, which is down.
  const inside = ['--net', `--target=${pid}`, '--', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
  await promisify(execFile)('nsenter', [
    ...inside,
    process.execPath,
    fileURLToPath(import.meta.url),
    String(pid),
    ...(snapshotFile === undefined ? [] : [snapshotFile]),
  ])
}

async function collectHere(pid: number, snapshotFile?: string): Promise<void> {
  process.kill(pid, 'SIGUSR1')
  const agent = new Agent()
  const url = await until(async () => {
    const { body } = await request(`${INSPECTOR}/json`, { dispatcher: agent })
    return ((await body.json()) as { webSocketDebuggerUrl: string }[])[0]?.webSocketDebuggerUrl
  })
  await agent.destroy()
  const socket = new WebSocket(url, { maxPayload: MESSAGE_BYTES_MAX })
  const fd = snapshotFile === undefined ? undefined : openSync(snapshotFile, 'w', 0o600)
  const done = Promise.withResolvers<void>()
  const ask = (id: number, method: string) => socket.send(JSON.stringify({ id, method }))
  socket.on('error', done.reject)
  socket.on('open', () => ask(1, 'HeapProfiler.collectGarbage'))
  socket.on('message', (data: Buffer) => {
    const { id, method, params } = JSON.parse(data.toString()) as Message
    if (method === 'HeapProfiler.addHeapSnapshotChunk' && fd !== undefined) writeSync(fd, params?.chunk ?? '')
    if (id === 1 && fd !== undefined) ask(2, 'HeapProfiler.takeHeapSnapshot')
    else if (id !== undefined) done.resolve()
  })
  try {
    await done.promise
  } finally {
    socket.close()
    if (fd !== undefined) closeSync(fd)
  }
}

if (import.meta.main) await collectHere(Number(process.argv[2]), process.argv[3])
