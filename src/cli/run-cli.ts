import { accessSync, constants, existsSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Layout, parseTenantName, paths, type TenantName } from '../api/index.ts'
import { ApiRefusal, ControlPlaneClient, readKubeconfig } from './platform-client.ts'
import { MiB } from '../stdx/index.ts'
import { explainField, renderExplanation, UnknownField } from './explain.ts'
import type { TenantEgress } from '../jail/index.ts'
import { renderTenant } from './describe-tenant.ts'
import { renderEgress, renderEgressList, renderEgressSuggestion } from './egress.ts'
import { printable, renderTable, wrapped } from './table.ts'
import {
  applyTenants,
  deleteTenant,
  getTenant,
  issueKubeconfig,
  listTenants,
  untilTenantReady,
} from './tenants.ts'

/** What the command needs of the machine; the program wires it. Each prints its own progress. */
export type Machine = {
  up(): Promise<void>
  /** Stops pods and daemons; everything durable stays. */
  down(): Promise<void>
  /** Removes everything that the platform made on this machine. */
  reset(): Promise<void>
  status(): Promise<MachineStatus>
  demo(options: { wait: boolean }): Promise<number>
  verify(options: VerifyOptions): Promise<number>
  watch: WatchCommands
  /** What tenants reach outside: of all that have rules, or of one. */
  egress(tenant?: TenantName): Promise<TenantEgress[]>
  attack(options: AttackOptions): Promise<number>
}

export type AttackOptions = {
  /** Isolation classes of the two tenants; one word for both. */
  classes: readonly string[]
  families: readonly string[]
  ids: readonly string[]
  format: 'text' | 'json' | 'markdown'
  /** Only say what there is. */
  list: boolean
  /** Only the share that is tried on every change. */
  quick: boolean
}

/** What the operator decides about missing layers and alarms. */
export type WatchCommands = {
  alarms(): {
    alarms: { since: string; kind: string; tenant?: string; what: string }[]
    proven: boolean
    provenAt: string
  }
  waivers(): WaiverView[]
  waive(wanted: Omit<WaiverView, 'id'>): WaiverView
  revoke(id: string): boolean
  quarantines(): { tenant: string; since: string; reason: string }[]
  quarantine(tenant: TenantName, reason: string): void
  lift(tenant: TenantName): boolean
  /** Whether an alarm about a tenant puts it into quarantine. */
  quarantineOnAlarm(on?: boolean): boolean
}

export type WaiverView = {
  id: string
  vector: string
  tenant?: string
  until: string
  by: string
  reason: string
}

export const VERIFY_FORMATS = ['text', 'json', 'sarif', 'html'] as const
export type VerifyOptions =
  | { format: (typeof VERIFY_FORMATS)[number]; output?: string }
  /** Whether a report is as it was when this platform, or the holder of `key`, signed it. */
  | { check: string; key?: string }

export type MachineStatus = {
  /** Where clients reach the gateway. */
  server: string
  stateDir: string
  /** The gateway answers and the node agent has taken over everything. */
  ready: boolean
  daemons: { name: string; pid?: number; user: string; memoryBytes?: number }[]
  /** How many things are not as they must be, as the continuous proof sees it. */
  alarms: number
}

export type CliDeps = {
  layout: Layout
  machine: Machine
  print: (text: string) => void
  printError: (text: string) => void
  version: string
  /** The output is a terminal that shows colours. */
  colour?: boolean
}

