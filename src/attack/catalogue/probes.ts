import { SECOND_MS, sleep, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, untried } from '../attack.ts'
import { CANARY_PORT, type Party } from '../party.ts'
import type { ApiAnswer } from '../tenant-api.ts'
import { allRefused, said } from './expect.ts'
import { family } from './own-and-other.ts'

/** What a pod has the node do for it: probes and hooks, of which the other end is the pod's own. */

const PORT = 8_082
const ANSWERED_MS = 15 * SECOND_MS
const ENDING_MS = 40 * SECOND_MS
const GRACE_SECONDS = 2
const LARGEST = '9223372036854775807'

/** Answers each request as `answer`, a statement about the socket `s`, wants; says each request line in its log. */
const serverOf = (answer: string) => `
import socket, threading, time
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(("", ${PORT}))
l.listen(64)
def one(s):
    try:
        s.settimeout(30)
        print("asked " + s.recv(4096).split(b"\\r\\n")[0].decode("latin1"), flush=True)
        ${answer.split('\n').join('\n        ')}
    except OSError:
        pass
    finally:
        s.close()
while True:
    s, _ = l.accept()
    threading.Thread(target=one, args=(s,), daemon=True).start()
`
const OK = `s.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")`

type Status = {
  status: {
    phase?: string
    podIP?: string
    conditions?: { type: string; status: string }[]
    containerStatuses?: { name: string; restartCount: number; ready: boolean }[]
  }
}

const podsOf = ({ canaries }: Party) => `/api/v1/namespaces/${canaries.namespace}/pods`
const isReady = ({ status }: Status) =>
  status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true

function podOf(party: Party, name: string, containers: readonly object[], spec: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: party.canaries.namespace },
    spec: {
      terminationGracePeriodSeconds: 0,
      ...spec,
      containers: containers.map((container, i) => ({
        name: `c${i}`,
        image: party.image,
        resources: { limits: { cpu: '500m', memory: '128Mi' }, requests: { cpu: '10m', memory: '16Mi' } },
        ...container,
      })),
    },
  }
}

const probe = (action: object, extra: object = {}) => ({
  periodSeconds: 1,
  timeoutSeconds: 1,
  failureThreshold: 1,
  ...action,
  ...extra,
})
const asksHttp = (extra: object = {}) => ({ httpGet: { path: '/', port: PORT, ...extra } })
const server = (answer: string) => ({ command: ['python3', '-u', '-c', serverOf(answer)] })

async function remove(party: Party, ...names: readonly string[]): Promise<void> {
  for (const name of names)
    await party.own(`${podsOf(party)}/${name}?gracePeriodSeconds=0`, { method: 'DELETE' })
}

/** A pod of its own is asked by its probe, and ready by its answer. */
async function probeWorks(context: AttackContext): Promise<string> {
  const { attacker, mark } = context
  const name = `well-${mark}`
  await attacker.create(
    podsOf(attacker),
    podOf(attacker, name, [{ ...server(OK), readinessProbe: probe(asksHttp()) }]),
  )
  try {
    await attacker.untilReady(attacker.canaries.namespace, name)
    return 'a pod of its own is ready once its probe is answered'
  } finally {
    await remove(attacker, name)
  }
}

/** A pod of the victim whose readiness is its probe's; `look` runs while it is watched. */
async function whileVictimIsProbed<T>(
  { victim, mark }: AttackContext,
  look: () => Promise<T>,
): Promise<{ seen: T; lost: number; looks: number }> {
  const name = `probed-${mark}`
  await victim.create(
    podsOf(victim),
    podOf(victim, name, [
      {
        ...server(OK),
        // Two in a row, as is usual: a machine under load loses one.
        readinessProbe: probe(asksHttp(), { failureThreshold: 3, timeoutSeconds: 3 }),
      },
    ]),
  )
  try {
    await victim.untilReady(victim.canaries.namespace, name)
    const over = { is: false }
    let [lost, looks] = [0, 0]
    const looking = (async () => {
      while (!over.is) {
        if (!isReady(await victim.must<Status>(`${podsOf(victim)}/${name}`))) lost++
        looks++
        await sleep(250)
      }
    })()
    try {
      return { seen: await look(), lost, looks }
    } finally {
      over.is = true
      await looking
    }
  } finally {
    await remove(victim, name)
  }
}

