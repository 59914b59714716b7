import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DAEMON_USERS } from '../../api/index.ts'
import {
  type AttackContext,
  blocked,
  escaped,
  type MachineAccess,
  type Outcome,
  type Party,
  untried,
} from '../attack.ts'
import { identityOf } from './headers.ts'
import { counted } from './expect.ts'
import { family } from './own-and-other.ts'

type User = { uid: number; gid: number }
const NOBODY: User = { uid: 65_534, gid: 65_534 }
/** What a socket that refuses says: the file's mode, the peer check, or the API server to somebody without an identity. */
const REFUSALS = /^(?:EACCES|EPERM|ECONNRESET|EPIPE|closed without an answer|HTTP\/1\.1 4\d\d)/

const apiSocket = ({ runDir }: MachineAccess, party: Party) => join(runDir, 'cp', party.name, 'api.sock')
const nodeSocket = ({ runDir }: MachineAccess, party: Party) => join(runDir, 'node', `${party.name}.sock`)
/** The user of a tenant's control plane, as its socket shows. */
const controlPlaneOf = (machine: MachineAccess, party: Party): User => {
  const { uid } = statSync(apiSocket(machine, party))
  return { uid, gid: uid }
}

/** As the gateway writes it: with the Tenant object that the certificate was made for. */
const genuineIdentityOf = ({ name: tenant, uid: tenantUid }: Party) =>
  Buffer.from(
    JSON.stringify({
      kind: 'tenantUser',
      tenant,
      tenantUid,
      name: 'admin',
      groups: ['bulkhead:tenant-admins'],
    }),
  ).toString('base64url')

const get = (path: string, identity?: string, extra = '') =>
  `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${identity === undefined ? '' : `x-bulkhead-identity: ${identity}\r\n`}${extra}\r\n`

const first = (answer: string) => answer.split('\r\n', 1)[0]?.slice(0, 60) ?? ''

async function allShut(
  machine: MachineAccess,
  tries: readonly (readonly [who: string, user: User, socket: string, bytes: string])[],
): Promise<Outcome> {
  const words: string[] = []
  for (const [who, user, socket, bytes] of tries) {
    const answer = await machine.askSocketAs(user, socket, bytes)
    words.push(`${who}: ${first(answer)}`)
    if (!REFUSALS.test(answer)) return escaped(`${who} at ${socket}: ${answer.slice(0, 200)}`)
  }
  return blocked('control plane refuses strangers', words.join('; '))
}

/** The gateway's own user is let in, so the socket is alive and listens. */
async function gatewayLetIn({ machine, victim }: AttackContext): Promise<string> {
  const answer = await machine.askSocketAs(
    machine.userOf(DAEMON_USERS.gateway),
    apiSocket(machine, victim),
    get('/api/v1/namespaces', genuineIdentityOf(victim)),
  )
  if (!answer.startsWith('HTTP/1.1 200'))
    throw new Error(`the gateway at the victim's control plane: ${first(answer)}`)
  return `the gateway's user is answered there: ${first(answer)}`
}

