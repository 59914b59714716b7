import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { createKeyPair, renderPrivateKey } from '../../identity/index.ts'
import { HOUR_MS, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type FrontDoor, type Outcome } from '../attack.ts'
import { RAW_MS_MAX, RAW_SILENCE_MS } from '../limits.ts'
import { CANARY_PORT, INTRUDER, type Party } from '../party.ts'
import { counted, said } from './expect.ts'
import { family, type Sketch } from './own-and-other.ts'

const NETWORKING = '/apis/networking.k8s.io/v1'
const ECHO_PORT = 8_081
const READY_MS = 30_000
/** Says what it was asked, as JSON; of a request that hides another it says two. */
const ECHO = `
import json, os, socketserver, sys
from http.server import BaseHTTPRequestHandler
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"echo": self.requestline, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *words):
        pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    Server(("", ${ECHO_PORT}), Echo).serve_forever()
print("started")
`

type Published = { certificate: string; key: string }

const published = new WeakMap<Party, Promise<Published>>()

/** The tenant's host leads to its canary, in the clear and over TLS, and `echo.` of it to a program that tells its request. */
function publish(party: Party, door: FrontDoor): Promise<Published> {
  const known = published.get(party) ?? publishNow(party, door)
  published.set(party, known)
  known.catch(() => published.delete(party))
  return known
}

async function publishNow(party: Party, door: FrontDoor): Promise<Published> {
  const { namespace, service, value } = party.canaries
  const pair = await selfSigned([party.host, `*.${party.host}`])
  await party.create(`/api/v1/namespaces/${namespace}/secrets`, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'front-door' },
    type: 'kubernetes.io/tls',
    stringData: { 'tls.crt': pair.certificate, 'tls.key': pair.key },
  })
  await party.create(`/api/v1/namespaces/${namespace}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'echo' },
    spec: { selector: { app: INTRUDER }, ports: [{ port: ECHO_PORT, targetPort: ECHO_PORT }] },
  })
  const echo = `echo.${party.host}`
  await party.create(`${NETWORKING}/namespaces/${namespace}/ingresses`, {
    ...ingress('front-door', namespace, [
      [party.host, service, CANARY_PORT],
      [echo, 'echo', ECHO_PORT],
    ]),
    spec: {
      ...ingress('front-door', namespace, [
        [party.host, service, CANARY_PORT],
        [echo, 'echo', ECHO_PORT],
      ]).spec,
      tls: [{ hosts: [party.host, echo], secretName: 'front-door' }],
    },
  })
  const { stdout, stderr } = await party.exec(['python3', '-c', ECHO])
  if (!stdout.includes('started')) throw new Error(`the echo of ${party.name}: ${stderr}`)
  for (const [host, words] of [
    [party.host, value],
    [echo, '"echo"'],
  ] as const)
    await until(async () => (await send(door, get(host))).includes(words), {
      timeoutMs: READY_MS,
      everyMs: 200,
      what: `"${host}" at the front door`,
    })
  return pair
}

function ingress(
  name: string,
  namespace: string,
  rules: readonly (readonly [host: string | undefined, service: string, port: number])[],
  extra: object = {},
) {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { name, namespace, annotations: { 'ingress.bulkhead.dev/ssl-redirect': 'false' } },
    spec: {
      rules: rules.map(([host, service, port]) => ({
        ...(host === undefined ? {} : { host }),
        http: {
          paths: [
            {
              path: '/',
              pathType: 'Prefix',
              backend: { service: { name: service, port: { number: port } } },
            },
          ],
        },
      })),
      ...extra,
    },
  }
}

const get = (host: string, path = '/', extra = '') =>
  `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n${extra}\r\n`

/** Bytes to the front door, and all that comes back within a while. */
function send({ address, httpPort, httpsPort }: FrontDoor, bytes: string, sni?: string): Promise<string> {
  const socket: Socket | TLSSocket =
    sni === undefined
      ? connect(httpPort, address)
      : // Whose certificate it is, is what some attacks are about.
        connectTls({ host: address, port: httpsPort, servername: sni, rejectUnauthorized: false })
  return collect(socket, bytes)
}

function collect(socket: Socket, bytes: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let text = ''
  const end = setTimeout(() => socket.destroy(), RAW_MS_MAX)
  socket.setTimeout(RAW_SILENCE_MS, () => socket.destroy())
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  socket.once('close', () => {
    clearTimeout(end)
    resolve(text)
  })
  socket.write(bytes, 'latin1')
  return promise
}

/** The certificate that somebody is shown who asks for this name. */
function certificateFor({ address, httpsPort }: FrontDoor, sni: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const socket = connectTls({ host: address, port: httpsPort, servername: sni, rejectUnauthorized: false })
  socket.once('secureConnect', () => {
    resolve(socket.getPeerX509Certificate()?.toString().trim() ?? 'none')
    socket.destroy()
  })
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  return promise
}

const codes = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, code]) => code ?? '')

type Door = Omit<Sketch, 'control' | 'needs' | 'attempt'> & {
  attempt(context: AttackContext, door: FrontDoor): Promise<Outcome>
}

/** Each begins with the hosts of both answering, and ends with the victim's still being the victim's. */
function door({ attempt, ...sketch }: Door): Sketch {
  return {
    ...sketch,
    needs: ['pods', 'front door'],
    async control({ attacker, victim, frontDoor }) {
      await publish(attacker, frontDoor)
      await publish(victim, frontDoor)
      return 'the hosts of both lead to their own pods'
    },
    async attempt(context) {
      const { victim, attacker, frontDoor } = context
      const outcome = await attempt(context, frontDoor)
      if (outcome.kind !== 'blocked') return outcome
      for (const sni of [undefined, victim.host]) {
        const answer = await send(frontDoor, get(victim.host), sni)
        if (answer.includes(attacker.canaries.value))
          return escaped(`the victim's host leads to the attacker: ${answer.slice(0, 200)}`)
        if (!answer.includes(victim.canaries.value))
          return escaped(`the victim's host has no answer any more: ${answer.slice(0, 200)}`)
      }
      return outcome
    },
  }
}

