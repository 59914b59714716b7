import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { assert, listenUnix, type Logger, peerCredentials } from '../../../stdx/index.ts'
import { doorAddress, ipv4FromText, ipv4Text, tenantIndexOf } from '../plan/net/index.ts'
import { connectUdp, onDatagrams, sendDatagram } from './datagrams.ts'
import * as limits from './limits.ts'
import { ViewsServer } from './views-server.ts'
import { splice } from './splice.ts'

/** Where services of one tenant are; every endpoint is ready. */
export type ConnectorView = {
  services: readonly {
    /** As `backendKey` writes it. */
    key: string
    affinity: boolean
    endpoints: readonly { address: string; port: number }[]
  }[]
}

export type ConnectorOptions = {
  /** Where the node agent says where services are; only uid 0 is listened to. */
  socketPath: string
  /** Where the front door connects to for the tenant of an index. */
  tenantSocket: (index: number) => string
  frontDoorUid: number
  log: Logger
  /** For tests, where everything is at 127.0.0.1. */
  isOwn?: (index: number, address: string) => boolean
  sourceOf?: (index: number) => string
}

type Service = ConnectorView['services'][number] & { turn: number }
type Tenant = { server: Server; services: Map<string, Service>; open: Set<Socket> }

/**
 * The half of the front door that is inside the router's network namespace. It has one socket per tenant, and the socket
 * decides: an address of another tenant's pods is refused when it is told, and again by the address that a connection
 * comes from, which is the tenant's own and which the links and the router's rules check.
 */
export class Connector {
  private readonly options: ConnectorOptions
  private readonly tenants = new Map<number, Tenant>()
  private readonly control: ViewsServer

  constructor(options: ConnectorOptions) {
    this.options = options
    this.control = new ViewsServer({
      socketPath: options.socketPath,
      log: options.log,
      views: {
        set: (index, document) => this.set(index, document as ConnectorView), // root speaks
        remove: (index) => this.remove(index),
      },
    })
  }

  listen(): Promise<void> {
    return this.control.listen()
  }

  async close(): Promise<void> {
    this.control.close()
    for (const index of this.tenants.keys()) await this.remove(index)
  }

  async set(index: number, { services }: ConnectorView): Promise<void> {
    const isOwn = this.options.isOwn ?? isPodOf
    for (const { key, endpoints } of services)
      for (const { address } of endpoints)
        assert(isOwn(index, address), `"${key}" of the tenant ${index} has the address ${address}`)
    const tenant = this.tenants.get(index) ?? (await this.open(index))
    tenant.services = new Map(
      services.map((service) => [
        service.key,
        { ...service, turn: tenant.services.get(service.key)?.turn ?? 0 },
      ]),
    )
  }

