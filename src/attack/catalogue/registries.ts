import { constants, createGzip, zstdCompressSync } from 'node:zlib'
import { createServer } from 'node:net'
import { statfsSync } from 'node:fs'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { createHash, randomBytes } from 'node:crypto'
import { packTar, type TarEntry } from 'modern-tar'
import { GiB, KiB, MiB, SECOND_MS, until } from '../../stdx/index.ts'
import { type Attack, type AttackContext, blocked, escaped, type Outcome, untried } from '../attack.ts'
import {
  assembleImage,
  type LayerSource,
  type RegistryAnswer,
  type RegistryImage,
  sha256,
} from '../hostile-registry.ts'
import type { Party } from '../party.ts'
import { base, build, BUSYBOX, file, type Ran, runImage, said } from './images.ts'

/** Registries that lie: the tenant may use them, so everything that they say is the tenant's word. */

const DISK_GROWN_MAX = GiB
const SLOW_PULLS = 12
const ENDLESS_MIB = 64
const BOMB_ZEROS_MIB = 256
/** More than a layer may have; the same one again and again, so that it takes no inodes. */
const ENTRIES = 1_000_100
const BLOCK = 512
const UNDECIDED_MS = 45 * SECOND_MS

const tar = async (entries: readonly TarEntry[]) => Buffer.from(await packTar([...entries]))
const baseLayer = async (): Promise<LayerSource> => ({ tar: await tar(base()) })
const repositoryOf = (id: string, { mark }: AttackContext) => `${id}-${mark}`

type Lie = Pick<Attack, 'id' | 'title' | 'replays' | 'always' | 'vector' | 'standards'> & {
  /** Each is served, and run by a pod of the attacker. */
  serve(context: AttackContext): Promise<readonly Served[]>
  container?: object
}
type Served = {
  /** Besides the attack's id, where there are several. */
  name?: string
  image?: RegistryImage
  changed?: Record<string, RegistryAnswer>
  answer?: RegistryAnswer
  /** Of the script's words, what tells of an escape; by default that it runs at all. */
  shows?: RegExp
}

const honest = new WeakMap<Party, Promise<string>>()

/** An image of the same registry that says what is true runs; once for each attacker. */
function honestImage(context: AttackContext): Promise<string> {
  const { attacker, hostileRegistry } = context
  const run = async () => {
    const repository = repositoryOf('honest', context)
    hostileRegistry.serveImage(repository, assembleImage([await baseLayer()]))
    const ran = await runImage(attacker, {
      image: `${hostileRegistry.host}/${repository}:1`,
      name: repository,
      script: 'echo honest',
    })
    if (!ran.ended || ran.log.trim() !== 'honest') throw new Error(`an honest image: ${said(ran)}`)
    return 'an honest image of the same registry runs'
  }
  const known = honest.get(attacker) ?? run()
  honest.set(attacker, known)
  known.catch(() => honest.delete(attacker))
  return known
}

function lie({ serve, container = {}, ...attack }: Lie): Attack {
  return {
    standards: ['T1525', 'MS-TA9002'],
    ...attack,
    family: 'images',
    needs: ['pods', 'machine', 'registry'],
    control: honestImage,
    async attempt(context) {
      const { attacker, hostileRegistry, machine } = context
      const free = freeBytes(machine.stateDir)
      const words: string[] = []
      for (const { name = '1', image, changed, answer, shows } of await serve(context)) {
        const repository = repositoryOf(`${attack.id}-${name}`, context)
        if (image !== undefined) hostileRegistry.serveImage(repository, image, changed)
        else if (answer !== undefined) hostileRegistry.serve(repository, answer)
        const ran = await atMost(
          UNDECIDED_MS,
          runImage(attacker, {
            image: `${hostileRegistry.host}/${repository}:1`,
            name: `${name}-${context.mark}`,
            script: 'echo ran as $(/bin/busybox id -u)',
            container,
          }),
        )
        if (ran.ended && (shows ?? /ran as/).test(ran.log)) return escaped(`${name}: ${said(ran)}`)
        words.push(`${name}: ${said(ran)}`)
      }
      const grown = free - freeBytes(machine.stateDir)
      if (grown > DISK_GROWN_MAX) return escaped(`the disk has ${Math.round(grown / MiB)} MiB less`)
      const fair = await victimPulls(context)
      const runs = words.some((word) => word.includes('ended with 0')) ? ", the unpacker's changed root" : ''
      return fair ?? blocked(`the image is refused${runs}`, words.join('; '))
    },
  }
}