/** Objects of the attacker; whether they are accepted is the API's to say, what counts is where requests go. */
async function publishing(
  { attacker }: AttackContext,
  objects: readonly (readonly [path: string, object: object])[],
  look: () => Promise<Outcome | undefined>,
): Promise<Outcome> {
  const answers: { code: number; words: string; path: string; name: string }[] = []
  for (const [path, body] of objects) {
    const answer = await attacker.own(path, { method: 'POST', body })
    const { metadata } = body as { metadata: { name: string } }
    answers.push({ code: answer.code, words: said(answer), path, name: metadata.name })
  }
  try {
    const broken = answers.find(({ code }) => code >= 500)
    if (broken) return escaped(`the control plane fails over it: ${broken.words}`)
    // What was accepted has had the time to come into force.
    if (answers.some(({ code }) => code < 400)) await new Promise((resolve) => setTimeout(resolve, 1_500))
    const seen = await look()
    const [first] = answers.filter(({ code }) => code >= 400)
    return (
      seen ??
      blocked(
        first ? "admission (the API's schema), the operator's grants" : "the operator's grants",
        `objects answered ${counted(answers.map(({ code }) => code))}${first ? `, such as ${first.words}` : ''}`,
      )
    )
  } finally {
    for (const { code, path, name } of answers)
      if (code < 400) await attacker.own(`${path}/${name}`, { method: 'DELETE' })
  }
}

/** Requests that two readers could understand in two ways; none may be answered as if there were one meaning. */
async function ambiguous(door: FrontDoor, requests: readonly string[], sni?: string): Promise<Outcome> {
  const seen: string[] = []
  for (const request of requests) {
    const answer = await send(door, request, sni)
    const got = codes(answer)
    if (got.some((code) => code.startsWith('2')))
      return escaped(`${JSON.stringify(request.slice(0, 160))}: ${answer.slice(0, 200)}`)
    seen.push(got.join('+') || 'ended')
  }
  return blocked('request parsing at the front door', `${requests.length} requests: ${counted(seen)}`)
}

