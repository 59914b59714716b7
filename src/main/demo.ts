import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { styleText } from 'node:util'
import { request } from 'undici'
import { buildSampleImages } from '../../samples/images/build.ts'
import { paths } from '../api/index.ts'
import {
  applyTenants,
  ControlPlaneClient,
  issueKubeconfig,
  printable,
  readKubeconfig,
  untilTenantReady,
} from '../cli/index.ts'
import { Daemons, ensureDaemonUsers, ensureDirectory } from '../engine/local/index.ts'
import { createLogger, systemClock, until } from '../stdx/index.ts'
import { freePort } from './free-port.ts'
import { type MachineContext, up } from './machine.ts'
import { runVerify } from './verify.ts'

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const KUBECTL = join(REPOSITORY, '.cache/bin/kubectl')
const REGISTRY = '127.0.0.1:5055'
const REGISTRY_DAEMON = 'sample-registry'
const TENANTS = ['red', 'blue'] as const
const NAMESPACE = 'shop'
const INTRUDER = 'intruder'
const ROLLOUT_TIMEOUT = '120s'

type Tenant = (typeof TENANTS)[number]
type Answer = { code: number; stdout: string; stderr: string }

/**
 * The main job, watched from beginning to end: two tenants with real workloads, what each sees, what happens when one
 * reaches for the other, and the proof. Returns the exit code of the proof.
 */
export async function demo(context: MachineContext, { wait }: { wait: boolean }): Promise<number> {
  const { print, progress } = context
  const heading = (text: string) => print(`\n${bold(text)}`)
  if (!existsSync(KUBECTL)) throw new Error(`The stock kubectl is not at "${KUBECTL}"; run tools/setup`)

  heading('1. The platform starts on this machine')
  await up(context)

  heading(`2. Sample images, built from Debian's packages, in a registry at ${REGISTRY}`)
  await startRegistry(context)
  const digests = await buildSampleImages(REGISTRY, progress)
  for (const [name, digest] of Object.entries(digests)) print(`  ${REGISTRY}/${name}:1  ${digest}`)

  heading('3. Two tenants, described in samples/tenants.yaml')
  const kubeconfigs = await tenantKubeconfigs(context)

  const kubectl = (tenant: Tenant, ...args: string[]) =>
    run(KUBECTL, ['--kubeconfig', kubeconfigs[tenant], ...args])
  heading('4. Each applies the same ordinary manifests with stock kubectl (samples/manifests/shop.yaml)')
  await Promise.all(TENANTS.map((tenant) => deploy(context, tenant, kubectl)))

  heading('5. What each tenant sees')
  for (const tenant of TENANTS) {
    print(`\n  ${bold(tenant)}$ kubectl get all -n ${NAMESPACE}`)
    print(indent((await kubectl(tenant, 'get', 'all', '-n', NAMESPACE)).stdout))
    print(`  ${bold(tenant)}$ kubectl logs -n ${NAMESPACE} job/first-order`)
    const log = lastLine((await kubectl(tenant, 'logs', '-n', NAMESPACE, 'job/first-order')).stdout)
    print(
      indent(log || '(ended before the last stop of the platform, which removes logs of ended containers)'),
    )
  }

  heading('6. How to reach each app')
  for (const tenant of TENANTS) {
    const port = await freePort()
    const command = [
      '--kubeconfig',
      kubeconfigs[tenant],
      '-n',
      NAMESPACE,
      'port-forward',
      'deployment/web',
      `${port}:80`,
    ]
    print(`  ${bold(tenant)}$ kubectl ${command.join(' ')}`)
    print(`    http://127.0.0.1:${port}/ → ${await throughPortForward(command, port)}`)
  }

  heading('7. Each publishes its shop with an Ingress, under the name that the operator granted it')
  const frontDoor = `${context.layout.ingress.address}:${context.layout.ingress.httpPort}`
  for (const tenant of TENANTS) {
    await apply(kubeconfigs[tenant], shopIngress(tenant))
    print(`  $ curl -H 'Host: ${hostOf(tenant)}' http://${frontDoor}/`)
    print(`    ${await throughFrontDoor(frontDoor, hostOf(tenant))}`)
  }

  heading('8. Attempts to cross from one tenant to the other')
  const crossed = await attempts(context, kubectl, kubeconfigs)

  heading('9. What bulkhead verify finds')
  const proven = await runVerify(context, { format: 'text' })

  print('')
  print(`Kubeconfigs: ${TENANTS.map((tenant) => kubeconfigs[tenant]).join(', ')}`)
  print(`Try: ${KUBECTL} --kubeconfig ${kubeconfigs.red} get pods -A`)
  print('"bulkhead down" stops everything, "bulkhead reset --yes" removes everything.')
  if (wait) await untilInterrupted(print)
  return proven === 0 && crossed === 0 ? 0 : 1
}

