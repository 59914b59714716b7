import { MiB, SECOND_MS, sleep } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome, untried } from '../attack.ts'
import { RAW_SILENCE_MS } from '../limits.ts'
import { CANARY_PORT, INTRUDER, type Party } from '../party.ts'
import type { ApiAnswer, TenantApi } from '../tenant-api.ts'
import { allRefused, counted, said, worked } from './expect.ts'
import { family, secretOf } from './own-and-other.ts'

/** Streams to pods: port-forward, exec and copying, of which one end is the attacker's program. */

const FORWARD = 'v4.channel.k8s.io'
const FORWARDED_MS = 6 * SECOND_MS
const ENDLESS_MS = 8 * SECOND_MS
const REVOKED_MS = 5 * SECOND_MS
const RBAC = '/apis/rbac.authorization.k8s.io/v1'
const GROUP = 'rbac.authorization.k8s.io'

type Forwarded = { code: number; data: string; error: string }

/** What a port of a pod answers to an HTTP request that goes through the API. */
async function forward(party: Party, pod: string, port: number): Promise<Forwarded> {
  const { namespace } = party.canaries
  const socket = party.admin.websocket(
    `${party.root}/api/v1/namespaces/${namespace}/pods/${pod}/portforward?ports=${port}`,
    [FORWARD],
  )
  const { promise, resolve } = Promise.withResolvers<void>()
  const answer: Forwarded = { code: 0, data: '', error: '' }
  const seen = { data: 0, error: 0 }
  socket.on('unexpected-response', (_request, response) => {
    answer.code = response.statusCode ?? 0
    response.on('data', (chunk: Buffer) => (answer.error += chunk.toString()))
    response.on('close', () => resolve())
  })
  socket.on('open', () => {
    answer.code = 101
    socket.send(Buffer.from('\0GET / HTTP/1.0\r\n\r\n'))
    setTimeout(resolve, FORWARDED_MS)
  })
  socket.on('message', (bytes: Buffer) => {
    const channel = bytes[0] === 1 ? 'error' : 'data'
    // The first message of each channel is the number of the port.
    if (seen[channel]++ === 0) return
    if (channel === 'data') answer.data += bytes.subarray(1).toString('latin1')
    else answer.error += bytes.subarray(1).toString()
    setTimeout(resolve, RAW_SILENCE_MS / 3)
  })
  socket.on('error', () => {})
  socket.on('close', () => resolve())
  await promise
  socket.terminate()
  party.hear(answer.data)
  return answer
}

async function forwardWorks({ attacker }: AttackContext): Promise<string> {
  const { data, error, code } = await forward(attacker, attacker.canaries.pod, CANARY_PORT)
  if (!data.includes(attacker.canaries.value)) throw new Error(`its own port: ${code} ${error} ${data}`)
  return 'a port of its own pod answers through port-forward'
}