/** The victim still gets an ordinary image from the ordinary registry. */
async function victimPulls(context: AttackContext): Promise<Outcome | undefined> {
  const { image } = await build(context, 'after', [[file('etc/mark', context.mark)]])
  const ran = await atMost(
    UNDECIDED_MS,
    runImage(context.victim, { image, name: `after-${context.mark}`, script: '/bin/busybox cat /etc/mark' }),
  )
  return ran.ended && ran.log === context.mark
    ? undefined
    : escaped(`the victim cannot start an image of its own: ${said(ran)}`)
}

async function atMost(ms: number, run: Promise<Ran>): Promise<Ran> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Ran>((resolve) => {
    timer = setTimeout(
      () => resolve({ ended: false, reason: 'Undecided', message: `no decision within ${ms / 1_000} s` }),
      ms,
    )
  })
  run.catch(() => {})
  try {
    return await Promise.race([run, late])
  } finally {
    clearTimeout(timer)
  }
}

function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize
}

/** A tar header by hand: the library would not write these. */
function header(name: string, { size = '00000000000', type = '0', mode = '0000644' } = {}): Buffer {
  const bytes = Buffer.alloc(BLOCK)
  bytes.write(name, 0, 100, 'latin1')
  bytes.write(`${mode}\0`, 100)
  bytes.write('0000000\0', 108)
  bytes.write('0000000\0', 116)
  bytes.write(size, 124, 12, 'latin1')
  bytes.write('00000000000\0', 136)
  bytes.write('        ', 148)
  bytes.write(type, 156)
  bytes.write('ustar\u000000', 257, 'latin1')
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return bytes
}

function* zeros(mebibytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(MiB)
  for (let i = 0; i < mebibytes; i++) yield piece
}

/** Of pieces that would not fit into memory together: what they compress to, and the digest of what they were. */
async function compress(pieces: Iterable<Buffer>): Promise<{ blob: Buffer; diffId: string }> {
  const hash = createHash('sha256')
  const hashed = function* () {
    for (const piece of pieces) {
      hash.update(piece)
      yield piece
    }
  }
  const blob = await buffer(Readable.from(hashed()).pipe(createGzip({ level: constants.Z_BEST_SPEED })))
  return { blob, diffId: `sha256:${hash.digest('hex')}` }
}

/** A layer of these bytes on top of an ordinary one. */
async function imageWith(pieces: Iterable<Buffer>): Promise<RegistryImage> {
  const { blob, diffId } = await compress(pieces)
  return assembleImage([await baseLayer(), { tar: Buffer.alloc(0), blob, claims: { diffId } }])
}