async function tenantKubeconfigs({ layout, print }: MachineContext): Promise<Record<Tenant, string>> {
  await using platform = new ControlPlaneClient(readKubeconfig(paths.operatorKubeconfig(layout)))
  await applyTenants(platform, join(REPOSITORY, 'samples/tenants.yaml'))
  const dir = join(layout.stateDir, 'kubeconfigs')
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const files: Partial<Record<Tenant, string>> = {}
  for (const tenant of TENANTS) {
    const { spec, status } = await untilTenantReady(platform, tenant)
    print(
      `  ${bold(tenant)}: ${spec.trust}, runs ${spec.code} code → class ${bold(status?.isolationClass ?? '')}`,
    )
    for (const reason of status?.reasons ?? []) print(`      ${reason}`)
    const file = join(dir, `${tenant}.kubeconfig`)
    writeFileSync(
      file,
      await issueKubeconfig(platform, { tenant, user: 'admin', groups: ['bulkhead:tenant-admins'] }),
      { mode: 0o600 },
    )
    files[tenant] = file
  }
  return files as Record<Tenant, string> // the loop has set each
}

async function startRegistry({ layout }: MachineContext): Promise<void> {
  const { images } = ensureDaemonUsers()
  const data = join(layout.stateDir, REGISTRY_DAEMON)
  ensureDirectory(data, { ...images, mode: 0o700 })
  const config = join(layout.stateDir, `${REGISTRY_DAEMON}.yml`)
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${data}}}\nhttp: {addr: "${REGISTRY}"}\n`,
    { mode: 0o644 },
  )
  const daemons = new Daemons({ layout, clock: systemClock, log: createLogger('demo', { level: 'error' }) })
  await daemons.ensure({
    name: REGISTRY_DAEMON,
    command: ['/usr/bin/docker-registry', 'serve', config],
    uid: images.uid,
    gid: images.gid,
    env: { PATH: '/usr/bin:/bin' },
    cwd: '/',
  })
  await until(
    async () => {
      const answer = await request(`http://${REGISTRY}/v2/`)
      await answer.body.dump()
      return answer.statusCode === 200
    },
    { what: `The sample registry at ${REGISTRY}` },
  )
  daemons.release(REGISTRY_DAEMON)
}

async function deploy(
  { print, progress }: MachineContext,
  tenant: Tenant,
  kubectl: (tenant: Tenant, ...args: string[]) => Promise<Answer>,
): Promise<void> {
  const began = performance.now()
  const must = async (...args: string[]) => {
    const answer = await kubectl(tenant, ...args)
    if (answer.code !== 0)
      throw new Error(`kubectl ${args.join(' ')} failed for ${tenant}: ${printable(answer.stderr)}`)
    return answer.stdout
  }
  const applied = await must('apply', '-f', join(REPOSITORY, 'samples/manifests/shop.yaml'))
  progress(`${tenant}: ${applied.trim().split('\n').join(', ')}`)
  await must('rollout', 'status', '-n', NAMESPACE, 'deployment/web', `--timeout=${ROLLOUT_TIMEOUT}`)
  await must(
    'wait',
    '-n',
    NAMESPACE,
    '--for=condition=complete',
    'job/first-order',
    `--timeout=${ROLLOUT_TIMEOUT}`,
  )
  print(
    `  ${bold(tenant)}: rolled out and job complete after ${((performance.now() - began) / 1000).toFixed(1)} s`,
  )
}

type Attempt = { what: string; stopped: (answer: Answer) => string | undefined; run: () => Promise<Answer> }