  private async open(index: number): Promise<Tenant> {
    const open = new Set<Socket>()
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy())
      if (peerCredentials(socket).uid !== this.options.frontDoorUid) return void socket.destroy()
      if (open.size >= limits.TENANT_REQUESTS_MAX * 2) return void socket.destroy()
      open.add(socket)
      socket.once('close', () => open.delete(socket))
      this.serve(index, socket).catch((error: unknown) => {
        this.options.log.warn('a connection failed', { index, error })
        socket.destroy()
      })
    })
    await listenUnix(server, { path: this.options.tenantSocket(index), mode: 0o660 })
    const tenant = { server, services: new Map<string, Service>(), open }
    this.tenants.set(index, tenant)
    return tenant
  }

  private async remove(index: number): Promise<void> {
    const tenant = this.tenants.get(index)
    if (!tenant) return
    this.tenants.delete(index)
    tenant.server.close()
    for (const socket of tenant.open) socket.destroy()
    rmSync(this.options.tenantSocket(index), { force: true })
  }

  private async serve(index: number, socket: Socket): Promise<void> {
    const line = await readLine(socket)
    const [key = '', client = ''] = line?.split(' ') ?? []
    const service = this.tenants.get(index)?.services.get(key)
    if (key.endsWith('/UDP')) return await this.serveDatagrams(index, socket, service, client)
    const pod = service && (await this.connectTo(index, service, client))
    if (socket.destroyed) return void pod?.destroy()
    if (!pod) return void socket.end('none\n')
    socket.write('ok\n')
    splice(socket, pod, limits.STREAM_IDLE_MS)
  }

  private async serveDatagrams(
    index: number,
    socket: Socket,
    service: Service | undefined,
    client: string,
  ): Promise<void> {
    const endpoint = service && endpointFor(service, client)
    const pod = endpoint && (await connectUdp(endpoint, (this.options.sourceOf ?? sourceOf)(index)))
    if (!pod) return void socket.end('none\n')
    if (socket.destroyed) return void pod.close()
    const end = () => socket.destroy()
    // Nobody listens there now, or the rules refuse it: the next datagram makes a flow anew.
    pod.on('error', end)
    socket.once('close', () => pod.close())
    socket.once('end', end)
    socket.setTimeout(limits.FLOW_IDLE_MS * 2, end)
    socket.write('ok\n')
    pod.on('message', (datagram) => sendDatagram(socket, datagram))
    onDatagrams(socket, (datagram) => pod.send(datagram, () => {}))
  }

  /** Nothing has been said on a connection that fails here, so that another endpoint may be tried for any request. */
  private async connectTo(index: number, service: Service, client: string): Promise<Socket | undefined> {
    const { endpoints } = service
    const first = turnOf(service, client)
    for (let n = 0; n < Math.min(endpoints.length, limits.ENDPOINTS_TRIED_MAX); n++) {
      const endpoint = endpoints[(first + n) % endpoints.length]
      const socket = endpoint && (await this.connectOnce(index, endpoint))
      if (socket) return socket
    }
    return undefined
  }

  private connectOnce(
    index: number,
    { address, port }: { address: string; port: number },
  ): Promise<Socket | undefined> {
    const { promise, resolve } = Promise.withResolvers<Socket | undefined>()
    const socket = connect({
      host: address,
      port,
      localAddress: (this.options.sourceOf ?? sourceOf)(index),
      noDelay: true,
      allowHalfOpen: true,
    })
    const timer = setTimeout(() => fail(), limits.CONNECT_TIMEOUT_MS)
    const fail = () => {
      clearTimeout(timer)
      socket.destroy()
      resolve(undefined)
    }
    socket.on('error', fail)
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve(socket)
    })
    return promise
  }
}

function turnOf(service: Service, client: string): number {
  return service.affinity ? hashOf(client) : service.turn++
}

function endpointFor(service: Service, client: string): { address: string; port: number } | undefined {
  return service.endpoints[turnOf(service, client) % Math.max(1, service.endpoints.length)]
}

function isPodOf(index: number, address: string): boolean {
  const number = ipv4FromText(address)
  return number !== undefined && tenantIndexOf(number) === index
}

function sourceOf(index: number): string {
  return ipv4Text(doorAddress(index))
}

function hashOf(client: string): number {
  return createHash('sha256').update(client).digest().readUInt32BE(0)
}

/** The first line, or undefined when none comes in time. What follows it stays in the socket. */
export function readLine(
  socket: Socket,
  timeoutMs: number = limits.LINE_TIMEOUT_MS,
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  let line = Buffer.alloc(0)
  const timer = setTimeout(() => finish(undefined), timeoutMs)
  const finish = (result: string | undefined) => {
    clearTimeout(timer)
    socket.off('readable', onReadable).off('end', onEnd).off('close', onEnd)
    resolve(result)
  }
  const onEnd = () => finish(undefined)
  const onReadable = () => {
    for (;;) {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return
      line = Buffer.concat([line, chunk])
      const at = line.indexOf(0x0a)
      if (at >= 0 && at <= limits.LINE_BYTES_MAX) {
        if (at + 1 < line.length) socket.unshift(line.subarray(at + 1))
        return finish(line.subarray(0, at).toString('latin1'))
      }
      if (line.length > limits.LINE_BYTES_MAX) return finish(undefined)
    }
  }
  socket.on('readable', onReadable).on('end', onEnd).on('close', onEnd)
  onReadable()
  return promise
}