const HELP = `bulkhead: many tenants on one machine, each with a Kubernetes of its own, provably apart

Usage: bulkhead COMMAND

On this machine
  up                        start the platform, or take over what runs
  down                      stop pods and daemons; everything durable stays
  reset --yes               remove everything that the platform made here
  status                    which daemons run, and as whom
  demo [--no-wait]          two tenants with real workloads, attacks between them, and the proof
  verify [--format text|json|sarif|html] [--output FILE]
                            observe how tenants are kept apart; fails if a layer is missing
  verify --check FILE [--key PUBLIC.PEM]
                            whether a report is as it was when it was signed, by whom and when
  alarm list                what is not as it must be, as the continuous proof sees it
  waive VECTOR [--tenant NAME] --until TIME --by WHO --reason WHY; waive list; waive revoke ID
                            answer for a missing layer, so that new pods start all the same
  quarantine add TENANT --reason WHY; quarantine lift TENANT; quarantine list
  quarantine on-alarm yes|no
                            stop a tenant's pods where they are; by itself on an alarm, or not
  attack [--classes A,B] [--family FAMILY]... [--id ID]... [--quick] [--list] [--format FORMAT]
                            attack for real, between two throwaway tenants; fails if one escapes

Tenants
  tenant list               tenants and their isolation class
  tenant describe NAME      one tenant, where it is, and why
  tenant apply -f FILE      create or change tenants
  tenant delete NAME --yes  remove a tenant with its pods, its data and its key
  kubeconfig TENANT [--user NAME] [--group GROUP]... [--namespace NS] [-f FILE]
                            a kubeconfig for stock kubectl and Helm

Manifests
  explain FIELD [-o json]   what a field is for, or why it is refused and what to write instead,
                            such as pod.spec.hostNetwork or deployment.spec.template.spec

Egress
  egress list               which tenants may reach something outside
  egress show TENANT        its rules, their use, and what no rule allows
  egress suggest TENANT     a manifest with a rule for each thing that its pods wanted

  version, help
`

/** Runs one command. Returns the exit code: 0 done, 1 failed or refused, 2 wrong usage. */
export async function runCli(argv: readonly string[], deps: CliDeps): Promise<number> {
  try {
    return await dispatch(argv, deps)
  } catch (error) {
    if (error instanceof UsageError) {
      deps.printError(`bulkhead: ${error.message}\nRun "bulkhead help" for what there is.`)
      return 2
    }
    deps.printError(`bulkhead: ${describe(error)}`)
    return 1
  }
}

class UsageError extends Error {}

