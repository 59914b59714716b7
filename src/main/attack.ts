import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DAEMON_USERS, paths } from '../api/index.ts'
import {
  askSocketAs,
  type Attack,
  chooseAttacks,
  type Credential,
  HostileRegistry,
  hostOf,
  type MachineAccess,
  type Need,
  Party,
  plantCanaries,
  removeMarkers,
  renderCatalogue,
  renderMarkdown,
  renderResult,
  renderSummary,
  type Result,
  runAttacks,
} from '../attack/index.ts'
import {
  ApiRefusal,
  type AttackOptions,
  ControlPlaneClient,
  type Credentials as OperatorCredentials,
  deleteTenant,
  readKubeconfig,
  TENANTS_PATH,
  type TenantView,
  untilTenantReady,
} from '../cli/index.ts'
import { ensureDirectory, tryLock } from '../engine/local/index.ts'
import { createCsr, createKeyPair, renderPrivateKey } from '../identity/index.ts'
import { AttackRecords, directoryOf, isOurs, RUN_LABEL } from './attack-records.ts'
import { startAttackRegistry } from './attack-registry.ts'
import type { MachineContext } from './machine.ts'
import { requireRoot } from './preflight.ts'
import { serverUrl } from './server-url.ts'

const CREDENTIAL_SECONDS = 3_600
/** What each class is asked for with. */
const RISKS: Readonly<Record<string, object>> = {
  shared: { trust: 'trusted', code: 'own' },
  affinity: { trust: 'trusted', code: 'own', isolationClass: 'affinity' },
  sandboxed: { trust: 'untrusted', code: 'thirdParty' },
  dedicated: { trust: 'untrusted', code: 'arbitrary', isolationClass: 'dedicated' },
}
/** Floods of objects and pods end here, and with them what an attack can cost the machine. */
const QUOTA = { pods: 24, objects: 3_000 }

/**
 * Attacks the running platform between two throwaway tenants. Returns 0 when nothing escaped, 1 when something did or
 * nothing could be tried, 130 when it was interrupted. Whatever happens, the tenants go.
 */
export async function attack(context: MachineContext, options: AttackOptions): Promise<number> {
  const { layout, print } = context
  const attacks = chooseAttacks({ ids: options.ids, families: options.families, always: options.quick })
  if (options.list) {
    print(renderCatalogue(attacks))
    return 0
  }
  const classes = [options.classes[0] ?? 'shared', options.classes[1] ?? options.classes[0] ?? 'shared']
  const unknown = classes.find((name) => RISKS[name] === undefined)
  if (unknown !== undefined)
    throw new Error(`There is no isolation class "${unknown}"; there are ${Object.keys(RISKS).join(', ')}`)
  requireRoot('bulkhead attack')
  if (!existsSync(paths.operatorKubeconfig(layout)))
    throw new Error('There is no platform to attack; "bulkhead up" starts one')
  const operator = readKubeconfig(paths.operatorKubeconfig(layout))
  ensureDirectory(directoryOf(layout), { mode: 0o700 })
  const lock = tryLock(join(directoryOf(layout), 'lock'), `process ${process.pid}`)
  if ('heldBy' in lock) throw new Error(`Another attack (${lock.heldBy}) is going on`)
  const interrupt = new AbortController()
  const onSignal = () => interrupt.abort(new Error('interrupted'))
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    return await attackWith(context, options, { attacks, classes, operator, signal: interrupt.signal })
  } catch (error) {
    if (!interrupt.signal.aborted) throw error
    context.progress('interrupted; the tenants of the attack are gone')
    return 130
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
    lock.release()
  }
}