/** A user who may open streams and watch, until the binding is taken away. */
async function revocable(
  { attacker }: AttackContext,
  mark: string,
): Promise<{ api: TenantApi; revoke(): Promise<void> }> {
  const user = `leaver-${mark}`
  await attacker.create(`${RBAC}/clusterroles`, {
    apiVersion: `${GROUP}/v1`,
    kind: 'ClusterRole',
    metadata: { name: mark },
    rules: [
      {
        apiGroups: [''],
        resources: ['pods/exec', 'pods/portforward', 'pods/attach'],
        verbs: ['create', 'get'],
      },
      { apiGroups: [''], resources: ['configmaps', 'pods'], verbs: ['get', 'list', 'watch'] },
    ],
  })
  await attacker.create(`${RBAC}/clusterrolebindings`, {
    apiVersion: `${GROUP}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: mark },
    roleRef: { apiGroup: GROUP, kind: 'ClusterRole', name: mark },
    subjects: [{ kind: 'User', name: user, apiGroup: GROUP }],
  })
  return {
    api: attacker.as({ certificate: await attacker.issue({ user, groups: [] }) }),
    async revoke() {
      await attacker.must(`${RBAC}/clusterrolebindings/${mark}`, { method: 'DELETE' })
    },
  }
}

function execPath(party: Party, command: readonly string[]): string {
  const query = new URLSearchParams({ stdout: 'true', stdin: 'true' })
  for (const word of command) query.append('command', word)
  return `${party.root}/api/v1/namespaces/${party.canaries.namespace}/pods/${INTRUDER}/exec?${query}`
}

export const streamAttacks = family('streams', 'tenant API', [
  {
    id: 'forward-ports-of-the-machine',
    title: "forwards ports of its own pod that are the machine's, the gateway's and the platform's",
    replays: 'CVE-2020-8558: what listens on the loopback of the machine was reached by way of its network',
    vector: 'metadata and host services',
    standards: ['MS-TA9020', 'MTB-PL1-BC-HI-3'],
    needs: ['pods'],
    always: true,
    control: forwardWorks,
    async attempt({ attacker, registry }) {
      const ports = new Set([22, 53, 80, 443, 2_375, 6_443, 10_250, 10_255])
      for (const place of [attacker.admin.origin, `http://${registry}`]) {
        const { port } = new URL(place)
        ports.add(Number(port))
      }
      const seen: string[] = []
      for (const port of ports) {
        const { data, error, code } = await forward(attacker, INTRUDER, port)
        if (data !== '') return escaped(`port ${port} answers: ${data.slice(0, 100)}`)
        seen.push(`${port}: ${(error || `${code}`).slice(0, 60)}`)
      }
      return blocked('no path to the machine', seen.join('; '))
    },
  },
  {
    id: 'forward-odd-ports',
    title: 'asks for ports that are none, addresses instead of ports, and thousands at once',
    needs: ['pods'],
    control: forwardWorks,
    async attempt({ attacker, victim }) {
      const { namespace } = attacker.canaries
      const answers: [string, ApiAnswer][] = []
      for (const ports of [
        '0',
        '65536',
        '-1',
        '1e3',
        '80%00',
        `${victim.canaries.podIP}:${CANARY_PORT}`,
        '127.0.0.1',
        '0x50',
        ' 80',
        '080808',
        Array.from({ length: 5_000 }, (_, i) => i + 1).join(','),
        '',
      ])
        answers.push([
          `ports=${ports.slice(0, 40)}`,
          await attacker.admin.upgrade(
            `${attacker.root}/api/v1/namespaces/${namespace}/pods/${INTRUDER}/portforward?ports=${ports}`,
            [FORWARD],
          ),
        ])
      return allRefused(answers)
    },
  },
  {
    id: 'stream-forged-frames',
    title: "prints what looks like frames, statuses and ends of the stream, to be taken for the platform's",
    replays: 'streams that told control from data by what was in them',
    vector: 'logs and metrics',
    needs: ['pods'],
    async control({ attacker }) {
      const ran = await attacker.exec(['sh', '-c', 'printf hello; exit 7'])
      if (ran.stdout !== 'hello' || ran.exitCode !== 7)
        throw new Error(`its own command: ${JSON.stringify(ran)}`)
      return 'a command of its own prints what it prints and ends with its code'
    },
    async attempt({ attacker }) {
      const pieces = [
        '\\x03{"metadata":{},"status":"Success"}',
        '\\x88\\x02\\x03\\xe8',
        '\\x82\\x7f\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff',
        '\\xff\\x00',
        '\\x00\\x00\\x00\\x00\\x03\\x00\\x00\\x00\\x10{"exitCode":0}',
        'HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n',
        '\\x80\\x03\\x00\\x01\\x00\\x00\\x00\\x00',
      ]
      const program =
        `import os, sys, time\nfor piece in [${pieces.map((piece) => `b'${piece}'`).join(', ')}]:\n` +
        `    os.write(1, piece); sys.stdout.flush(); time.sleep(0.05)\n    os.write(2, piece)\n    time.sleep(0.05)\nos._exit(7)`
      const ran = await attacker.exec(['python3', '-c', program])
      const wanted = Buffer.from(
        pieces
          .join('')
          .replaceAll(/\\x(..)|\\r|\\n/g, (all, hex: string | undefined) =>
            hex === undefined ? (all === '\\r' ? '\r' : '\n') : String.fromCharCode(parseInt(hex, 16)),
          ),
        'latin1',
      ).toString()
      if (ran.exitCode !== 7) return escaped(`it ends with ${ran.exitCode} instead of 7`)
      return ran.stdout === wanted && ran.stderr === wanted
        ? blocked('frames have lengths', `${wanted.length} characters came as they were, and the code is 7`)
        : escaped(`what came is not what was printed: ${JSON.stringify(ran.stdout.slice(0, 200))}`)
    },
  },
  {
    id: 'copy-without-end',
    title: 'is copied from, and sends an archive without end that nobody reads',
    replays:
      'CVE-2018-1002100, CVE-2019-1002101, CVE-2019-11246, CVE-2019-11249 and CVE-2019-11251: archives of a pod that led kubectl cp out of its directory, which only kubectl can mend; here: what passes such archives on',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    needs: ['pods'],
    async control({ attacker }) {
      const ran = await attacker.exec(['sh', '-c', 'tar cf - /etc/hostname 2>/dev/null | wc -c'])
      if (!(Number(ran.stdout) > 512)) throw new Error(`an archive of its own: ${ran.stdout} ${ran.stderr}`)
      return 'an archive of its own can be made'
    },
    async attempt({ attacker, victim, signal }) {
      const sockets = Array.from({ length: 8 }, () =>
        attacker.admin.websocket(execPath(attacker, ['cat', '/dev/zero']), ['v5.channel.k8s.io']),
      )
      let opened = 0
      for (const socket of sockets) {
        socket.on('error', () => {})
        socket.on('unexpected-response', () => {})
        socket.on('open', () => {
          opened++
          // Not a byte more is taken off the connection.
          socket.pause()
        })
      }
      try {
        const codes: number[] = []
        const untilMs = performance.now() + ENDLESS_MS
        while (performance.now() < untilMs) {
          signal.throwIfAborted()
          codes.push((await victim.own(secretOf(victim))).code)
          await sleep(100)
        }
        if (opened === 0) return untried('no stream was opened')
        return codes.every((code) => code === 200)
          ? blocked(
              'limits on what waits to be sent',
              `${opened} streams were not read; the victim was answered ${counted(codes)}`,
            )
          : escaped(`the victim was answered ${counted(codes)}`)
      } finally {
        for (const socket of sockets) socket.terminate()
      }
    },
  },
  {
    id: 'stream-flood-of-input',
    title: 'sends input without end to a command that reads none',
    vector: 'control-plane saturation',
    standards: ['T1499'],
    needs: ['pods'],
    async control({ attacker }) {
      const ran = await attacker.exec(['wc', '-c'], { stdin: 'x'.repeat(1_000) })
      if (ran.stdout.trim() !== '1000') throw new Error(`its own input: ${ran.stdout} ${ran.stderr}`)
      return 'a command of its own reads its input'
    },
    async attempt({ attacker, victim }) {
      const socket = attacker.admin.websocket(execPath(attacker, ['sleep', '60']), ['v5.channel.k8s.io'])
      socket.on('error', () => {})
      const opened = Promise.withResolvers<boolean>()
      socket.on('open', () => opened.resolve(true))
      socket.on('unexpected-response', () => opened.resolve(false))
      if (!(await opened.promise)) return untried('no stream was opened')
      const piece = Buffer.alloc(64 * 1_024)
      let sent = 0
      const codes: number[] = []
      try {
        const untilMs = performance.now() + ENDLESS_MS
        while (performance.now() < untilMs && sent < 64 * MiB) {
          // What the other side does not take stays with us.
          if (socket.bufferedAmount < 4 * MiB && socket.readyState === socket.OPEN) {
            socket.send(piece)
            sent += piece.length
          } else await sleep(20)
          if (codes.length < (sent / MiB) * 2 || socket.bufferedAmount > 0)
            codes.push((await victim.own(secretOf(victim))).code)
        }
        const taken = (sent - socket.bufferedAmount) / MiB
        return codes.every((code) => code === 200)
          ? blocked(
              'limits on what waits to be sent',
              `${taken.toFixed(1)} MiB were taken off; the victim was answered ${counted(codes)}`,
            )
          : escaped(`the victim was answered ${counted(codes)}`)
      } finally {
        socket.terminate()
      }
    },
  },
  {
    id: 'stream-after-revocation',
    title: 'goes on with a session, and opens another, after its rights have been taken away',
    vector: 'identities and tokens',
    standards: ['T1078'],
    needs: ['pods'],
    async control(context) {
      const { api, revoke } = await revocable(context, `${context.mark}-c`)
      const answer = await api.upgrade(execPath(context.attacker, ['sleep', '1']), ['v5.channel.k8s.io'])
      await revoke()
      if (answer.code !== 101) throw new Error(`a session of its own: ${said(answer)}`)
      return 'with its rights the user opens a session'
    },
    async attempt(context) {
      const { attacker, mark } = context
      const { api, revoke } = await revocable(context, mark)
      const session = api.websocket(execPath(attacker, ['cat']), ['v5.channel.k8s.io'])
      session.on('error', () => {})
      let [open, echoed] = [false, '']
      session.on('open', () => (open = true))
      session.on('message', (bytes: Buffer) => (echoed += bytes.subarray(1).toString()))
      await sleep(RAW_SILENCE_MS)
      if (!open) return untried('no session was opened')
      await revoke()
      const untilMs = performance.now() + REVOKED_MS
      let after: ApiAnswer = { code: 0, body: '', headers: {} }
      while (performance.now() < untilMs) {
        after = await api.upgrade(execPath(attacker, ['true']), ['v5.channel.k8s.io'])
        if (after.code === 403) break
        await sleep(200)
      }
      await sleep(RAW_SILENCE_MS)
      if (session.readyState === session.OPEN) session.send(Buffer.from(`\0${mark}\n`))
      await sleep(RAW_SILENCE_MS)
      session.terminate()
      await api[Symbol.asyncDispose]()
      if (after.code !== 403) return escaped(`a session was opened afterwards: ${said(after)}`)
      return echoed.includes(mark)
        ? escaped('the session that was open goes on after its rights have been taken away')
        : blocked(
            'authorization (RBAC)',
            `another is refused with ${said(after)}; the one that was open has ended`,
          )
    },
  },
  {
    id: 'watch-after-revocation',
    title: 'goes on watching after its rights have been taken away',
    vector: 'identities and tokens',
    standards: ['T1078'],
    always: true,
    async control(context) {
      const { api, revoke } = await revocable(context, `${context.mark}-c`)
      const answer = await api.request(`${context.attacker.root}/api/v1/configmaps?limit=1`)
      await revoke()
      return worked(answer, 'with its rights the user lists')
    },
    async attempt(context): Promise<Outcome> {
      const { attacker, mark } = context
      const { api, revoke } = await revocable(context, mark)
      const watching = api.listen(`${attacker.root}/api/v1/configmaps?watch=true`, REVOKED_MS + 3 * SECOND_MS)
      await sleep(RAW_SILENCE_MS)
      await attacker.create('/api/v1/namespaces/default/configmaps', {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: `${mark}-before` },
      })
      await revoke()
      await sleep(REVOKED_MS)
      await attacker.create('/api/v1/namespaces/default/configmaps', {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: `${mark}-after` },
      })
      const { body } = await watching
      await api[Symbol.asyncDispose]()
      if (!body.includes(`${mark}-before`)) return untried('the watch has seen nothing while it was allowed')
      return body.includes(`${mark}-after`)
        ? escaped(`what was made ${REVOKED_MS / SECOND_MS} s after the rights had gone is in the watch`)
        : blocked('authorization (RBAC)', 'the watch ends with the rights')
    },
  },
])