/** The chain of causes in one line each, without stack traces. */
function describe(error: unknown): string {
  if (error instanceof ApiRefusal) return printable(error.message)
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\n  because: ${describe(error.cause)}`
  return `${printable(error.message)}${cause}`
}

async function dispatch(argv: readonly string[], deps: CliDeps): Promise<number> {
  const [noun = 'help', ...rest] = argv
  const { machine, print } = deps
  switch (noun) {
    case 'help':
    case '--help':
    case '-h':
      print(HELP.trimEnd())
      return 0
    case 'version':
    case '--version':
      print(`bulkhead ${deps.version}`)
      return 0
    case 'up':
      options(rest, {})
      await machine.up()
      return 0
    case 'down':
      options(rest, {})
      await machine.down()
      return 0
    case 'reset':
      if (options(rest, { yes: { type: 'boolean' } }).values['yes'] !== true)
        throw new UsageError(
          `reset destroys every tenant, its data and its keys under "${deps.layout.stateDir}"; say --yes if that is meant`,
        )
      await machine.reset()
      return 0
    case 'status':
      options(rest, {})
      return status(deps)
    case 'demo':
      return machine.demo({
        wait: options(rest, { 'no-wait': { type: 'boolean' } }).values['no-wait'] !== true,
      })
    case 'verify':
      return machine.verify(verifyOptions(rest))
    case 'attack':
      return machine.attack(attackOptions(rest))
    case 'alarm':
      return alarm(rest, deps)
    case 'waive':
      return waive(rest, deps)
    case 'quarantine':
      return quarantine(rest, deps)
    case 'tenant':
      return tenant(rest, deps)
    case 'explain':
      return explain(rest, deps)
    case 'egress':
      return egress(rest, deps)
    case 'kubeconfig':
      return kubeconfig(rest, deps)
    default:
      throw new UsageError(`there is no command "${printable(noun)}"`)
  }
}

function alarm(argv: readonly string[], { machine, print }: CliDeps): number {
  const { positionals } = options(argv, {}, 1)
  if (positionals[0] !== 'list') throw new UsageError('alarm needs list')
  const { alarms, proven, provenAt } = machine.watch.alarms()
  print(
    provenAt === ''
      ? 'Nothing was proven yet'
      : `${proven ? 'Proven' : 'NOT PROVEN'} at ${printable(provenAt)}; "bulkhead verify" says how`,
  )
  if (alarms.length === 0) print('There are no alarms')
  else
    print(
      renderTable(
        ['SINCE', 'KIND', 'TENANT', 'WHAT'],
        alarms.map(({ since, kind, tenant = '-', what }) => [since, kind, tenant, what].map(printable)),
      ),
    )
  return alarms.length === 0 && (proven || provenAt === '') ? 0 : 1
}

function waive(argv: readonly string[], { machine: { watch }, print }: CliDeps): number {
  const { values, positionals } = options(
    argv,
    {
      tenant: { type: 'string' },
      until: { type: 'string' },
      by: { type: 'string' },
      reason: { type: 'string' },
    },
    2,
  )
  const [what, id] = positionals
  const show = (waivers: readonly WaiverView[]) =>
    print(
      renderTable(
        ['ID', 'VECTOR', 'TENANT', 'UNTIL', 'BY', 'REASON'],
        waivers.map(({ id, vector, tenant = 'all', until, by, reason }) =>
          [id, vector, tenant, until, by, reason].map(printable),
        ),
      ),
    )
  if (what === 'list' && id === undefined) {
    const waivers = watch.waivers()
    if (waivers.length === 0) print('Nothing is waived')
    else show(waivers)
    return 0
  }
  if (what === 'revoke') {
    if (id === undefined) throw new UsageError('waive revoke needs an ID')
    if (!watch.revoke(id)) throw new Error(`There is no waiver "${id.slice(0, 64)}"`)
    print(`waiver "${id}" is revoked`)
    return 0
  }
  const text = (name: string) => {
    const value = values[name]
    return typeof value === 'string' ? value : undefined
  }
  const [tenant, until, by, reason] = ['tenant', 'until', 'by', 'reason'].map(text)
  if (
    what === undefined ||
    id !== undefined ||
    until === undefined ||
    by === undefined ||
    reason === undefined
  )
    throw new UsageError('waive needs VECTOR --until TIME --by NAME --reason TEXT, or list, or revoke ID')
  show([
    watch.waive({
      vector: what,
      ...(tenant === undefined ? {} : { tenant: tenantName(tenant) }),
      until,
      by,
      reason,
    }),
  ])
  return 0
}

function quarantine(argv: readonly string[], { machine: { watch }, print }: CliDeps): number {
  const { values, positionals } = options(argv, { reason: { type: 'string' } }, 2)
  const [verb, name] = positionals
  switch (verb) {
    case 'list': {
      print(
        `An alarm about a tenant ${watch.quarantineOnAlarm() ? 'puts it into quarantine' : 'is only told'}`,
      )
      const rows = watch.quarantines()
      if (rows.length === 0) print('No tenant is in quarantine')
      else
        print(
          renderTable(
            ['TENANT', 'SINCE', 'REASON'],
            rows.map(({ tenant, since, reason }) => [tenant, since, reason].map(printable)),
          ),
        )
      return 0
    }
    case 'add': {
      if (name === undefined || typeof values['reason'] !== 'string')
        throw new UsageError('quarantine add needs a TENANT and --reason TEXT')
      watch.quarantine(tenantName(name), values['reason'])
      print(`tenant "${name}" goes into quarantine: its pods stop where they are, and no new ones start`)
      return 0
    }
    case 'lift': {
      if (name === undefined) throw new UsageError('quarantine lift needs a TENANT')
      if (!watch.lift(tenantName(name))) throw new Error(`Tenant "${name}" is not in quarantine`)
      print(`tenant "${name}" is out of quarantine: its pods go on`)
      return 0
    }
    case 'on-alarm': {
      if (name !== 'yes' && name !== 'no') throw new UsageError('quarantine on-alarm needs yes or no')
      watch.quarantineOnAlarm(name === 'yes')
      print(
        `From now on an alarm about a tenant ${name === 'yes' ? 'puts it into quarantine' : 'is only told'}`,
      )
      return 0
    }
    default:
      throw new UsageError('quarantine needs list, add, lift or on-alarm')
  }
}

function verifyOptions(argv: readonly string[]): VerifyOptions {
  const { values } = options(argv, {
    format: { type: 'string', short: 'o' },
    output: { type: 'string' },
    check: { type: 'string' },
    key: { type: 'string' },
  })
  const text = (name: string) => {
    const value = values[name]
    return typeof value === 'string' ? value : undefined
  }
  const [check, key, output] = [text('check'), text('key'), text('output')]
  if (check !== undefined) {
    if (output !== undefined || values['format'] !== undefined)
      throw new UsageError('verify --check takes a report and, if another platform signed it, --key')
    return { check, ...(key === undefined ? {} : { key }) }
  }
  if (key !== undefined) throw new UsageError('verify --key is for --check')
  const wanted = text('format') ?? 'text'
  const format = VERIFY_FORMATS.find((each) => each === wanted)
  if (format === undefined)
    throw new UsageError(`verify knows the formats ${VERIFY_FORMATS.join(', ')}, not "${printable(wanted)}"`)
  return { format, ...(output === undefined ? {} : { output }) }
}

type OptionSpec = NonNullable<Parameters<typeof parseArgs>[0]>['options']

function options(argv: readonly string[], spec: NonNullable<OptionSpec>, positionalsMax = 0) {
  try {
    const parsed = parseArgs({ args: [...argv], options: spec, allowPositionals: true, strict: true })
    if (parsed.positionals.length > positionalsMax)
      throw new UsageError(`"${printable(parsed.positionals[positionalsMax] ?? '')}" is too much`)
    return parsed
  } catch (error) {
    if (error instanceof UsageError) throw error
    // The first sentence says what is wrong; what follows is about how arguments are parsed.
    const [wrong = ''] = (error instanceof Error ? error.message : String(error)).split('. ')
    throw new UsageError(printable(wrong))
  }
}

const ATTACK_CLASSES_DEFAULT = 'shared,sandboxed'
const ATTACK_FORMATS = ['text', 'json', 'markdown'] as const

/** @throws {UsageError} */
function attackOptions(argv: readonly string[]): AttackOptions {
  const { values } = options(argv, {
    classes: { type: 'string' },
    family: { type: 'string', multiple: true },
    id: { type: 'string', multiple: true },
    format: { type: 'string' },
    list: { type: 'boolean' },
    quick: { type: 'boolean' },
  })
  const words = (value: unknown) =>
    (Array.isArray(value) ? value.map(String) : []).flatMap((one) => one.split(','))
  const given = values['format'] ?? 'text'
  const format = ATTACK_FORMATS.find((known) => known === given)
  if (format === undefined)
    throw new UsageError(
      `attack knows the formats ${ATTACK_FORMATS.join(', ')}, not "${printable(String(given))}"`,
    )
  const classes = words([values['classes'] ?? ATTACK_CLASSES_DEFAULT])
  if (classes.length > 2)
    throw new UsageError('attack needs one or two classes, such as --classes shared,sandboxed')
  return {
    classes,
    families: words(values['family']),
    ids: words(values['id']),
    format,
    list: values['list'] === true,
    quick: values['quick'] === true,
  }
}

/** @throws {UsageError} when `text` can be no tenant's name. */
function tenantName(text: string): TenantName {
  try {
    return parseTenantName(text)
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function platformClient({ layout }: CliDeps): ControlPlaneClient {
  const path = process.env['BULKHEAD_OPERATOR_KUBECONFIG'] ?? paths.operatorKubeconfig(layout)
  if (!existsSync(path))
    throw new Error(
      `There is no operator's kubeconfig at "${path}"; start the platform with "bulkhead up", or set BULKHEAD_OPERATOR_KUBECONFIG`,
    )
  if (!isReadable(path))
    throw new Error(`The operator's kubeconfig "${path}" is not for this user to read (try sudo)`)
  return new ControlPlaneClient(readKubeconfig(path))
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}