export const frontDoorAttacks = family('front door', 'platform components', [
  door({
    id: 'door-host-capture',
    title: "publishes under the victim's host, spelled in many ways, and under wildcards that cover it",
    replays: 'ingress controllers that gave a host to whoever wrote it, first, last or with a longer path',
    vector: 'pod network',
    standards: ['MS-TA9034'],
    always: true,
    attempt(context, frontDoor) {
      const { attacker, victim, mark } = context
      const { namespace, service } = attacker.canaries
      const hosts = [
        victim.host,
        victim.host.toUpperCase(),
        `${victim.host}.`,
        `echo.${victim.host}`,
        `*.${victim.host}`,
        '*.attack.invalid',
        '*.invalid',
        '*',
        undefined,
        '',
        `${attacker.host},${victim.host}`,
        `${attacker.host}\n${victim.host}`,
        `${victim.host}:80`,
        `${attacker.host}/../${victim.host}`,
        victim.host.replace('t', '\u{ff54}'),
      ]
      return publishing(
        context,
        hosts.map((host, i) => [
          `${NETWORKING}/namespaces/${namespace}/ingresses`,
          ingress(`${mark}-${i}`, namespace, [[host, service, CANARY_PORT]]),
        ]),
        async () => {
          for (const host of [
            victim.host,
            `echo.${victim.host}`,
            `other.${victim.host}`,
            'x.attack.invalid',
          ]) {
            const answer = await send(frontDoor, get(host))
            if (answer.includes(attacker.canaries.value)) return escaped(`${host} leads to the attacker`)
          }
          return undefined
        },
      )
    },
  }),
  door({
    id: 'door-backend-of-others',
    title: "names the victim's service, address and socket as the backend of its own host",
    vector: 'pod network',
    standards: ['MS-TA9034'],
    replays: 'CVE-2021-25740: a forwarder with rights of its own led users to what they could not reach',
    attempt(context, frontDoor) {
      const { attacker, victim, mark } = context
      const { namespace } = attacker.canaries
      const base = `/api/v1/namespaces/${namespace}`
      const port = { port: CANARY_PORT, targetPort: CANARY_PORT }
      return publishing(
        context,
        [
          [
            `${base}/services`,
            { apiVersion: 'v1', kind: 'Service', metadata: { name: `${mark}-e` }, spec: { ports: [port] } },
          ],
          [
            `${base}/endpoints`,
            {
              apiVersion: 'v1',
              kind: 'Endpoints',
              metadata: { name: `${mark}-e` },
              subsets: [
                {
                  addresses: [{ ip: victim.canaries.podIP }],
                  ports: [{ port: CANARY_PORT }],
                },
              ],
            },
          ],
          [
            `${base}/services`,
            {
              apiVersion: 'v1',
              kind: 'Service',
              metadata: { name: `${mark}-n` },
              spec: {
                type: 'ExternalName',
                externalName: `${victim.canaries.service}.${victim.canaries.namespace}.svc.cluster.local`,
                ports: [port],
              },
            },
          ],
          ...(
            [
              [`e.${attacker.host}`, `${mark}-e`],
              [`n.${attacker.host}`, `${mark}-n`],
              [`v.${attacker.host}`, victim.canaries.service],
              [`s.${attacker.host}`, `${victim.name}/${victim.canaries.service}`],
            ] as const
          ).map(
            ([host, service], i) =>
              [
                `${NETWORKING}/namespaces/${namespace}/ingresses`,
                ingress(`${mark}-b${i}`, namespace, [[host, service, CANARY_PORT]]),
              ] as const,
          ),
        ],
        async () => {
          for (const label of ['e', 'n', 'v', 's']) {
            const answer = await send(frontDoor, get(`${label}.${attacker.host}`))
            if (answer.includes(victim.canaries.value))
              return escaped(`${label}: its own host leads to the victim's pod`)
          }
          return undefined
        },
      )
    },
  }),
  door({
    id: 'door-configuration-injection',
    title: 'writes configuration, snippets and programs into annotations, paths and names of Ingresses',
    replays:
      'CVE-2025-1974, CVE-2025-1097, CVE-2025-1098, CVE-2025-24514, CVE-2021-25742, CVE-2021-25745, CVE-2021-25746, CVE-2023-5043, CVE-2023-5044 and CVE-2024-7646: what users wrote became configuration of the proxy that all share, and programs and secrets with it',
    standards: ['T1190', 'MS-TA9003'],
    always: true,
    attempt(context, frontDoor) {
      const { attacker, victim, mark } = context
      const { namespace, service } = attacker.canaries
      const evil = `x;\n} location /stolen { alias /etc/; }\nproxy_pass http://${victim.canaries.podIP}:${CANARY_PORT}; ssl_engine /tmp/evil.so; #`
      const annotations: Record<string, string>[] = [
        { 'nginx.ingress.kubernetes.io/configuration-snippet': evil },
        { 'nginx.ingress.kubernetes.io/server-snippet': evil },
        { 'nginx.ingress.kubernetes.io/auth-url': `http://example.com/#${evil}` },
        { 'nginx.ingress.kubernetes.io/auth-tls-match-cn': `CN=${evil}` },
        {
          'nginx.ingress.kubernetes.io/mirror-target': evil,
          'nginx.ingress.kubernetes.io/mirror-host': evil,
        },
        { 'nginx.ingress.kubernetes.io/permanent-redirect': `\r${evil}` },
        { 'nginx.ingress.kubernetes.io/rewrite-target': '/etc/passwd' },
        { 'ingress.bulkhead.dev/ssl-redirect': evil },
        { 'kubernetes.io/ingress.class': `bulkhead\n${evil}` },
      ]
      const paths = [`/${evil}`, '/stolen{', '/a/../../etc', '/(a+)+$', '/\u0000', 'etc']
      const path = `${NETWORKING}/namespaces/${namespace}/ingresses`
      const host = `i.${attacker.host}`
      return publishing(
        context,
        [
          ...annotations.map((own, i) => {
            const made = ingress(`${mark}-a${i}`, namespace, [[host, service, CANARY_PORT]])
            return [path, { ...made, metadata: { ...made.metadata, annotations: own } }] as const
          }),
          ...paths.map((one, i) => {
            const made = ingress(`${mark}-p${i}`, namespace, [[host, service, CANARY_PORT]])
            const text = JSON.stringify(made).replace('"path":"/"', `"path":${JSON.stringify(one)}`)
            return [path, JSON.parse(text) as object] as const
          }),
        ],
        async () => {
          for (const asked of ['/stolen/passwd', '/etc/passwd', '/..%2f..%2fetc/passwd']) {
            const answer = await send(frontDoor, get(host, asked))
            if (answer.includes('root:') || answer.includes(victim.canaries.value))
              return escaped(`${asked}: ${answer.slice(0, 200)}`)
          }
          return undefined
        },
      )
    },
  }),
  door({
    id: 'door-certificate-capture',
    title: "has its own certificate shown for the victim's host, and names secrets of other namespaces",
    replays: 'controllers that served a certificate for whatever host it was listed with',
    vector: 'secrets',
    standards: ['T1552.007'],
    async attempt(context, frontDoor) {
      const { attacker, victim, mark } = context
      const { namespace, service } = attacker.canaries
      const theirs = (await publish(victim, frontDoor)).certificate.trim()
      const made = (host: string, tls: object[]) =>
        ingress(
          `${mark}-${tls.length}${host.length}${JSON.stringify(tls).length}`,
          namespace,
          [[host, service, CANARY_PORT]],
          { tls },
        )
      const path = `${NETWORKING}/namespaces/${namespace}/ingresses`
      const own = `c.${attacker.host}`
      return publishing(
        context,
        [
          [path, made(own, [{ hosts: [victim.host], secretName: 'front-door' }])],
          [path, made(own, [{ hosts: [own, victim.host, '*.attack.invalid'], secretName: 'front-door' }])],
          [path, made(own, [{ secretName: 'front-door' }])],
          [path, made(own, [{ hosts: [own], secretName: `${victim.name}/front-door` }])],
          [path, made(own, [{ hosts: [own], secretName: '../canaries/front-door' }])],
        ],
        async () => {
          const shown = await certificateFor(frontDoor, victim.host)
          if (shown !== theirs)
            return escaped(`the victim's host shows another certificate: ${shown.slice(0, 80)}`)
          const mine = await certificateFor(frontDoor, own)
          return mine === theirs ? escaped("its own host shows the victim's certificate") : undefined
        },
      )
    },
  }),
  door({
    id: 'door-host-is-not-sni',
    title: "asks over TLS for its own name and in the request for the victim's, and the other way round",
    replays: 'domain fronting, and proxies that checked certificates for one name and routed by another',
    async attempt({ attacker, victim }, frontDoor) {
      const seen: string[] = []
      for (const [sni, host] of [
        [attacker.host, victim.host],
        [victim.host, attacker.host],
        [attacker.host, `${victim.host}:443`],
        [attacker.host, victim.host.toUpperCase()],
        [attacker.host, `${attacker.host}\r\nhost: ${victim.host}`],
      ] as const) {
        const answer = await send(frontDoor, get(host), sni)
        if (codes(answer).some((code) => code.startsWith('2')))
          return escaped(`${sni} over TLS, ${host} in the request: ${answer.slice(0, 200)}`)
        seen.push(codes(answer).join('+') || 'ended')
      }
      return blocked('request parsing at the front door', `answered ${counted(seen)}`)
    },
  }),
  door({
    id: 'door-smuggling',
    title: "hides a request to the victim's host in one to its own: two lengths, chunks, bare line ends",
    replays:
      'the CL.TE, TE.CL, TE.TE and CL.0 desyncs; CVE-2022-32213 and CVE-2023-30589: line ends and encodings that two readers read differently',
    standards: ['T1190'],
    always: true,
    attempt({ attacker, victim }, frontDoor) {
      const hidden = get(victim.host)
      const post = (fields: string, body: string) =>
        `POST / HTTP/1.1\r\nhost: echo.${attacker.host}\r\n${fields}\r\n\r\n${body}`
      return ambiguous(frontDoor, [
        post(`content-length: ${hidden.length + 5}\r\ntransfer-encoding: chunked`, `0\r\n\r\n${hidden}`),
        post(`transfer-encoding: chunked\r\ncontent-length: 4`, `1\r\nZ\r\n0\r\n\r\n${hidden}`),
        post('transfer-encoding: xchunked', `0\r\n\r\n${hidden}`),
        post('transfer-encoding: chunked, identity', `0\r\n\r\n${hidden}`),
        post('transfer-encoding : chunked', `0\r\n\r\n${hidden}`),
        post('transfer-encoding:\x0bchunked', `0\r\n\r\n${hidden}`),
        post('transfer-encoding: chunked\r\ntransfer-encoding: x', `0\r\n\r\n${hidden}`),
        post('content-length: 0\r\ncontent-length: 44', hidden),
        post('content-length: +0', hidden),
        post('content-length: 0x10', hidden),
        post('content-length: 0\n\nx: y', hidden),
        post('x: y\rcontent-length: 0', hidden),
        post('transfer-encoding: chunked', `0;x=\n\r\n\r\n${hidden}`),
        post(' folded: x\r\n content-length: 0', hidden),
        `GET / HTTP/1.1\r\nhost: echo.${attacker.host}\r\nhost: ${victim.host}\r\n\r\n`,
        `GET / HTTP/1.1\r\n\r\n`,
        `GET / HTTP/1.1\nhost: ${victim.host}\n\n`,
        `GET /\x00 HTTP/1.1\r\nhost: ${victim.host}\r\n\r\n`,
      ])
    },
  }),
  door({
    id: 'door-absolute-form',
    title: "writes the victim's host into the request line, and walks out of its own paths with dots",
    replays: 'CVE-2021-41773: paths that were joined before their dots were taken out',
    attempt({ attacker, victim }, frontDoor) {
      const line = (target: string, host = attacker.host) =>
        `GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`
      return ambiguous(frontDoor, [
        line(`http://${victim.host}/`),
        line(`https://${victim.host}:443/`),
        line(`//${victim.host}/../`),
        line('/a/../../etc/passwd'),
        line('/./'),
        line('*'),
        `CONNECT ${victim.host}:80 HTTP/1.1\r\nhost: ${victim.host}:80\r\n\r\n`,
        `CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: ${attacker.host}\r\n\r\n`,
        `TRACE / HTTP/1.1\r\nhost: ${attacker.host}\r\n\r\n`,
        'GET / HTTP/0.9\r\n\r\n',
        `GET / HTTP/1.1\r\nhost: ${attacker.host}@${victim.host}\r\n\r\n`,
      ])
    },
  }),
  door({
    id: 'door-forwarded-headers',
    title: "tells the victim's pod in headers that it comes from somewhere else, and has real ones removed",
    replays:
      'CVE-2018-14773: a framework believed what the client said in X-Original-URL; lists of hop-by-hop headers that took a proxy’s own away',
    vector: 'identities and tokens',
    async attempt({ victim }, frontDoor) {
      const forged = '203.0.113.77'
      const names = [
        ...['x-forwarded-for', 'x-real-ip', 'forwarded', 'x-forwarded-host', 'x-forwarded-proto'],
        ...['x-forwarded-port', 'X_Forwarded_For', 'x-bulkhead-identity', 'x-original-url'],
      ]
      const answer = await send(
        frontDoor,
        get(
          `echo.${victim.host}`,
          '/',
          `${names.map((name) => `${name}: ${forged}\r\n`).join('')}connection: x-forwarded-for, x-forwarded-proto\r\n`,
        ),
      )
      const clean = await send(
        frontDoor,
        get(`echo.${victim.host}`, '/', names.map((name) => `${name}: ${forged}\r\n`).join('')),
      )
      for (const one of [answer, clean]) {
        const body = one.slice(one.indexOf('\r\n\r\n') + 4)
        if (!body.includes('"echo"')) continue
        const { headers } = JSON.parse(body) as { headers: [string, string][] }
        const believed = headers.filter(
          ([name, value]) => value.includes(forged) && !['x-original-url'].includes(name),
        )
        if (believed.length > 0) return escaped(`the victim's pod reads ${JSON.stringify(believed)}`)
        if (!headers.some(([name]) => name === 'x-forwarded-for'))
          return escaped('the pod is not told where the request comes from')
      }
      return blocked(
        'the front door writes them itself',
        `answered ${codes(answer).join()} and ${codes(clean).join()}; the pod reads the front door's own`,
      )
    },
  }),
  door({
    id: 'door-http2-downgrade',
    title: 'says two things in HTTP/2: another :authority than host, lengths, line ends, blanks in paths',
    replays:
      'CVE-2021-33193: HTTP/2 requests that were rewritten into HTTP/1.1 with more than one meaning; the H2.TE and H2.CL desyncs',
    async attempt({ attacker, victim }, frontDoor) {
      const own = attacker.host
      const requests: Record<string, string>[] = [
        { ':path': '/', ':authority': own, host: victim.host },
        { ':path': '/', ':authority': victim.host },
        { ':path': `/ HTTP/1.1\r\nhost: ${victim.host}\r\n\r\n`, ':authority': own },
        { ':path': '/', ':authority': own, 'transfer-encoding': 'chunked' },
        { ':path': '/', ':authority': own, 'content-length': '5' },
        { ':path': '/', ':authority': own, 'x-a': `b\r\nhost: ${victim.host}` },
        { ':path': `http://${victim.host}/`, ':authority': own },
        { ':path': '/', ':authority': `${own}@${victim.host}` },
        { ':path': '/', ':authority': own, ':method': 'CONNECT' },
        { ':path': '/', ':authority': own, connection: 'host' },
      ]
      const seen: string[] = []
      for (const headers of requests) {
        const { code, body } = await askHttp2(frontDoor, own, headers)
        if (body.includes(victim.canaries.value))
          return escaped(`${JSON.stringify(headers)} leads to the victim`)
        seen.push(`${code}`)
      }
      return blocked('request parsing at the front door', `answered ${counted(seen)}`)
    },
  }),
  door({
    id: 'door-failed-upgrade',
    title:
      "asks for a WebSocket that its pod does not agree to, and goes on with a request to the victim's host",
    replays:
      'CVE-2018-1002105: after a failed upgrade the connection to the server behind stayed open for anything',
    async attempt({ attacker, victim }, frontDoor) {
      const seen: string[] = []
      for (const upgrade of ['websocket', 'h2c', 'WebSocket, h2c', 'TLS/1.0']) {
        const first =
          `GET / HTTP/1.1\r\nhost: ${attacker.host}\r\nconnection: upgrade\r\nupgrade: ${upgrade}\r\n` +
          'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
        const answer = await send(frontDoor, first + get(`echo.${attacker.host}`))
        // The page of its own host is what it may see; that a second request arrives at its pod's port is not.
        if (answer.includes('101 ')) return escaped(`${upgrade}: a pod that does not know it was upgraded`)
        const other = await send(frontDoor, first + get(victim.host).replace('connection: close\r\n', ''))
        if (other.includes(attacker.canaries.value) && other.includes(victim.canaries.value))
          seen.push('two requests, each to its own host')
        seen.push(codes(answer).join('+') || 'ended')
      }
      return blocked('the front door ends what was not agreed to', `answered ${counted(seen)}`)
    },
  }),
  door({
    id: 'door-ports',
    title: "asks for ports of the victim's, the gateway's and the front door's own by load balancers",
    replays: 'CVE-2020-8554: services that took addresses and ports of others',
    vector: 'pod network',
    attempt(context, frontDoor) {
      const { attacker, mark } = context
      const { namespace } = attacker.canaries
      const ports = [frontDoor.httpPort, frontDoor.httpsPort, 22, 443, 6_443, 80, 8_080]
      return publishing(
        context,
        ports.map((port) => [
          `/api/v1/namespaces/${namespace}/services`,
          {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { name: `${mark}-${port}` },
            spec: {
              type: 'LoadBalancer',
              selector: { app: 'canary' },
              ports: [{ port, targetPort: CANARY_PORT }],
            },
          },
        ]),
        async () => undefined,
      )
    },
  }),
])

