import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IpBlock } from '../../../api/index.ts'
import { createAuthority, issueServerCertificate } from '../../../identity/index.ts'
import type { IngressRoute, TenantIngress } from '../../../jail/index.ts'
import { silentLogger } from '../../../stdx/index.ts'
import { AccessLog } from './access-log.ts'
import { Connector } from './connector.ts'
import { FrontDoor } from './front-door.ts'
import type { DoorView } from './sites.ts'

/** A certificate that an authority of its own has signed, its key, and the authority. */
export async function certificateFor(
  host: string,
): Promise<{ certificate: string; key: string; authority: string }> {
  const nowMs = Date.now()
  const authority = await createAuthority({ name: `of ${host}`, nowMs })
  const issued = await issueServerCertificate({ authority, dnsNames: [host], nowMs })
  return {
    certificate: issued.certificatePem,
    key: issued.privateKeyPem,
    authority: authority.certificatePem,
  }
}

/** Both halves of the front door in this process, with services that are at 127.0.0.1. */
export class TestDoor implements AsyncDisposable {
  readonly door: FrontDoor
  readonly connector: Connector
  private readonly directory = mkdtempSync(join(tmpdir(), 'bulkhead-door-'))

  private constructor(proxies: readonly IpBlock[] | undefined) {
    mkdirSync(join(this.directory, 'to'))
    this.connector = new Connector({
      socketPath: join(this.directory, 'connector.sock'),
      tenantSocket: (index) => join(this.directory, `to/${index}.sock`),
      frontDoorUid: process.getuid!(), // there is one on Linux
      log: silentLogger,
      isOwn: () => true,
      sourceOf: () => '127.0.0.1',
    })
    this.door = new FrontDoor({
      socketPath: join(this.directory, 'ingress.sock'),
      connectorSocket: (index) => join(this.directory, `to/${index}.sock`),
      address: '127.0.0.1',
      httpPort: 0,
      httpsPort: 0,
      ...(proxies === undefined ? {} : { proxies }),
      accessLog: new AccessLog({ directory: this.directory, log: silentLogger }),
      log: silentLogger,
    })
  }

  static async start({ proxies }: { proxies?: readonly IpBlock[] } = {}): Promise<TestDoor> {
    const test = new TestDoor(proxies)
    await test.connector.listen()
    await test.door.listen()
    return test
  }

  /** Publishes the service of every path at one port of 127.0.0.1. */
  async publish(
    index: number,
    view: { hosts: string[]; routes: Partial<IngressRoute>[]; port: number } & Partial<
      Pick<TenantIngress, 'certificates'>
    >,
  ): Promise<void> {
    const tenant = `tenant-${index}`
    const routes = view.routes.map((route) => ({
      host: view.hosts[0] ?? '',
      path: '/',
      exact: false,
      protocol: 'http' as const,
      redirect: false,
      backend: { namespace: 'default', service: 'web', port: 80 },
      ...route,
    }))
    await this.connector.set(index, {
      services: [
        {
          key: 'default/web:80',
          affinity: false,
          endpoints: [{ address: '127.0.0.1', port: view.port }],
        },
      ],
    })
    await this.set(index, {
      tenant,
      grant: { hosts: view.hosts, ports: [] },
      ingress: { routes, certificates: view.certificates ?? [], ports: [] },
    })
  }

  set(index: number, view: DoorView) {
    return this.door.set(index, view)
  }

  get ports(): { http: number; https: number } {
    return this.door.boundPorts()
  }

  accessLog(tenant: string): string {
    return readFileSync(join(this.directory, `${tenant}.log`), 'utf8')
  }

  /** Sends bytes as they are, and returns everything that comes back until the end. */
  raw(bytes: string, port = this.ports.http): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>()
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
    socket.setTimeout(5_000, () => socket.destroy())
    socket.on('data', (chunk) => (text += chunk.toString('latin1')))
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
    return promise
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.door.close()
    await this.connector.close()
    rmSync(this.directory, { recursive: true, force: true })
  }
}