export const socketAttacks = family('sockets', 'platform components', [
  {
    id: 'socket-control-plane',
    title: "connects to the victim's control plane past the gateway, as every other user of the machine",
    standards: ['T1190', 'NIST-800-190-4.3.2'],
    needs: ['machine'],
    always: true,
    control: gatewayLetIn,
    attempt({ machine, attacker, victim }) {
      const socket = apiSocket(machine, victim)
      const request = get('/api/v1/secrets', genuineIdentityOf(victim))
      const { gid: gateways } = machine.userOf(DAEMON_USERS.gateway)
      const strangers: [string, User][] = [
        ['nobody', NOBODY],
        ['an ordinary user', { uid: 1_000, gid: 1_000 }],
        ["root of a pod of the attacker's", { uid: 0x1000_0000, gid: 0x1000_0000 }],
        ['the image puller', machine.userOf(DAEMON_USERS.images)],
        ['the resolver', machine.userOf(DAEMON_USERS.dns)],
        ['the platform', machine.userOf(DAEMON_USERS.platform)],
        // Past the file's mode, so that the check of the peer is what answers.
        ["a stranger in the gateways' group", { uid: 65_534, gid: gateways }],
      ]
      const own = controlPlaneOf(machine, attacker)
      if (own.uid !== controlPlaneOf(machine, victim).uid) {
        strangers.push(["the attacker's control plane", own])
        strangers.push([
          "the attacker's control plane in the gateways' group",
          { uid: own.uid, gid: gateways },
        ])
      }
      return allShut(
        machine,
        strangers.map(([who, user]) => [who, user, socket, request]),
      )
    },
  },
  {
    id: 'socket-taken-gateway',
    title:
      "takes over the gateway and speaks with the victim's control plane in the attacker's name, or in none",
    needs: ['machine'],
    vector: 'identities and tokens',
    control: gatewayLetIn,
    attempt({ machine, attacker, victim }) {
      const gateway = machine.userOf(DAEMON_USERS.gateway)
      const socket = apiSocket(machine, victim)
      const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
      const identities: [string, string | undefined][] = [
        ["in the attacker's name", genuineIdentityOf(attacker)],
        ['in nobody’s', undefined],
        ["in the operator's", encode({ kind: 'operator', name: 'operator', groups: ['system:masters'] })],
        ["in a component's", encode({ kind: 'component', name: 'kube-controller-manager' })],
        ["in the platform's", identityOf('platform')],
        [
          'with an odd field',
          encode({ kind: 'tenantUser', tenant: victim.name, name: 'admin', groups: [], admin: true }),
        ],
        [
          'with two tenants',
          encode({ kind: 'tenantUser', tenant: [attacker.name, victim.name], name: 'admin', groups: [] }),
        ],
        ['with no JSON', 'AAAA'],
        ['too long', 'A'.repeat(20_000)],
      ]
      return allShut(
        machine,
        identities.map(([who, identity]) => [who, gateway, socket, get('/api/v1/secrets', identity)]),
      )
    },
  },
  {
    id: 'socket-taken-pod-gateway',
    title: "takes over the pods' gateway and makes itself an administrator",
    needs: ['machine'],
    vector: 'identities and tokens',
    control: gatewayLetIn,
    attempt({ machine, attacker, victim }) {
      const user: User = {
        uid: machine.userOf(DAEMON_USERS.podGateway).uid,
        gid: machine.userOf(DAEMON_USERS.gateway).gid,
      }
      return allShut(
        machine,
        [victim, attacker].map((party) => [
          `as an administrator of ${party === victim ? 'the victim' : 'its own tenant'}`,
          user,
          apiSocket(machine, party),
          get('/api/v1/secrets', genuineIdentityOf(party)),
        ]),
      )
    },
  },
  {
    id: 'socket-node-agent',
    title:
      'takes over its own control plane and speaks with the node agent for the victim, and for the platform',
    standards: ['T1611', 'MS-TA9030', 'NIST-800-190-4.3.5'],
    needs: ['machine'],
    vector: 'node identity',
    async control({ machine, attacker }) {
      const answer = await machine.askSocketAs(
        controlPlaneOf(machine, attacker),
        nodeSocket(machine, attacker),
        get('/v1/jails'),
      )
      if (!answer.startsWith('HTTP/1.1 200')) throw new Error(`at its own socket: ${first(answer)}`)
      return `at its own socket it is answered: ${first(answer)}`
    },
    async attempt({ machine, attacker, victim }) {
      const own = controlPlaneOf(machine, attacker)
      const shared = own.uid === controlPlaneOf(machine, victim).uid
      const tries: (readonly [string, User, string, string])[] = [
        ...(shared
          ? []
          : [
              [
                'its control plane, for the victim',
                own,
                nodeSocket(machine, victim),
                get('/v1/jails'),
              ] as const,
            ]),
        [
          'its control plane, for the platform',
          own,
          join(machine.runDir, 'node/platform.sock'),
          get('/v1/tenants'),
        ],
        ['its control plane, at the images', own, join(machine.runDir, 'images/images.sock'), get('/')],
        ['its control plane, at the resolver', own, join(machine.runDir, 'dns/dns.sock'), get('/')],
        [
          'the resolver, for the victim',
          machine.userOf(DAEMON_USERS.dns),
          nodeSocket(machine, victim),
          get('/v1/jails'),
        ],
        [
          'the gateway, for the victim',
          machine.userOf(DAEMON_USERS.gateway),
          nodeSocket(machine, victim),
          get('/v1/jails'),
        ],
        ['nobody, for the victim', NOBODY, nodeSocket(machine, victim), get('/v1/jails')],
      ]
      for (const worker of ['shared', attacker.name, victim.name, 'platform']) {
        const socket = join(machine.runDir, 'worker', worker, 'control.sock')
        if (existsSync(socket))
          tries.push([
            `its control plane, as master of worker ${worker === victim.name ? "of the victim's" : worker === attacker.name ? 'of its own' : worker}`,
            own,
            socket,
            get('/v1/tenants'),
          ])
      }
      const outcome = await allShut(machine, tries)
      return outcome.kind === 'blocked' && shared
        ? {
            ...outcome,
            evidence: `${outcome.evidence}; both control planes live in one process, so that one was not asked`,
          }
        : outcome
    },
  },
  {
    id: 'socket-jail-of-another',
    title: "takes over its own control plane and asks the node agent for the victim's pods by their ids",
    standards: ['T1609', 'T1613'],
    needs: ['machine', 'pods'],
    vector: 'co-location',
    async control({ machine, attacker }) {
      const pod = await podUid(attacker)
      const answer = await machine.askSocketAs(
        controlPlaneOf(machine, attacker),
        nodeSocket(machine, attacker),
        get('/v1/jails'),
      )
      if (!answer.includes(pod)) throw new Error(`its own pod is not listed: ${first(answer)}`)
      return 'its own pod is listed at its own socket'
    },
    async attempt({ machine, attacker, victim }) {
      const own = controlPlaneOf(machine, attacker)
      const socket = nodeSocket(machine, attacker)
      const pod = await podUid(victim)
      const listed = await machine.askSocketAs(own, socket, get('/v1/jails'))
      if (listed.includes(pod)) return escaped("the victim's pod is in the attacker's list")
      const codes: string[] = []
      for (const bytes of [
        get(`/v1/jails/${pod}/containers/main/log`),
        get(`/v1/jails/..%2f${victim.name}%2f${pod}/containers/main/log`),
        `DELETE /v1/jails/${pod}?gracePeriodSeconds=0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
        `POST /v1/jails/${pod}/containers/main/exec?command=id&stdout=true HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: bulkhead-frames\r\n\r\n`,
        `POST /v1/jails/${pod}/portforward?port=8080 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: bulkhead-bytes\r\n\r\n`,
        put(`/v1/jails/${pod}`, { tenant: victim.name, id: pod }),
        put('/v1/network', { tenant: victim.name, services: [] }),
      ]) {
        const answer = await machine.askSocketAs(own, socket, bytes)
        codes.push(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? first(answer))
        if (answer.includes(victim.canaries.value) || answer.startsWith('HTTP/1.1 101'))
          return escaped(`${bytes.split('\r')[0]}: ${answer.slice(0, 200)}`)
      }
      const still = await victim.must<{
        metadata: { uid: string; deletionTimestamp?: string }
        status: { phase: string }
      }>(`/api/v1/namespaces/${victim.canaries.namespace}/pods/${victim.canaries.pod}`)
      if (still.status.phase !== 'Running' || still.metadata.deletionTimestamp !== undefined)
        return escaped(`the victim's pod is ${still.status.phase}`)
      return codes.every((code) => Number(code) >= 500)
        ? untried(`answers ${counted(codes)}`)
        : blocked('own control plane', `answers ${counted(codes)}; the victim's pod runs on`)
    },
  },
])

async function podUid(party: Party): Promise<string> {
  const { namespace, pod } = party.canaries
  const { metadata } = await party.must<{ metadata: { uid: string } }>(
    `/api/v1/namespaces/${namespace}/pods/${pod}`,
  )
  return metadata.uid
}

function put(path: string, body: object): string {
  const text = JSON.stringify(body)
  return `PUT ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}