async function status(deps: CliDeps): Promise<number> {
  const { server, stateDir, ready, daemons, alarms } = await deps.machine.status()
  if (daemons.length === 0) {
    deps.print('The platform is not running; "bulkhead up" starts it')
    return 1
  }
  deps.print(
    `${ready ? `The platform answers at ${server}` : `The platform does not answer at ${server} yet`}; its state is in ${stateDir}\n`,
  )
  deps.print(
    renderTable(
      ['DAEMON', 'STATE', 'PID', 'MEMORY', 'USER'],
      daemons.map(({ name, pid, user, memoryBytes }) => [
        name,
        pid === undefined ? 'stopped' : 'running',
        String(pid ?? '-'),
        memoryBytes === undefined ? '-' : `${Math.round(memoryBytes / MiB)} MiB`,
        user,
      ]),
    ),
  )
  if (alarms > 0)
    deps.print(
      `\n${alarms} ${alarms === 1 ? 'alarm lasts' : 'alarms last'}: something is not as it must be; "bulkhead alarm list" shows what`,
    )
  return ready && daemons.every((d) => d.pid !== undefined) ? 0 : 1
}

async function tenant(argv: readonly string[], deps: CliDeps): Promise<number> {
  const [verb, ...rest] = argv
  switch (verb) {
    case 'list': {
      options(rest, {})
      await using platform = platformClient(deps)
      const rows = (await listTenants(platform)).map((t) => [
        t.metadata.name,
        t.spec.trust ?? '',
        t.spec.code ?? '',
        t.status?.isolationClass ?? '',
        t.metadata.deletionTimestamp === undefined ? (t.status?.phase ?? 'Pending') : 'Terminating',
        t.status?.controlPlane ?? '',
      ])
      if (rows.length === 0)
        deps.print('There are no tenants yet; "bulkhead tenant apply -f FILE" makes them')
      else
        deps.print(
          renderTable(
            ['NAME', 'TRUST', 'CODE', 'CLASS', 'PHASE', 'CONTROL PLANE'],
            rows.map((row) => row.map(printable)),
          ),
        )
      return 0
    }
    case 'describe': {
      const { positionals } = options(rest, {}, 1)
      if (positionals[0] === undefined) throw new UsageError('tenant describe needs a NAME')
      const name = tenantName(positionals[0])
      await using platform = platformClient(deps)
      deps.print(renderTenant(await getTenant(platform, name)))
      return 0
    }
    case 'apply': {
      const file = options(rest, { filename: { type: 'string', short: 'f' } }).values['filename']
      if (typeof file !== 'string') throw new UsageError('tenant apply needs -f FILE')
      await using platform = platformClient(deps)
      for (const name of await applyTenants(platform, file)) {
        const { status } = await untilTenantReady(platform, name)
        deps.print(`tenant "${name}" is ready: ${status?.isolationClass ?? ''}`)
        for (const reason of status?.reasons ?? [])
          for (const line of wrapped(reason, 2)) deps.print(`  ${line}`)
      }
      return 0
    }
    case 'delete': {
      const { values, positionals } = options(rest, { yes: { type: 'boolean' } }, 1)
      if (positionals[0] === undefined) throw new UsageError('tenant delete needs a NAME')
      const name = tenantName(positionals[0])
      if (values['yes'] !== true)
        throw new UsageError(
          `this destroys tenant "${name}": its pods, its objects, and the key without which its data cannot be read; say --yes if that is meant`,
        )
      await using platform = platformClient(deps)
      await deleteTenant(platform, name, (text) => deps.printError(`  … ${printable(text)}`))
      deps.print(`tenant "${name}" is gone, with its pods, its data and its key`)
      return 0
    }
    default:
      throw new UsageError(
        verb === undefined
          ? 'tenant needs list, describe, apply or delete'
          : `there is no "tenant ${printable(verb)}"`,
      )
  }
}