async function askHttp2(
  { address, httpsPort }: FrontDoor,
  sni: string,
  headers: Record<string, string>,
): Promise<{ code: number; body: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; body: string }>()
  const session = connectHttp2(`https://${sni}:${httpsPort}`, {
    createConnection: () =>
      connectTls({
        host: address,
        port: httpsPort,
        servername: sni,
        ALPNProtocols: ['h2'],
        // It is the attacker's own, made by itself.
        rejectUnauthorized: false,
      }),
  })
  let [code, body] = [0, '']
  const end = () => resolve({ code, body })
  session.on('error', end)
  session.on('close', end)
  const timer = setTimeout(() => session.destroy(), RAW_MS_MAX)
  try {
    const stream = session.request(headers)
    stream.on('response', (got) => (code = Number(got[':status'])))
    stream.setEncoding('utf8').on('data', (text: string) => (body += text))
    stream.on('error', end)
    stream.on('close', end)
    stream.end()
  } catch {
    // Node itself does not send it.
    end()
  }
  const answer = await promise
  clearTimeout(timer)
  session.destroy()
  return answer
}

/** A certificate for hosts, as a tenant makes one that has no authority. */
export async function selfSigned(hosts: readonly string[]): Promise<Published> {
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  const keys = await createKeyPair()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    keys,
    name: `CN=${hosts[0]}`,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    serialNumber: '01',
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + 24 * HOUR_MS),
    extensions: [
      new x509.SubjectAlternativeNameExtension(hosts.map((value) => ({ type: 'dns' as const, value }))),
    ],
  })
  return { certificate: `${certificate.toString('pem')}\n`, key: await renderPrivateKey(keys) }
}