async function attackWith(
  context: MachineContext,
  options: AttackOptions,
  {
    attacks,
    classes,
    operator,
    signal,
  }: {
    attacks: readonly Attack[]
    classes: readonly string[]
    operator: OperatorCredentials
    signal: AbortSignal
  },
): Promise<number> {
  const { layout, print, progress } = context
  await using platform = new ControlPlaneClient(operator)
  const records = new AttackRecords(layout)
  await removeLeftovers(platform, records, progress)
  const markers = removeMarkers(layout.stateDir)
  if (markers > 0) progress(`removing ${markers} directories of an earlier attack`)
  await using registry = await startAttackRegistry(layout, progress)
  const needs = (need: Need) => attacks.some((one) => one.needs?.includes(need))
  await using hostile = needs('registry') ? await HostileRegistry.start() : undefined
  const origin = serverUrl(layout)
  const made = new Map<string, Party>()

  const makeTenant = async (
    isolationClass: string,
    name = `t${randomBytes(5).toString('hex')}`,
  ): Promise<Party> => {
    signal.throwIfAborted()
    // A name is free to be given only while nobody has it: `apply` would change what is somebody else's.
    if ((await find(platform, name)) !== undefined) throw new Error(`There is a tenant "${name}" already`)
    records.record(name)
    const { metadata } = (await platform.apply(`${TENANTS_PATH}/${name}`, {
      apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
      kind: 'Tenant',
      metadata: { name, labels: { [RUN_LABEL]: records.run } },
      spec: {
        ...RISKS[isolationClass],
        registries: [registry.host, ...(hostile ? [hostile.host] : [])],
        quota: QUOTA,
        ...(needs('front door') ? { ingress: { hosts: [hostOf(name), `*.${hostOf(name)}`] } } : {}),
      },
    })) as TenantView
    records.record(name, metadata.uid)
    const { status } = await untilTenantReady(platform, name)
    if (status?.isolationClass !== isolationClass)
      throw new Error(`The platform makes tenant "${name}" ${status?.isolationClass}, not ${isolationClass}`)
    const party = await Party.open({
      name,
      uid: metadata.uid ?? '',
      isolationClass,
      origin,
      image: registry.image,
      issue: (subject) => issue(platform, name, subject),
    })
    made.set(name, party)
    return party
  }
  const removeTenant = async (party: Party) => {
    made.delete(party.name)
    await party[Symbol.asyncDispose]()
    await remove(platform, party.name)
    records.forget(party.name)
  }

  const pods = needs('pods')
  const results: Result[] = []
  try {
    progress(`making two tenants, ${classes.join(' and ')}`)
    const [first, second] = await Promise.all([makeTenant(classes[0] ?? ''), makeTenant(classes[1] ?? '')])
    progress(pods ? 'planting canaries and starting pods' : 'planting canaries')
    await Promise.all([first, second].map((party) => plantCanaries(party, { pods })))
    const colours = process.stdout.isTTY && process.env['NO_COLOR'] === undefined
    let heading = ''
    const total = 2 * attacks.length
    await runAttacks(attacks, {
      parties: [first, second],
      registry: registry.host,
      image: registry.image,
      signal,
      machine: machineAccess(context),
      pods,
      ...(needs('front door') ? { frontDoor: layout.ingress } : {}),
      ...(hostile ? { hostileRegistry: hostile } : {}),
      makeTenant,
      removeTenant,
      onResult: (result) => {
        results.push(result)
        const { attacker, victim } = result
        const now = `${attacker.isolationClass} (${attacker.name}) attacks ${victim.isolationClass} (${victim.name})`
        if (options.format !== 'text')
          return progress(`${results.length}/${total} ${result.outcome.kind} ${result.id}`)
        if (now !== heading) print(`\n${now}`)
        heading = now
        print(renderResult(result, { colours }))
      },
    })
    if (options.format === 'json') print(JSON.stringify({ results }, null, 2))
    else if (options.format === 'markdown')
      print(
        renderMarkdown(attacks, results, `Last tried between ${classes.join(' and ')}, in both directions.`),
      )
    else print(`\n${renderSummary(results, { colours })}`)
  } finally {
    progress('removing the tenants of the attack')
    for (const party of made.values()) await party[Symbol.asyncDispose]()
    // Those that did not become ready are only in the records.
    for (const { name } of records.mine()) {
      await remove(platform, name)
      records.forget(name)
    }
  }
  progress(
    `left behind: the image of the attacks in ${join(layout.stateDir, 'attack-registry')}, pulled images until they are collected, and records in the audit log`,
  )
  const escapes = results.filter(({ outcome }) => outcome.kind === 'escaped').length
  return escapes === 0 && results.some(({ outcome }) => outcome.kind === 'blocked') ? 0 : 1
}

/** What an earlier run left behind because it was killed; only what it has recorded, and only if it is that still. */
async function removeLeftovers(
  platform: ControlPlaneClient,
  records: AttackRecords,
  progress: (text: string) => void,
): Promise<void> {
  for (const recorded of records.leftovers()) {
    const seen = await find(platform, recorded.name)
    if (seen !== undefined && isOurs(recorded, seen)) {
      progress(`removing tenant "${recorded.name}" of an earlier attack`)
      await remove(platform, recorded.name)
    }
  }
  records.forgetOthers()
}

async function find(platform: ControlPlaneClient, name: string): Promise<TenantView | undefined> {
  try {
    return (await platform.get(`${TENANTS_PATH}/${name}`)) as TenantView
  } catch (error) {
    if (error instanceof ApiRefusal && error.code === 404) return undefined
    throw error
  }
}

async function remove(platform: ControlPlaneClient, name: string): Promise<void> {
  if ((await find(platform, name)) !== undefined) await deleteTenant(platform, name, () => {})
}

async function issue(
  platform: ControlPlaneClient,
  tenant: string,
  { user, groups, expirationSeconds = CREDENTIAL_SECONDS }: Parameters<Party['issue']>[0],
): Promise<Credential> {
  const keys = await createKeyPair()
  const answer = (await platform.post(`${TENANTS_PATH}/${tenant}/credentials`, {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'TenantCredential',
    metadata: { name: tenant },
    spec: { csr: await createCsr(keys), user, groups, expirationSeconds },
  })) as { status: { certificate: string; caBundle: string } }
  return {
    certificate: answer.status.certificate,
    ca: answer.status.caBundle,
    key: await renderPrivateKey(keys),
  }
}

function machineAccess({ layout }: MachineContext): MachineAccess {
  const users = readFileSync('/etc/passwd', 'utf8').split('\n')
  return {
    stateDir: layout.stateDir,
    runDir: layout.runDir,
    userOf(name) {
      const [, , uid, gid] = users.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
      if (uid === undefined || gid === undefined || !Object.values<string>(DAEMON_USERS).includes(name))
        throw new Error(`"${name}" is no user of the platform`)
      return { uid: Number(uid), gid: Number(gid) }
    },
    askSocketAs,
  }
}