export const probeAttacks = family('probes', 'metadata and host services', [
  {
    id: 'probe-host-field',
    title: 'has the node ask the victim, the machine and its metadata by the host of probes and hooks',
    replays: 'kubelets that ask whatever address a probe or a hook names, from the machine',
    standards: ['MTB-PL1-BC-HI-3', 'T1190'],
    needs: ['pods'],
    always: true,
    async control({ attacker, mark }) {
      await attacker.create(
        `${podsOf(attacker)}?dryRun=All`,
        podOf(attacker, mark, [{ readinessProbe: probe(asksHttp()) }]),
      )
      return 'the same probe without a host is accepted (dry run)'
    },
    async attempt({ attacker, victim, mark }) {
      const answers: [string, ApiAnswer][] = []
      for (const host of [
        victim.canaries.podIP,
        victim.canaries.clusterIP,
        '127.0.0.1',
        '169.254.169.254',
        '169.254.1.1',
        'localhost',
        '::1',
        `${victim.canaries.service}.${victim.canaries.namespace}.svc`,
      ])
        for (const container of [
          { readinessProbe: probe(asksHttp({ host })) },
          { livenessProbe: probe({ tcpSocket: { host, port: CANARY_PORT } }) },
          { startupProbe: probe(asksHttp({ host, scheme: 'HTTPS' })) },
          { lifecycle: { postStart: asksHttp({ host }) } },
          { lifecycle: { preStop: { tcpSocket: { host, port: 80 } } } },
        ])
          answers.push([
            `${Object.keys(container)[0]} to ${host}`,
            await attacker.own(`${podsOf(attacker)}?dryRun=All`, {
              method: 'POST',
              body: podOf(attacker, mark, [container]),
            }),
          ])
      return allRefused(answers)
    },
  },
  {
    id: 'probe-redirect',
    title: 'answers a probe with a redirect to another pod, to the victim, to metadata and to loopback',
    replays:
      'CVE-2022-3172: a server that followed redirects carried requests to where the caller could not go',
    standards: ['T1190'],
    needs: ['pods'],
    control: probeWorks,
    async attempt(context) {
      const { attacker, victim, mark } = context
      const [listener, sender] = [`listens-${mark}`, `sends-${mark}`]
      try {
        await attacker.create(
          podsOf(attacker),
          podOf(attacker, listener, [
            { ...server(OK), readinessProbe: probe({ tcpSocket: { port: PORT } }) },
          ]),
        )
        const { status } = await attacker.untilReady(attacker.canaries.namespace, listener)
        const places = [
          `http://${status.podIP}:${PORT}/redirected`,
          `http://${victim.canaries.podIP}:${CANARY_PORT}/`,
          'http://169.254.169.254/latest/meta-data/',
          'http://127.0.0.1:22/',
          'https://kubernetes.default.svc/',
        ]
        await attacker.create(
          podsOf(attacker),
          podOf(attacker, sender, [
            {
              ...server(
                `place = ${JSON.stringify(places)}[int(time.time()) % ${places.length}]\n` +
                  `s.sendall(("HTTP/1.1 302 Found\\r\\nlocation: " + place + "\\r\\ncontent-length: 0\\r\\n\\r\\n").encode())`,
              ),
              readinessProbe: probe(asksHttp()),
            },
          ]),
        )
        const log = async (name: string) => (await attacker.own(`${podsOf(attacker)}/${name}/log`)).body
        await until(async () => (await log(sender)).split('asked GET').length > 2 * places.length, {
          timeoutMs: 2 * ANSWERED_MS,
          everyMs: 500,
          what: 'Probes of the pod that redirects',
        })
        const heard = await log(listener)
        return heard.includes('redirected')
          ? escaped(`another pod was asked by the node: ${heard.slice(-200)}`)
          : blocked(
              'probes go to the pod and nowhere else',
              `${(await log(sender)).split('asked GET').length - 1} probes were redirected to ${places.length} places; the other pod heard of none`,
            )
      } finally {
        await remove(attacker, listener, sender)
      }
    },
  },
  {
    id: 'probe-hostile-answers',
    title: 'answers probes without end, byte by byte, with gigantic heads and with what is no HTTP',
    replays: 'CVE-2022-31030: what a probe printed without end filled the memory of the runtime',
    vector: 'platform components',
    standards: ['T1499'],
    needs: ['pods'],
    control: probeWorks,
    async attempt(context) {
      const { attacker, mark } = context
      const answers = [
        // A body without end.
        `s.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")\nwhile True: s.sendall(b"x" * 65536)`,
        // A head without end.
        `s.sendall(b"HTTP/1.1 200 OK\\r\\n")\nwhile True: s.sendall(b"x-" + b"y" * 65000 + b": z\\r\\n")`,
        // A byte now and then.
        `for c in b"HTTP/1.1 200 OK\\r\\ncontent-length: 1000000\\r\\n\\r\\n": s.sendall(bytes([c])); time.sleep(0.5)`,
        // Answers before the answer.
        `while True: s.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n" * 100)`,
        // Other protocols.
        `s.sendall(b"\\x00\\x00\\x12\\x04\\x00\\x00\\x00\\x00\\x00" * 1000)`,
        `s.sendall(b"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\nffffffffffffffff\\r\\n" + b"x" * 100000)`,
      ]
      const name = `hostile-${mark}`
      const containers = answers.map((answer, i) => ({
        command: ['python3', '-u', '-c', serverOf(answer).replaceAll(String(PORT), String(PORT + i))],
        readinessProbe: probe(asksHttp({ port: PORT + i })),
        livenessProbe: probe(
          { exec: { command: ['sh', '-c', 'yes "$(head -c 4096 /dev/zero | tr "\\0" x)"'] } },
          { failureThreshold: 100 },
        ),
      }))
      try {
        const { seen, lost, looks } = await whileVictimIsProbed(context, async () => {
          await attacker.create(podsOf(attacker), podOf(attacker, name, containers))
          await until(
            async () =>
              (await attacker.must<Status>(`${podsOf(attacker)}/${name}`)).status.phase === 'Running',
            { timeoutMs: ENDING_MS, everyMs: 250, what: 'The pod that answers badly' },
          )
          await sleep(ANSWERED_MS)
          return attacker.must<Status>(`${podsOf(attacker)}/${name}`)
        })
        if (lost > 0) return escaped(`the victim's pod was not ready ${lost} of ${looks} times`)
        const ready = seen.status.containerStatuses?.filter((one) => one.ready).length
        return blocked(
          'limits on what a probe reads, and for how long',
          `${answers.length} bad answers a second, ${ready} taken for good; the victim's pod was ready ${looks} of ${looks} times`,
        )
      } finally {
        await remove(attacker, name)
      }
    },
  },
  {
    id: 'hook-without-end',
    title: 'has hooks and grace periods that never end, to stay when it is to go',
    vector: 'cpu',
    standards: ['T1499'],
    needs: ['pods'],
    async control({ attacker }) {
      await attacker.must(podsOf(attacker))
      return 'it makes pods'
    },
    async attempt({ attacker, mark }) {
      const pods = podsOf(attacker)
      const name = `stays-${mark}`
      const endless = ['sh', '-c', 'trap "" TERM INT HUP; while :; do sleep 1; done']
      const huge = JSON.stringify(podOf(attacker, `huge-${mark}`, [{ command: endless }])).replace(
        '"terminationGracePeriodSeconds":0',
        `"terminationGracePeriodSeconds":${LARGEST}`,
      )
      const answer = await attacker.own(pods, { method: 'POST', body: huge })
      if (answer.code >= 500) return escaped(`an endless grace period: ${said(answer)}`)
      await remove(attacker, `huge-${mark}`)
      await attacker.create(
        pods,
        podOf(
          attacker,
          name,
          [{ command: endless, lifecycle: { preStop: { exec: { command: endless } } } }],
          { terminationGracePeriodSeconds: GRACE_SECONDS },
        ),
      )
      await attacker.untilReady(attacker.canaries.namespace, name)
      const beganMs = performance.now()
      await attacker.own(`${pods}/${name}`, { method: 'DELETE' })
      for (const one of [name, `huge-${mark}`])
        try {
          await until(async () => (await attacker.own(`${pods}/${one}`)).code === 404, {
            timeoutMs: ENDING_MS,
            everyMs: 200,
            what: `The end of ${one}`,
          })
        } catch (error) {
          return escaped(String(error))
        }
      return blocked(
        'the grace period',
        `with ${GRACE_SECONDS} seconds of grace it is gone after ${Math.round(performance.now() - beganMs)} ms; one with ${LARGEST} seconds was answered ${answer.code} and could be deleted`,
      )
    },
  },
  {
    id: 'probe-flood',
    title: 'has as many probes as it may asked every second, while the victim is probed',
    vector: 'platform components',
    standards: ['T1499'],
    needs: ['pods'],
    control: probeWorks,
    async attempt(context) {
      const { attacker, mark } = context
      const name = `many-${mark}`
      const slow = `time.sleep(5)`
      const container = {
        ...server(slow),
        readinessProbe: probe(asksHttp(), { timeoutSeconds: 1 }),
        livenessProbe: probe({ exec: { command: ['sleep', '30'] } }, { failureThreshold: 1_000 }),
      }
      try {
        const { lost, looks } = await whileVictimIsProbed(context, async () => {
          await attacker.create(
            podsOf(attacker),
            podOf(
              attacker,
              name,
              Array.from({ length: 12 }, (_, i) => ({
                ...container,
                command: ['python3', '-u', '-c', serverOf(slow).replaceAll(String(PORT), String(PORT + i))],
                readinessProbe: probe(asksHttp({ port: PORT + i })),
                resources: {
                  limits: { cpu: '100m', memory: '32Mi' },
                  requests: { cpu: '1m', memory: '8Mi' },
                },
              })),
            ),
          )
          await sleep(ANSWERED_MS)
        })
        return lost > 0
          ? escaped(`the victim's pod was not ready ${lost} of ${looks} times`)
          : blocked('limits per tenant', `the victim's pod was ready ${looks} of ${looks} times`)
      } finally {
        await remove(attacker, name)
      }
    },
  },
  {
    id: 'termination-message-link',
    title: "has the platform read the machine's files as its message of termination, through links and FIFOs",
    replays: 'CVE-2017-1002101 and its like: files of a container that the machine opened by name',
    vector: 'storage',
    standards: ['T1611', 'MTB-PL1-BC-HI-1'],
    needs: ['pods', 'machine'],
    async control({ attacker, mark }) {
      const message = await messageOf(attacker, `says-${mark}`, 'echo hello >/dev/termination-log')
      if (message?.trim() !== 'hello') throw new Error(`its own message: ${message}`)
      return 'a message of its own is read'
    },
    async attempt({ attacker, machine, mark }) {
      const files = ['/etc/shadow', '/etc/machine-id', `${machine.stateDir}/kek`, '/proc/1/environ']
      const words: string[] = []
      for (const [i, script] of [
        ...files.map((file) => `rm -f /dev/termination-log; ln -s ${file} /dev/termination-log`),
        'rm -f /dev/termination-log; mkfifo /dev/termination-log',
        'rm -f /dev/termination-log; mkdir /dev/termination-log',
        'ln -sf ../../../../../../../../../etc/shadow /dev/termination-log',
        'head -c 50000000 /dev/zero >/dev/termination-log',
      ].entries()) {
        const message = await messageOf(attacker, `link-${i}-${mark}`, script)
        if (message !== undefined && /root:|[0-9a-f]{32}|HOME=/.test(message))
          return escaped(`${script}: ${message.slice(0, 100)}`)
        if ((message?.length ?? 0) > 8_192) return escaped(`${script}: a message of ${message?.length}`)
        words.push(`${message === undefined ? 'none' : message.length}`)
      }
      return words.length === 0
        ? untried('nothing ran')
        : blocked('mount view', `messages of so many characters: ${words.join(', ')}`)
    },
  },
])

/** What the platform read when the container had ended. */
async function messageOf(party: Party, name: string, script: string): Promise<string | undefined> {
  const path = `${podsOf(party)}/${name}`
  type Ended = { status: { containerStatuses?: { state: { terminated?: { message?: string } } }[] } }
  await party.create(
    podsOf(party),
    podOf(party, name, [{ command: ['sh', '-c', script] }], { restartPolicy: 'Never' }),
  )
  try {
    const ended = await until(
      async () => {
        const { status } = await party.must<Ended>(path)
        return status.containerStatuses?.[0]?.state.terminated
      },
      { timeoutMs: ENDING_MS, everyMs: 150, what: `The end of ${name}` },
    )
    return ended.message
  } finally {
    await remove(party, name)
  }
}