/** Somebody on the machine, to whom nobody of outside may speak. */
async function inner(): Promise<{ port: number; heard: () => number } & AsyncDisposable> {
  let heard = 0
  const server = createServer((socket) => {
    heard++
    socket.on('error', () => {})
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"token":"x"}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as { port: number }).port, // it listens on TCP
    heard: () => heard,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** The registry has us ask somebody else; nobody else may hear of it. */
function sendsElsewhere(
  attack: Pick<Attack, 'id' | 'title' | 'replays'>,
  send: (answer: Parameters<RegistryAnswer>[1], place: string) => void,
): Attack {
  return {
    ...attack,
    family: 'images',
    vector: 'metadata and host services',
    standards: ['T1190', 'NIST-800-190-4.4.2'],
    needs: ['pods', 'machine', 'registry'],
    control: honestImage,
    async attempt(context) {
      const { attacker, hostileRegistry } = context
      await using machine = await inner()
      const words: string[] = []
      const places = [
        `http://127.0.0.1:${machine.port}/`,
        `https://127.0.0.1:${machine.port}/`,
        `https://localhost:${machine.port}/`,
        `https://[::ffff:7f00:1]:${machine.port}/`,
        `https://2130706433:${machine.port}/`,
        'https://169.254.169.254/latest/meta-data/',
        'file:///etc/passwd',
      ]
      for (const [i, place] of places.entries()) {
        const repository = repositoryOf(`${attack.id}-${i}`, context)
        hostileRegistry.serve(repository, (_what, answer) => send(answer, place))
        const ran = await atMost(
          UNDECIDED_MS,
          runImage(attacker, {
            image: `${hostileRegistry.host}/${repository}:1`,
            name: `e${i}-${context.mark}`,
            script: 'echo ran',
          }),
        )
        if (hostileRegistry.askedOf(repository).length === 0) return untried(`${place}: ${said(ran)}`)
        if (machine.heard() > 0) return escaped(`${place} was asked: ${said(ran)}`)
        words.push(ran.ended ? said(ran) : ran.message.slice(-120))
      }
      return blocked('the puller goes where the registry is, and to nobody of the machine', words.join('; '))
    },
  }
}

/** The victim's private layer, which only its own registry has sent; the attacker knows its names. */
async function privateLayer(
  context: AttackContext,
): Promise<{ source: LayerSource; digest: string; diffId: string; size: number }> {
  const { victim, hostileRegistry, mark } = context
  const source = { tar: await tar([file('etc/canary', victim.canaries.value)]) }
  const image = assembleImage([await baseLayer(), source])
  const repository = repositoryOf('private', context)
  hostileRegistry.serveImage(repository, image)
  const ran = await runImage(victim, {
    image: `${hostileRegistry.host}/${repository}:1`,
    name: `private-${mark}`,
    script: '/bin/busybox cat /etc/canary',
  })
  if (!ran.ended || ran.log !== victim.canaries.value) throw new Error(`the victim's own image: ${said(ran)}`)
  const { layers } = JSON.parse(image.manifest.toString()) as { layers: { digest: string; size: number }[] }
  return { source, diffId: sha256(source.tar), digest: layers[1]?.digest ?? '', size: layers[1]?.size ?? 0 }
}

const steals = (
  attack: Pick<Attack, 'id' | 'title' | 'replays' | 'always'>,
  claim: (theirs: { digest: string; diffId: string; size: number }) => LayerSource,
): Attack => ({
  ...attack,
  family: 'images',
  vector: 'images and image cache',
  standards: ['T1525'],
  needs: ['pods', 'registry'],
  control: honestImage,
  async attempt(context) {
    const { attacker, hostileRegistry, mark } = context
    const theirs = await privateLayer(context)
    const repository = repositoryOf(attack.id, context)
    const image = assembleImage([await baseLayer(), claim(theirs)])
    hostileRegistry.serveImage(repository, image, {
      [`blobs/${theirs.digest}`]: (_what, answer) => answer.writeHead(404).end(),
    })
    const ran = await atMost(
      UNDECIDED_MS,
      runImage(attacker, {
        image: `${hostileRegistry.host}/${repository}:1`,
        name: `thief-${mark}`,
        script: '/bin/busybox cat /etc/canary',
      }),
    )
    return ran.ended && ran.exitCode === 0
      ? escaped(said(ran))
      : blocked('a layer is for those whose registry sent it', said(ran))
  },
})

export const registryAttacks: readonly Attack[] = [
  steals(
    {
      id: 'image-layer-by-digest',
      title: "names the victim's private layer by its digest in a manifest of its own",
      replays: 'stores and registries that took knowing a digest for having the content',
    },
    ({ digest, diffId, size }) => ({ tar: Buffer.alloc(0), claims: { digest, diffId, size } }),
  ),
  steals(
    {
      id: 'image-layer-by-diff-id',
      always: true,
      title: "says that a layer of its own unpacks to the victim's private layer, which is unpacked already",
      replays: 'CVE-2024-24557: a build cache took what a config says of a layer for the layer',
    },
    ({ diffId }) => ({ tar: Buffer.alloc(2 * BLOCK), claims: { diffId } }),
  ),
  {
    id: 'image-presence',
    title: "sees in its own registry's log whether somebody on the machine has pulled a layer",
    family: 'images',
    vector: 'co-location',
    standards: ['T1613'],
    needs: ['pods', 'registry'],
    control: honestImage,
    async attempt(context) {
      const { attacker, hostileRegistry, mark } = context
      const theirs = await privateLayer(context)
      const nobodys = { tar: await tar([file('etc/canary', randomBytes(36).toString('hex'))]) }
      const asked: boolean[] = []
      for (const [i, source] of [theirs.source, nobodys].entries()) {
        const repository = repositoryOf(`presence-${i}`, context)
        const image = assembleImage([await baseLayer(), source])
        hostileRegistry.serveImage(repository, image)
        await attacker.create(`/api/v1/namespaces/${attacker.canaries.namespace}/pods`, {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: `presence-${i}-${mark}`, namespace: attacker.canaries.namespace },
          spec: {
            restartPolicy: 'Never',
            terminationGracePeriodSeconds: 0,
            containers: [
              {
                name: 'main',
                image: `${hostileRegistry.host}/${repository}:1`,
                command: [`/${BUSYBOX}`, 'true'],
              },
            ],
          },
        })
        const path = `/api/v1/namespaces/${attacker.canaries.namespace}/pods/presence-${i}-${mark}`
        await until(
          async () =>
            (await attacker.must<{ status: { phase?: string } }>(path)).status.phase === 'Succeeded',
          { timeoutMs: UNDECIDED_MS, everyMs: 100, what: 'A pod whose layers may be here already' },
        )
        const { layers } = JSON.parse(image.manifest.toString()) as { layers: { digest: string }[] }
        asked.push(hostileRegistry.askedOf(repository).includes(`blobs/${layers[1]?.digest}`))
      }
      return asked[0] === asked[1]
        ? blocked(
            'a layer is for those whose registry sent it',
            `its registry was asked for both, the victim's and nobody's: ${asked.join(', ')}`,
          )
        : escaped(`it was asked for the victim's layer: ${asked[0]}, and for nobody's: ${asked[1]}`)
    },
  },
  {
    id: 'image-poisoned-blob',
    title: 'has other bytes for the digest of a layer that the victim is going to pull',
    replays: 'caches that kept what was sent under the name that was asked for',
    family: 'images',
    vector: 'images and image cache',
    standards: ['T1525', 'MS-TA9002'],
    needs: ['pods', 'registry'],
    control: honestImage,
    async attempt(context) {
      const { attacker, victim, hostileRegistry, mark } = context
      const good = assembleImage([await baseLayer(), { tar: await tar([file('etc/whose', 'good')]) }])
      const { layers } = JSON.parse(good.manifest.toString()) as {
        layers: { digest: string; size: number }[]
      }
      const evil = (await compress([await tar([file('etc/whose', 'evil')])])).blob
      const [poison, clean] = [repositoryOf('poison', context), repositoryOf('clean', context)]
      hostileRegistry.serveImage(poison, good, {
        [`blobs/${layers[1]?.digest}`]: (_what, answer) => answer.end(evil),
      })
      hostileRegistry.serveImage(clean, good)
      const run = (party: Party, repository: string) =>
        atMost(
          UNDECIDED_MS,
          runImage(party, {
            image: `${hostileRegistry.host}/${repository}:1`,
            name: `${repository}`,
            script: '/bin/busybox cat /etc/whose',
          }),
        )
      const poisoned = await run(attacker, poison)
      if (poisoned.ended && poisoned.exitCode === 0) return escaped(`the other bytes run: ${said(poisoned)}`)
      const theirs = await run(victim, clean)
      return theirs.ended && theirs.log === 'good'
        ? blocked('digests are checked', `${said(poisoned)}; the victim of ${mark} runs the good bytes`)
        : escaped(`the victim's image afterwards: ${said(theirs)}`)
    },
  },
  lie({
    id: 'image-endless-blob',
    title: 'sends a blob without end, and one that is longer than its manifest says',
    vector: 'disk',
    async serve() {
      const image = assembleImage([await baseLayer(), { tar: Buffer.alloc(2 * BLOCK) }])
      const { layers } = JSON.parse(image.manifest.toString()) as { layers: { digest: string }[] }
      const endless: RegistryAnswer = (_what, answer) => {
        Readable.from(zeros(ENDLESS_MIB))
          .on('error', () => {})
          .pipe(answer)
      }
      return [{ image, changed: { [`blobs/${layers[1]?.digest}`]: endless } }]
    },
  }),
  lie({
    id: 'image-size-lies',
    title: 'says sizes of layers that are not true: none, less, more, beyond all numbers',
    vector: 'disk',
    async serve() {
      const layer = { tar: Buffer.alloc(2 * BLOCK) }
      const good = assembleImage([layer])
      const sized = (size: string): RegistryImage => {
        const manifest = Buffer.from(good.manifest.toString().replace(/("layers".*"size":)\d+/, `$1${size}`))
        return { ...good, manifest, digest: sha256(manifest) }
      }
      return ['-1', '1', '1e300', '0.5', '"7"', '11000000000', '9007199254740993'].map((size, i) => ({
        name: `${i}`,
        image: sized(size),
      }))
    },
  }),
  lie({
    id: 'image-manifest-bombs',
    title: 'sends manifests that are too long, too deep, of too many layers, and that point to themselves',
    vector: 'platform components',
    async serve() {
      const good = assembleImage([await baseLayer()])
      const raw = (manifest: string | Buffer): RegistryImage => {
        const bytes = Buffer.from(manifest as Buffer)
        return { manifest: bytes, digest: sha256(bytes), blobs: good.blobs }
      }
      const [layer] = (JSON.parse(good.manifest.toString()) as { layers: object[] }).layers
      const many = good.manifest
        .toString()
        .replace(/"layers":\[.*\]/, `"layers":${JSON.stringify(Array.from({ length: 20_000 }, () => layer))}`)
      const index: RegistryAnswer = (_what, answer) => {
        const itself = {
          mediaType: 'application/vnd.oci.image.index.v1+json',
          digest: sha256(Buffer.from('x')),
          size: 100,
          platform: { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' },
        }
        answer.end(JSON.stringify({ schemaVersion: 2, manifests: [itself] }))
      }
      return [
        { name: 'long', image: raw(`{"x":"${'x'.repeat(5 * MiB)}"}`) },
        { name: 'deep', image: raw('['.repeat(MiB)) },
        { name: 'many', image: raw(many) },
        { name: 'loop', answer: index },
        { name: 'prototype', image: raw('{"__proto__":{"layers":[]},"config":{"constructor":1}}') },
      ]
    },
  }),
  lie({
    id: 'image-compression-bombs',
    title: `sends layers of a few KiB that announce 1 TiB and begin with ${BOMB_ZEROS_MIB} MiB of it, in gzip and zstd`,
    replays: 'decompression bombs',
    vector: 'disk',
    async serve() {
      const announced = header('bomb', { size: '20000000000000'.slice(0, 11) })
      // Base 256: a sign bit and eleven bytes, here 2^40.
      announced.fill(0, 124, 136)
      announced[124] = 0x80
      announced.writeUIntBE(2 ** 40, 130, 6)
      announced.write('        ', 148)
      const sum = announced.reduce((total, byte) => total + byte, 0)
      announced.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
      const pieces = function* () {
        yield announced
        yield* zeros(BOMB_ZEROS_MIB)
      }
      const small = Buffer.concat([announced, Buffer.alloc(64 * MiB)])
      const zstd = assembleImage([
        await baseLayer(),
        {
          tar: small,
          blob: zstdCompressSync(small),
          mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd',
        },
      ])
      return [
        { name: 'gzip', image: await imageWith(pieces()) },
        { name: 'zstd', image: zstd },
      ]
    },
  }),
  lie({
    id: 'image-many-entries',
    title: `has a layer of ${ENTRIES} entries`,
    vector: 'disk',
    async serve() {
      const one = header('same/', { type: '5', mode: '0000755' })
      const piece = Buffer.concat(Array.from({ length: 2_000 }, () => one))
      const pieces = function* () {
        for (let i = 0; i < ENTRIES; i += 2_000) yield piece
        yield Buffer.alloc(2 * BLOCK)
      }
      return [{ image: await imageWith(pieces()) }]
    },
  }),
  lie({
    id: 'image-broken-headers',
    title: 'has archives with negative sizes, wrong sums, endless names and records that say something else',
    vector: 'images and image cache',
    async serve() {
      const end = Buffer.alloc(2 * BLOCK)
      const negative = header('negative')
      negative.fill(0xff, 124, 136)
      const wrongSum = header('sum')
      wrongSum.write('000000', 148)
      const record = (text: string) =>
        Buffer.concat([
          header('pax', { type: 'x', size: text.length.toString(8).padStart(11, '0') }),
          Buffer.from(text.padEnd(Math.ceil(text.length / BLOCK) * BLOCK, '\0')),
        ])
      const named = (bytes: number) =>
        Buffer.concat([
          header('././@LongLink', { type: 'L', size: bytes.toString(8).padStart(11, '0') }),
          Buffer.alloc(Math.ceil(bytes / BLOCK) * BLOCK, 'a'),
        ])
      const layers: [string, Buffer[]][] = [
        ['negative', [negative, end]],
        ['sum', [wrongSum, end]],
        ['record', [record('999999999 size=1\n'), header('x'), end]],
        ['size', [record('22 size=9999999999999\n'), header('x'), end]],
        ['long', [named(8 * MiB), header('x'), end]],
        ['type', [header('x', { type: 'Z' }), header('\0\0\0', { type: '\0' }), Buffer.alloc(KiB, 0xff)]],
      ]
      return await Promise.all(
        layers.map(async ([name, pieces]) => ({
          name,
          image: await imageWith(pieces),
          // Something that is read as an ordinary image may run; what it must not do is anything else.
          shows: /ESCAPED/,
        })),
      )
    },
  }),
  lie({
    id: 'image-user-overflow',
    title: 'names users that become root by overflow, where it must not be root',
    replays: 'CVE-2024-40635: a user id beyond 31 bits ended up as root',
    vector: 'kernel',
    container: { securityContext: { runAsNonRoot: true } },
    async serve() {
      const layer = await baseLayer()
      return [
        '4294967296',
        '2147483648',
        '18446744073709551616',
        '-1',
        '1e0',
        '00',
        '+0',
        '65536',
        ' 0',
        '0x0',
      ].map((user, i) => ({
        name: `u${i}`,
        image: assembleImage([layer], { User: user }),
        shows: /ran as 0/,
      }))
    },
  }),
  sendsElsewhere(
    {
      id: 'image-redirects',
      title: "has a registry send the platform's puller to the machine's own services and to metadata",
      replays:
        'CVE-2020-15157: a registry led a runtime to where its credentials went; CVE-2022-3172: a server that followed where it was sent',
    },
    (answer, place) => answer.writeHead(307, { location: place }).end(),
  ),
  sendsElsewhere(
    {
      id: 'image-token-service',
      title: "has a registry send the platform's puller for a token to the machine's own services",
      replays: 'clients of registries that asked for tokens wherever a header said',
    },
    (answer, place) =>
      answer.writeHead(401, { 'www-authenticate': `Bearer realm="${place}",service="x"` }).end(),
  ),
  {
    id: 'image-slow-registry',
    title: `has ${SLOW_PULLS} images pulled from registries that answer with a byte now and then`,
    family: 'images',
    vector: 'platform components',
    standards: ['T1499'],
    needs: ['pods', 'registry', 'machine'],
    control: honestImage,
    async attempt(context) {
      const { attacker, hostileRegistry, mark } = context
      const pods = `/api/v1/namespaces/${attacker.canaries.namespace}/pods`
      const timers = new Set<NodeJS.Timeout>()
      const drip: RegistryAnswer = (_what, answer) => {
        answer.writeHead(200)
        const timer = setInterval(() => answer.write(' '), SECOND_MS)
        timers.add(timer)
        answer.once('close', () => clearInterval(timer))
      }
      const names = Array.from({ length: SLOW_PULLS }, (_, i) => `slow-${i}-${mark}`)
      try {
        for (const name of names) {
          hostileRegistry.serve(name, drip)
          await attacker.create(pods, {
            apiVersion: 'v1',
            kind: 'Pod',
            metadata: { name, namespace: attacker.canaries.namespace },
            spec: {
              terminationGracePeriodSeconds: 0,
              containers: [{ name: 'main', image: `${hostileRegistry.host}/${name}:1` }],
            },
          })
        }
        await until(() => names.some((name) => hostileRegistry.askedOf(name).length > 0), {
          timeoutMs: 20 * SECOND_MS,
          everyMs: 50,
          what: 'A pull from a slow registry',
        })
        const beganMs = performance.now()
        const unfair = await victimPulls(context)
        const hanging = names.filter((name) => hostileRegistry.askedOf(name).length > 0).length
        return (
          unfair ??
          blocked(
            'limits per tenant',
            `with ${hanging} slow pulls at once the victim has its image after ${Math.round(performance.now() - beganMs)} ms`,
          )
        )
      } finally {
        for (const timer of timers) clearInterval(timer)
        for (const name of names)
          await attacker.own(`${pods}/${name}?gracePeriodSeconds=0`, { method: 'DELETE' })
      }
    },
  },
  {
    id: 'image-tag-moved',
    title: "gives the tag of the victim's image to another, before a container of it is started again",
    replays: 'tags that mean something else at every pull',
    family: 'images',
    vector: 'images and image cache',
    standards: ['T1525', 'MS-TA9002'],
    needs: ['pods', 'registry'],
    control: honestImage,
    async attempt(context) {
      const { victim, hostileRegistry } = context
      const repository = repositoryOf('moved', context)
      const imageOf = async (text: string) =>
        assembleImage([await baseLayer(), { tar: await tar([file('etc/which', text)]) }])
      const [first, second] = [await imageOf('first'), await imageOf('second')]
      let tagged = first
      hostileRegistry.serve(repository, (what, answer) => {
        const [kind, name = ''] = what.split('/')
        if (kind === 'manifests')
          return void answer.end(name === first.digest ? first.manifest : tagged.manifest)
        answer.end(first.blobs.get(name) ?? second.blobs.get(name))
      })
      const { namespace } = victim.canaries
      const pods = `/api/v1/namespaces/${namespace}/pods`
      const script =
        '/bin/busybox cat /etc/which; echo; [ -e /work/again ] && exec /bin/busybox sleep 600; : >/work/again'
      await victim.create(pods, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: repository, namespace },
        spec: {
          terminationGracePeriodSeconds: 0,
          volumes: [{ name: 'work', emptyDir: {} }],
          containers: [
            {
              name: 'main',
              image: `${hostileRegistry.host}/${repository}@${first.digest}`,
              imagePullPolicy: 'Always',
              command: [`/${BUSYBOX}`, 'sh', '-c', script],
              volumeMounts: [{ name: 'work', mountPath: '/work' }],
            },
          ],
        },
      })
      tagged = second
      type Seen = { status: { containerStatuses?: { restartCount: number; state: { running?: object } }[] } }
      await until(
        async () => {
          const { status } = await victim.must<Seen>(`${pods}/${repository}`)
          const [container] = status.containerStatuses ?? []
          return (container?.restartCount ?? 0) > 0 && container?.state.running !== undefined
        },
        { timeoutMs: UNDECIDED_MS, everyMs: 200, what: 'The second start of the container' },
      )
      const body = await until(
        async () => (await victim.own(`${pods}/${repository}/log`)).body.match(/first|second/)?.[0],
        { timeoutMs: UNDECIDED_MS, everyMs: 200, what: 'What the second start says' },
      )
      await victim.own(`${pods}/${repository}?gracePeriodSeconds=0`, { method: 'DELETE' })
      return body === 'first'
        ? blocked('digests are checked', `started again with the tag moved, it is the ${body} image`)
        : escaped(`the victim runs the ${body} image`)
    },
  },
]