function explain(argv: readonly string[], { print, colour = false }: CliDeps): number {
  const { values, positionals } = options(argv, { output: { type: 'string', short: 'o' } }, 1)
  const [field] = positionals
  if (field === undefined) throw new UsageError('explain needs a FIELD, such as pod.spec.hostNetwork')
  const output = values['output']
  if (output !== undefined && output !== 'json')
    throw new UsageError(`explain knows the output "json", not "${printable(String(output))}"`)
  try {
    const explanation = explainField(field)
    print(
      output === 'json' ? JSON.stringify(explanation, null, 2) : renderExplanation(explanation, { colour }),
    )
    return 0
  } catch (error) {
    throw error instanceof UnknownField ? new UsageError(error.message) : error
  }
}

async function egress(argv: readonly string[], deps: CliDeps): Promise<number> {
  const [verb, ...rest] = argv
  const one = async (): Promise<[TenantName, TenantEgress]> => {
    const { positionals } = options(rest, {}, 1)
    if (positionals[0] === undefined) throw new UsageError(`egress ${verb} needs a TENANT`)
    const name = tenantName(positionals[0])
    const [found] = await deps.machine.egress(name)
    if (!found) throw new Error(`There is no tenant "${name}" on this machine`)
    return [name, found]
  }
  switch (verb) {
    case 'list':
      options(rest, {})
      deps.print(renderEgressList(await deps.machine.egress()))
      return 0
    case 'show':
      deps.print(renderEgress((await one())[1]))
      return 0
    case 'suggest': {
      const [name, found] = await one()
      if (found.seen.length === 0) {
        deps.print(
          `Nothing to suggest: pods of "${name}" wanted nothing that no rule allows; "spec.egress.mode: Learn" writes down what they want`,
        )
        return 1
      }
      await using platform = platformClient(deps)
      deps.print(renderEgressSuggestion(found, (await getTenant(platform, name)).spec))
      return 0
    }
    default:
      throw new UsageError(
        verb === undefined ? 'egress needs list, show or suggest' : `there is no "egress ${printable(verb)}"`,
      )
  }
}

async function kubeconfig(argv: readonly string[], deps: CliDeps): Promise<number> {
  const { values, positionals } = options(
    argv,
    {
      user: { type: 'string' },
      group: { type: 'string', multiple: true },
      namespace: { type: 'string', short: 'n' },
      filename: { type: 'string', short: 'f' },
    },
    1,
  )
  if (positionals[0] === undefined) throw new UsageError('kubeconfig needs a TENANT')
  const name = tenantName(positionals[0])
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
  const user = text(values['user']) ?? 'admin'
  const groups = Array.isArray(values['group'])
    ? values['group'].map(String)
    : user === 'admin'
      ? ['bulkhead:tenant-admins']
      : []
  const namespace = text(values['namespace'])
  await using platform = platformClient(deps)
  const document = await issueKubeconfig(platform, {
    tenant: name,
    user,
    groups,
    ...(namespace === undefined ? {} : { namespace }),
  })
  const file = text(values['filename'])
  if (file === undefined) {
    deps.print(document.trimEnd())
    return 0
  }
  writeFileSync(file, document, { mode: 0o600 })
  deps.print(`kubeconfig for user "${user}" of tenant "${name}" written to ${file}`)
  return 0
}
