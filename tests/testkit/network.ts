import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdirSync } from 'node:fs'
import { IDS_PER_TENANT, type Layout, type TenantName, paths } from '../../src/api/index.ts'
import { inNamespace } from '../../src/engine/local/host/net/syscalls.ts'
import {
  type createPodNetwork,
  ensureRunDir,
  removeRunDir,
  type TenantPlacement,
} from '../../src/engine/local/index.ts'
import { MiB } from '../../src/stdx/index.ts'
import type { PeerReply, PeerRequest } from './network-peer.ts'

/** For tests of the pods' network without a platform: processes in network namespaces, and what they hear of each other. */

export const RESOLVER_UID = 65_534

/** Why there is no network of pods here, or false. For the option `skip` of a test. */
export const networkMissing: string | false = (() => {
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    execFileSync('unshare', ['--net', 'nft', 'list', 'ruleset'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs network namespaces and nft'
  }
})()

export function placementOf(layout: Layout, tenant: string, index: number): TenantPlacement {
  return {
    tenant: tenant as TenantName,
    index,
    isolationClass: 'shared',
    podUidBase: layout.podUidBase + index * IDS_PER_TENANT,
    controlPlaneUid: layout.controlPlaneUidBase + index,
    registries: [],
  }
}

export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    // The rules of a tenant with as much as there may be.
    maxBuffer: 256 * MiB,
  })
}

export function inside(netns: string, ...command: string[]): string {
  return run('nsenter', `--net=${netns}`, ...command)
}

/** One process in one network namespace. */
export class Peer {
  readonly child: ChildProcess
  private sequence = 0

  constructor(child: ChildProcess) {
    this.child = child
  }

  async ask(request: PeerRequest): Promise<PeerReply> {
    const sequence = ++this.sequence
    const { promise, resolve, reject } = Promise.withResolvers<PeerReply>()
    const onMessage = (message: unknown) => {
      const reply = message as { sequence: number; reply: PeerReply } // our own program
      if (reply.sequence === sequence) resolve(reply.reply)
    }
    const onExit = () => reject(new Error('A peer ended'))
    this.child.on('message', onMessage).on('exit', onExit)
    this.child.send({ sequence, request })
    try {
      return await promise
    } finally {
      this.child.off('message', onMessage).off('exit', onExit)
    }
  }

  async call(protocol: 'tcp' | 'udp', host: string, { port = 8080 } = {}): Promise<PeerReply> {
    return await this.ask({ do: 'call', protocol, host, port })
  }

  async end(): Promise<void> {
    await end(this.child)
  }
}

/** The processes that a test has started, wherever they are. */
export class Peers {
  private readonly children: ChildProcess[] = []

  /** A program of the tests, when it says that it is ready. */
  async start(netns: string, program: string, args: readonly string[]): Promise<ChildProcess> {
    const child = inNamespace('net', netns, () => fork(program, args, { execArgv: [] }))
    this.children.push(child)
    const ready = Promise.withResolvers<void>()
    child.once('message', () => ready.resolve())
    child.once('exit', (code) => ready.reject(new Error(`${program} ended with ${code}`)))
    await ready.promise
    return child
  }

  async peer(name: string, netns: string): Promise<Peer> {
    return new Peer(await this.start(netns, PEER, [name]))
  }

  /** In the namespace that this thread is in now; the first answer waits until it is ready. */
  fork(name: string): { peer: Peer; pid: number } {
    const child = fork(PEER, [name], { execArgv: [] })
    this.children.push(child)
    assert.ok(child.pid !== undefined)
    return { peer: new Peer(child), pid: child.pid }
  }

  /** The platform's resolver, in the router's namespace. Requires: the router is there. */
  async resolver(layout: Layout, { outside = false } = {}): Promise<ChildProcess> {
    directoryOfResolver(`${layout.runDir}/dns`)
    return await this.start(
      paths.routerNetns(layout),
      `${import.meta.dirname}/network-resolver.ts`,
      [paths.dnsSocket(layout), String(RESOLVER_UID)].concat(outside ? [paths.outsideSocket(layout)] : []),
    )
  }

  async endAll(): Promise<void> {
    for (const child of this.children.splice(0)) await end(child)
  }
}

const PEER = `${import.meta.dirname}/network-peer.ts`

export function directoryOfResolver(directory: string): void {
  mkdirSync(directory, { mode: 0o700, recursive: true })
  chownSync(directory, RESOLVER_UID, RESOLVER_UID)
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** Removes what an earlier run left, and sets up what all pods of a machine share. */
export async function setUpNode(layout: Layout, network: ReturnType<typeof createPodNetwork>): Promise<void> {
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  await network.ensureNode()
}