/** Tries for real, and says what stopped each. Returns how many were not stopped. */
async function attempts(
  { print }: MachineContext,
  kubectl: (tenant: Tenant, ...args: string[]) => Promise<Answer>,
  kubeconfigs: Record<Tenant, string>,
): Promise<number> {
  const podIp = async (tenant: Tenant) =>
    (
      await kubectl(
        tenant,
        'get',
        'pods',
        '-n',
        NAMESPACE,
        '-l',
        'app=web',
        '-o',
        'jsonpath={.items[0].status.podIP}',
      )
    ).stdout
  const refusedWith = (words: RegExp) => (answer: Answer) =>
    answer.code !== 0 ? words.exec(`${answer.stdout}\n${answer.stderr}`)?.[0] : undefined
  /** Only these words show that the attempt was made and stopped; an exec that does not work says something else. */
  const stoppedWith = (words: RegExp, layer: string) => (answer: Answer) =>
    answer.code !== 0 && words.test(answer.stderr) ? layer : undefined
  // `timeout` ends a client whose packets are dropped, and that is its exit code.
  const noWay = /exit code 143|unreachable/i
  const inPod = (tenant: Tenant, ...command: string[]) =>
    kubectl(tenant, 'exec', '-n', NAMESPACE, INTRUDER, '--', ...command)
  const fetchFrom = (tenant: Tenant, url: string) =>
    inPod(tenant, 'timeout', '2', 'wget', '-q', '-O', '-', url)
  const machine = addressOfMachine()
  const server = readKubeconfig(kubeconfigs.red).server
  let failures = 0
  for (const [attacker, victim] of [
    ['red', 'blue'],
    ['blue', 'red'],
  ] as const) {
    await kubectl(
      attacker,
      'delete',
      'pod',
      '-n',
      NAMESPACE,
      INTRUDER,
      '--ignore-not-found',
      '--grace-period=0',
    )
    await kubectl(
      attacker,
      'run',
      '-n',
      NAMESPACE,
      INTRUDER,
      `--image=${REGISTRY}/busybox:1`,
      '--restart=Never',
      '--command',
      '--',
      'sleep',
      '3600',
    )
    await kubectl(
      attacker,
      'wait',
      '-n',
      NAMESPACE,
      '--for=condition=Ready',
      `pod/${INTRUDER}`,
      `--timeout=${ROLLOUT_TIMEOUT}`,
    )
    const target = await podIp(victim)
    // Without this, a pod that cannot reach anything would look well isolated.
    const own = await fetchFrom(attacker, `http://web.${NAMESPACE}.svc.cluster.local/`)
    const works = own.code === 0 && own.stdout.includes('Hello from the shop')
    if (!works) failures++
    print(
      `  ${works ? 'works  ' : red('BROKEN ')}  ${attacker}'s pod to its own service, to show that the attempts below are really made`,
    )
    const list: Attempt[] = [
      {
        what: `${attacker}'s kubeconfig against ${victim}'s API`,
        run: () =>
          kubectl(
            attacker,
            '--server',
            server.replace('/tenants/red', `/tenants/${victim}`),
            'get',
            'secrets',
            '-A',
          ),
        stopped: refusedWith(/You have no access[^\n]{0,120}|is forbidden[^\n]{0,120}/),
      },
      {
        what: `${attacker}'s pod to ${victim}'s pod at ${target}:80`,
        run: () => fetchFrom(attacker, `http://${target}/`),
        stopped: stoppedWith(noWay, "router rules (nftables) and the filter on the victim's link"),
      },
      {
        what: `${attacker}'s pod to the cloud metadata address`,
        run: () => fetchFrom(attacker, 'http://169.254.169.254/'),
        stopped: stoppedWith(noWay, 'router rules, and no path out of the router'),
      },
      {
        what: `${attacker}'s pod to this machine at ${machine}`,
        run: () => fetchFrom(attacker, `http://${machine}:22/`),
        stopped: stoppedWith(noWay, 'router rules, and no path out of the router'),
      },
      {
        what: `${attacker}'s pod writes to a kernel setting`,
        run: () => inPod(attacker, 'sh', '-c', 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'),
        stopped: stoppedWith(
          /read-only|denied|not permitted|nonexistent/i,
          'user namespace and read-only /proc/sys',
        ),
      },
      {
        what: `${attacker} asks for a privileged pod with the machine's root directory`,
        run: () => apply(kubeconfigs[attacker], HOSTILE_POD),
        stopped: (answer) => (answer.code !== 0 ? firstRefusal(answer.stderr) : undefined),
      },
      {
        what: `${attacker} publishes under ${victim}'s name ${hostOf(victim)}`,
        run: () => apply(kubeconfigs[attacker], shopIngress(victim)),
        stopped: refusedWith(/the host "[^"\n]{0,80}" was not granted/),
      },
    ]
    for (const attempt of list) {
      const stopped = attempt.stopped(await attempt.run())
      if (stopped === undefined) failures++
      print(
        `  ${stopped === undefined ? red('NOT STOPPED') : 'stopped'}  ${attempt.what}${stopped === undefined ? '' : `\n             by ${printable(stopped)}`}`,
      )
    }
  }
  for (const tenant of TENANTS)
    await kubectl(tenant, 'delete', 'pod', '-n', NAMESPACE, INTRUDER, '--grace-period=0')
  return failures
}

/** The host is the operator's to give (samples/tenants.yaml). */
function hostOf(tenant: Tenant): string {
  return `shop.${tenant}.example.com`
}

function shopIngress(tenant: Tenant): string {
  const path = '{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}'
  return (
    `apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: ${NAMESPACE}}\n` +
    `spec: {rules: [{host: ${hostOf(tenant)}, http: {paths: [${path}]}}]}\n`
  )
}

function apply(kubeconfig: string, manifest: string): Promise<Answer> {
  const command = `printf '%s' "$MANIFEST" | ${KUBECTL} --kubeconfig ${kubeconfig} apply -f -`
  return run('sh', ['-c', command], { MANIFEST: manifest })
}

const HOSTILE_POD = `apiVersion: v1
kind: Pod
metadata: {name: escape, namespace: ${NAMESPACE}}
spec:
  hostPID: true
  containers:
    - name: c
      image: ${REGISTRY}/busybox:1
      securityContext: {privileged: true}
      volumeMounts: [{name: root, mountPath: /host}]
  volumes: [{name: root, hostPath: {path: /}}]
`

function firstRefusal(stderr: string): string {
  const fields = [...stderr.matchAll(/spec\.[\w.[\]]+/g)].map((match) => match[0])
  return `the API's schema: ${[...new Set(fields)].join(', ') || stderr.trim().slice(0, 160)}`
}

async function throughFrontDoor(address: string, host: string): Promise<string> {
  const title = await until(
    async () => {
      const answer = await request(`http://${address}/`, { headers: { host } })
      return titleOf(await answer.body.text())
    },
    { timeoutMs: 15_000, everyMs: 200, what: `An answer of "${host}" through the front door` },
  )
  return printable(title)
}

function titleOf(page: string): string | undefined {
  return /<h1>(.{0,100}?)<\/h1>/.exec(page)?.[1]
}

async function throughPortForward(args: readonly string[], port: number): Promise<string> {
  const child = spawn(KUBECTL, args, { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  try {
    const title = await until(
      async () => {
        const answer = await request(`http://127.0.0.1:${port}/`)
        return titleOf(await answer.body.text())
      },
      { timeoutMs: 15_000, everyMs: 100, what: 'An answer through the port-forward' },
    )
    return printable(title)
  } finally {
    child.kill()
    await ended
  }
}

function run(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      { encoding: 'utf8', maxBuffer: 16 * 1024 * 1024, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0
        resolve({ code, stdout, stderr })
      },
    )
  })
}

async function untilInterrupted(print: (text: string) => void): Promise<void> {
  print('\nThe platform goes on running. Ctrl-C ends this command and leaves it running.')
  await new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
}

/** One that is not loopback, where this machine has one. */
function addressOfMachine(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return addresses.find((entry) => entry.family === 'IPv4' && !entry.internal)?.address ?? '192.0.2.1'
}

function isColourful(): boolean {
  return process.stdout.isTTY && process.env['NO_COLOR'] === undefined
}

function bold(text: string): string {
  return isColourful() ? styleText('bold', text, { validateStream: false }) : text
}

function red(text: string): string {
  return isColourful() ? styleText(['red', 'bold'], text, { validateStream: false }) : text
}

function indent(text: string): string {
  return printable(text).trimEnd().replace(/^/gm, '    ')
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}
