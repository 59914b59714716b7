import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import {
  accessSync,
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IDS_PER_TENANT, type Layout, parseLayout, parseTenantName } from '../../../api/index.ts'
import type { Duplex } from 'node:stream'
import {
  CHANNEL,
  FrameParser,
  renderFrame,
  type Jail,
  type JailContainer,
  type JailId,
} from '../../../jail/index.ts'
import { createLogger, silentLogger, systemClock } from '../../../stdx/index.ts'
import type { ContainerSpec, PodNamespaces, TenantPlacement, UnpackedImage } from '../parts.ts'
import type { Tool } from './places.ts'
import { createContainerHost } from './container-host.ts'
import { MS_BIND, mount, umount } from './syscalls.ts'
import { renderElf } from './tiny-program.ts'
import { runTool } from './tool.ts'

/** Pods for tests without the images' and the network's parts: busybox as the image, bare namespaces as the network. */

const BUSYBOX = '/bin/busybox'
const APPLETS =
  'sh,cat,echo,sleep,ls,id,env,true,false,head,tail,dd,kill,mkdir,touch,stat,grep,sed,wc,readlink,mount,umount,unshare,hostname,tty,stty,ip,seq,yes,tr,pwd,chmod,chown,ln,rm,mknod,nproc,ps,test,printf,date,df,usleep'

/** What a session delivered, by channel, until its end. */
export async function collect(session: Duplex): Promise<{ stdout: string; stderr: string; status: unknown }> {
  const parser = new FrameParser()
  const got = { stdout: '', stderr: '', status: undefined as unknown }
  for await (const chunk of session)
    for (const { channel, payload } of parser.parse(chunk as Buffer)) {
      if (channel === CHANNEL.stdout) got.stdout += payload.toString()
      if (channel === CHANNEL.stderr) got.stderr += payload.toString()
      if (channel === CHANNEL.status) got.status = JSON.parse(payload.toString())
    }
  return got
}

export function send(session: Duplex, channel: keyof typeof CHANNEL, payload: string | Buffer): void {
  session.write(renderFrame(CHANNEL[channel], Buffer.from(payload)))
}

/** Why containers cannot be tried here, or undefined. */
export function whyNoContainers(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  for (const program of [BUSYBOX, '/usr/bin/conmon', '/usr/bin/nsenter']) {
    try {
      accessSync(program)
    } catch {
      return `needs ${program}`
    }
  }
  return undefined
}

export type TestPod = {
  jail: Jail
  placement: TenantPlacement
  namespaces: PodNamespaces
  image: UnpackedImage
  spec(container: JailContainer, attempt?: number): ContainerSpec
}

export class TestHost implements AsyncDisposable {
  readonly layout: Layout
  readonly directory: string
  readonly host: ReturnType<typeof createContainerHost>
  private readonly pins: string[] = []
  private readonly image: UnpackedImage
  // Containers report through watches that do not keep a process alive on their own.
  private readonly awake = setInterval(() => {}, 60_000)

  constructor(instance: string, slot: number, tools?: readonly Tool[]) {
    this.directory = mkdtempSync(join(tmpdir(), `bulkhead-${instance}-`))
    // gVisor's helpers reach volumes as the tenant's root, so they must be able to pass through.
    chmodSync(this.directory, 0o711)
    this.layout = parseLayout({
      BULKHEAD_INSTANCE: instance,
      BULKHEAD_SLOT: String(slot),
      BULKHEAD_STATE_DIR: join(this.directory, 'state'),
    })
    this.host = openHost(this.layout, tools)
    this.image = {
      imageID: 'test@sha256:0',
      layers: [busyboxLayer(join(this.directory, 'layer'))],
      config: CONFIG,
    }
  }

  /** A pod with namespaces of its own, ready for `start`. */
  async pod(
    containers: readonly JailContainer[],
    {
      tenant = 0,
      ...more
    }: Partial<Omit<Jail, 'id' | 'tenant' | 'containers'>> & {
      tenant?: number
      isolationClass?: TenantPlacement['isolationClass']
    } = {},
  ): Promise<TestPod> {
    const { isolationClass = 'shared', ...fields } = more
    const placement: TenantPlacement = {
      tenant: parseTenantName(`t${tenant}`),
      index: tenant,
      isolationClass,
      podUidBase: this.layout.podUidBase + tenant * IDS_PER_TENANT,
      controlPlaneUid: 0,
      registries: [],
    }
    const jail = { ...makeJail(containers), tenant: placement.tenant, ...fields }
    const namespaces = await this.namespaces(placement.podUidBase)
    await this.host.ensurePod(placement, jail)
    const image = this.image
    return {
      jail,
      placement,
      namespaces,
      image,
      spec: (container, attempt = 0) => ({ jail, placement, container, attempt, image, namespaces }),
    }
  }

