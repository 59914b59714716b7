import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type Layout, parseTenantName, paths, type TenantName } from '../api/index.ts'
import { parsePlacementRequest, type Placements, type TenantPlacement } from '../engine/local/index.ts'
import type { SleepEvent } from '../jail/index.ts'
import { listenUnix, type Logger, peerCredentials, readRequest } from '../stdx/index.ts'
import type { TenantHosting } from './tenant-hosting.ts'

/** The operator's policies are most of it, and rules for the outside. */
const REQUEST_BYTES_MAX = 2 * 1024 * 1024

type Runtimes = Record<
  'runc' | 'gvisor',
  { available: true; version: string } | { available: false; why: string }
>

/** Which isolation classes this machine can keep its word about, and what is missing for the others. */
function offeredClasses(runtimes: Runtimes) {
  const runc = runtimes.runc.available ? { available: true } : { available: false, why: runtimes.runc.why }
  const gvisor = runtimes.gvisor.available
    ? { available: true }
    : { available: false, why: runtimes.gvisor.why }
  const alone = {
    available: false,
    why: 'this platform has one machine, and the class needs machines of its own',
  }
  return { shared: runc, affinity: alone, sandboxed: gvisor, dedicated: alone }
}

/** Serves the node agent's platform socket (see ARCHITECTURE.md) to the platform's control plane and to nobody else. */
export async function servePlatformSocket({
  layout,
  hosting,
  placements,
  runtimes,
  platformUid,
  log,
}: {
  layout: Layout
  hosting: TenantHosting
  placements: Placements
  runtimes: Runtimes
  platformUid: number
  log: Logger
}) {
  const watchers = new Set<ServerResponse>()
  const watchSleep = (res: ServerResponse) => {
    res.writeHead(200, { 'content-type': 'application/x-ndjson' })
    res.flushHeaders()
    for (const tenant of hosting.sleeping.keys()) res.write(lineOf({ type: 'ASLEEP', tenant }))
    res.write(lineOf({ type: 'SYNCED' }))
    watchers.add(res)
    res.on('error', () => {})
    res.on('close', () => watchers.delete(res))
  }
  const handle = async (
    req: IncomingMessage,
    res: ServerResponse,
    answer: (code: number, body: unknown) => void,
  ) => {
    const url = req.url ?? ''
    if (req.method === 'GET' && url === '/v1/isolation')
      return answer(200, { classes: offeredClasses(runtimes) })
    if (req.method === 'GET' && url === '/v1/tenants')
      return answer(200, { items: placements.all().map(withoutPolicies) })
    if (req.method === 'GET' && url === '/v1/tenants?watch=sleep') return watchSleep(res)
    const name = /^\/v1\/tenants\/([a-z0-9-]{1,32})$/.exec(url)?.[1]
    if (name === undefined) return answer(404, { message: 'not found' })
    const tenant = parseTenantName(name)
    if (req.method === 'PUT')
      return answer(
        200,
        withoutPolicies(await hosting.ensure(tenant, parsePlacementRequest(await readJson(req)))),
      )
    if (req.method !== 'DELETE') return answer(405, { message: 'method not allowed' })
    await hosting.remove(tenant)
    answer(202, {})
  }
  const server = createServer((req: IncomingMessage, res: ServerResponse) => {
    const answer = (code: number, body: unknown) => {
      if (res.headersSent) return
      res.writeHead(code, { 'content-type': 'application/json' })
      res.end(JSON.stringify(body))
    }
    handle(req, res, answer).catch((error: unknown) => {
      const isRefusal = error instanceof TypeError || error instanceof RangeError
      if (!isRefusal) log.error('request of the platform failed', { url: req.url, error })
      answer(isRefusal ? 422 : 500, { message: error instanceof Error ? error.message : 'failed' })
    })
  })
  server.on('connection', (socket) => {
    if (peerCredentials(socket).uid !== platformUid) socket.destroy()
  })
  await listenUnix(server, { path: paths.nodePlatformSocket(layout), uid: platformUid, gid: 0 })
  return {
    tellSleep(tenant: TenantName, asleep: boolean) {
      for (const watcher of watchers) {
        // Whoever does not read begins anew.
        if (watcher.writableLength > WATCHER_BYTES_MAX) watcher.destroy()
        else watcher.write(lineOf({ type: asleep ? 'ASLEEP' : 'AWAKE', tenant }))
      }
    },
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

const WATCHER_BYTES_MAX = 1024 * 1024

function lineOf(event: SleepEvent): string {
  return `${JSON.stringify(event)}\n`
}

/** Who asks wrote them, and for all tenants together they are long. */
function withoutPolicies({
  policies: _known,
  regoPolicies: _too,
  ...placement
}: TenantPlacement): Omit<TenantPlacement, 'policies' | 'regoPolicies'> {
  return placement
}

/** @throws {TypeError} when the body is no JSON. */
async function readJson(req: IncomingMessage): Promise<unknown> {
  const body = await readRequest(req, REQUEST_BYTES_MAX)
  if (!body) throw new TypeError('The request is too large')
  try {
    return JSON.parse(body.toString())
  } catch (cause) {
    throw new TypeError('The request is not JSON', { cause })
  }
}
