import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type Layout, parseTenantName, paths, type TenantName } from '../api/index.ts'
import { askUnix, listenUnix, type Logger, peerCredentials } from '../stdx/index.ts'

/** How the gateways, having let somebody in, have the control plane woken that is asked. It says yes or no, and no more. */

const WAKE_MS_MAX = 60_000

export async function serveWakes({
  layout,
  uids,
  gid,
  wake,
  log,
}: {
  layout: Layout
  /** The gateways' users. */
  uids: readonly number[]
  gid: number
  /** Resolves when the control plane answers; false when there is no such tenant. */
  wake: (tenant: TenantName) => Promise<boolean>
  log: Logger
}) {
  const server = createServer((req, res) => {
    const answer = (code: number) => {
      res.writeHead(code, { 'content-length': 0 })
      res.end()
    }
    const handle = async () => {
      const name = /^\/v1\/awake\/([a-z0-9-]{1,32})$/.exec(req.url ?? '')?.[1]
      if (name === undefined || req.method !== 'PUT') return answer(404)
      answer((await wake(parseTenantName(name))) ? 204 : 404)
    }
    handle().catch((error: unknown) => {
      log.error('a control plane cannot be woken', { url: req.url, error })
      answer(503)
    })
  })
  // A gateway asks once for each tenant at a time.
  server.maxConnections = uids.length * layout.tenantsMax
  server.prependListener('connection', (socket) => {
    try {
      if (uids.includes(peerCredentials(socket).uid)) return
    } catch {
      // Whoever it was has gone.
    }
    socket.destroy()
  })
  await listenUnix(server, { path: paths.wakeSocket(layout), uid: 0, gid, mode: 0o660 })
  return server
}

/** Asks for a control plane to be awake, once at a time however many wait for it. */
export function wakeThrough(layout: Layout): (tenant: TenantName) => Promise<void> {
  const running = new Map<TenantName, Promise<void>>()
  return (tenant) => {
    const known = running.get(tenant)
    if (known) return known
    const asked = ask(paths.wakeSocket(layout), tenant).finally(() => running.delete(tenant))
    running.set(tenant, asked)
    return asked
  }
}

async function ask(socketPath: string, tenant: TenantName): Promise<void> {
  const { code } = await askUnix({
    socketPath,
    method: 'PUT',
    path: `/v1/awake/${tenant}`,
    signal: AbortSignal.timeout(WAKE_MS_MAX),
    answerBytesMax: 0,
  })
  if (code !== 204) throw new Error(`The control plane of "${tenant}" was not woken: ${code}`)
}

/** What a control plane published of its keys before it fell asleep; undefined when it is awake. */
export function sleepingKeysOf(layout: Layout): (tenant: TenantName) => unknown {
  return (tenant) => {
    try {
      return (JSON.parse(readFileSync(paths.asleep(layout, tenant), 'utf8')) as { keys?: unknown }).keys
    } catch {
      return undefined
    }
  }
}