  /** User, network, ipc and uts namespaces of a tenant's range, pinned as the network's part would pin them. */
  async namespaces(podUidBase: number): Promise<PodNamespaces> {
    const holder = spawn('unshare', ['--user', '--net', '--ipc', '--uts', 'sh', '-c', 'echo; read x'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    try {
      await once(holder.stdout, 'data')
      const proc = `/proc/${holder.pid}`
      writeFileSync(`${proc}/uid_map`, `0 ${podUidBase} ${IDS_PER_TENANT}`)
      writeFileSync(`${proc}/gid_map`, `0 ${podUidBase} ${IDS_PER_TENANT}`)
      await runTool(['nsenter', `--net=${proc}/ns/net`, 'ip', 'link', 'set', 'lo', 'up'])
      const pin = (type: string) => {
        const path = join(this.directory, `${type}-${randomUUID()}`)
        closeSync(openSync(path, 'w'))
        mount(`${proc}/ns/${type}`, path, null, MS_BIND, null)
        this.pins.push(path)
        return path
      }
      return { user: pin('user'), net: pin('net'), ipc: pin('ipc'), uts: pin('uts'), podIP: '10.0.0.1' }
    } finally {
      holder.stdin.end()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.awake)
    const awake = setInterval(() => {}, 60_000)
    try {
      await this.host.reset()
      for (const pin of this.pins) if (existsSync(pin)) umount(pin)
      rmSync(this.directory, { recursive: true, force: true })
      rmSync(this.layout.runDir, { recursive: true, force: true })
    } finally {
      clearInterval(awake)
    }
  }
}

export function openHost(layout: Layout, tools?: readonly Tool[]): ReturnType<typeof createContainerHost> {
  return createContainerHost({
    layout,
    clock: systemClock,
    log: process.env['BULKHEAD_TEST_LOG'] ? createLogger('test') : silentLogger,
    resolver: '169.254.1.1',
    hostIP: '169.254.1.1',
    ...(tools ? { tools } : {}),
  })
}

const CONFIG: UnpackedImage['config'] = {
  entrypoint: [],
  cmd: ['/bin/sh'],
  env: ['PATH=/bin'],
  user: '',
  workingDir: '',
  volumes: [],
}

function busyboxLayer(root: string): string {
  for (const directory of ['bin', 'etc', 'tmp', 'home/app', 'proc', 'sys', 'dev'])
    mkdirSync(join(root, directory), { recursive: true })
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'))
  for (const applet of APPLETS.split(',')) symlinkSync('busybox', join(root, 'bin', applet))
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n',
  )
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\napp:x:1001:\nextra:x:1002:app\n')
  return root
}

/** Writes its effective user id, 8 bytes (x86-64 only). A busybox would give its rights away by itself. */
const TELL_USER = Buffer.from([
  ...[0xb8, 107, 0, 0, 0, 0x0f, 0x05, 0x50], // geteuid, push
  ...[0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xba, 8, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x0f, 0x05], // write(1, rsp, 8)
  ...[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05], // exit(0)
])

/** A layer with a program of root's that has the set-user-id bit, as `/as-root`. */
export function setIdLayer(directory: string): string {
  const layer = join(directory, 'set-id')
  const program = join(layer, 'as-root')
  mkdirSync(layer, { recursive: true })
  writeFileSync(program, renderElf('x64', TELL_USER))
  chmodSync(program, 0o4755)
  return layer
}

/** Whose program it is, its bits, and who a user of the pod is once it has started it. */
export const SET_ID_ATTEMPT = 'stat -c "%u %a" /as-root; /as-root | od -An -td4 -N4 | tr -d " "'
export const SET_ID_REFUSED = '0 4755\n1000\n'

export function makeContainer(
  name: string,
  script: string,
  more: Partial<JailContainer> = {},
): JailContainer {
  return {
    name,
    image: 'busybox',
    imagePullPolicy: 'IfNotPresent',
    command: ['/bin/sh', '-c', script],
    env: [],
    supplementalGroups: [],
    runAsNonRoot: false,
    readOnlyRootFilesystem: false,
    mounts: [],
    resources: { cpuMillisRequest: 100, memoryBytesRequest: 0 },
    ports: [],
    lifecycle: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    stdin: false,
    stdinOnce: false,
    tty: false,
    ...more,
  }
}

export function makeJail(containers: readonly JailContainer[]): Jail {
  const id = randomUUID() as JailId // Random UUIDs are lower-case RFC 9562 text.
  return {
    id,
    tenant: parseTenantName('t0'),
    namespace: 'default',
    pod: 'pod',
    hostname: 'pod',
    runtime: 'runc',
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: 1,
    initContainers: [],
    containers,
    volumes: [],
    dns: { searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
    hostAliases: [],
  }
}
