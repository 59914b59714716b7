import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseTenantName } from '../../api/index.ts'
import { openStore, unwrapKey } from '../../store/index.ts'
import { MiB, silentLogger, systemClock, until } from '../../stdx/index.ts'
import {
  type AttackContext,
  blocked,
  escaped,
  type MachineAccess,
  type Outcome,
  type Party,
  untried,
} from '../attack.ts'
import { family, secretOf } from './own-and-other.ts'

const FILE_BYTES_MAX = 256 * MiB

const partition = ({ stateDir }: MachineAccess, party: Party) => join(stateDir, 'tenants', party.name)
const wrapped = ({ stateDir }: MachineAccess, party: Party) => join(stateDir, 'keys', `${party.name}.wrapped`)

/** As the node agent does it; whoever can has root on the machine. */
function keyOf(machine: MachineAccess, party: Party, as: string = party.name): Uint8Array {
  return unwrapKey({
    kek: new Uint8Array(readFileSync(join(machine.stateDir, 'kek'))),
    wrapped: readFileSync(wrapped(machine, party)),
    tenant: parseTenantName(as),
  })
}

/** Opens a copy of a tenant's partition and returns how many bytes of objects are in it, or why it does not open. */
async function opens(
  machine: MachineAccess,
  party: Party,
  dataKey: Uint8Array,
  as: Party = party,
): Promise<string | number> {
  const copy = mkdtempSync(join(tmpdir(), 'bulkhead-attack-'))
  try {
    cpSync(partition(machine, party), copy, {
      recursive: true,
      filter: (path) => statSync(path).isDirectory() || /store\.sqlite/.test(path),
    })
    await using store = await openStore({
      path: join(copy, 'store.sqlite'),
      tenant: parseTenantName(as.name),
      dataKey,
      clock: systemClock,
      log: silentLogger,
      mustExist: true,
    })
    return store.bytes
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

/** Every file below a directory that could hold `needle`, and does. */
function filesWith(dir: string, needles: readonly Buffer[]): string[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir, { withFileTypes: true, recursive: true }).flatMap((entry) => {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || statSync(path).size > FILE_BYTES_MAX) return []
    const bytes = readFileSync(path)
    return needles.some((needle) => bytes.includes(needle)) ? [path] : []
  })
}

const spellings = (text: string) => [
  Buffer.from(text),
  Buffer.from(Buffer.from(text).toString('base64').slice(0, -4)),
  Buffer.from(text, 'utf16le'),
]

async function canaryIsThere({ victim }: AttackContext): Promise<string> {
  const secret = await victim.must<{ data: { canary: string } }>(secretOf(victim))
  if (Buffer.from(secret.data.canary, 'base64').toString() !== victim.canaries.value)
    throw new Error('the canary is not in the secret')
  return 'the victim reads its canary from the same store'
}

export const secretAttacks = family('secrets', 'secrets', [
  {
    id: 'secret-bytes-at-rest',
    title: "reads the files of the victim's store as bytes, as somebody with the disk could",
    standards: ['CIS-K8S-5.1.2', 'MS-TA9027'],
    needs: ['machine'],
    always: true,
    control: canaryIsThere,
    async attempt({ machine, victim }): Promise<Outcome> {
      const dir = partition(machine, victim)
      const files = readdirSync(dir).filter((name) => name.startsWith('store.sqlite'))
      if (files.length === 0) return untried(`there is no store in ${dir}`)
      // Whatever is written as it is would be found: names of kinds and fields are in every object.
      const found = filesWith(dir, [
        ...spellings(victim.canaries.value),
        ...spellings(victim.canaries.secret),
        Buffer.from('"apiVersion"'),
      ])
      return found.length > 0
        ? escaped(`in the clear in ${found.join(', ')}`)
        : blocked('partition cipher', `neither the canary nor a name nor a field in ${files.join(', ')}`)
    },
  },
  {
    id: 'secret-other-key',
    title: "opens the victim's partition with its own data key, and under its own name",
    needs: ['machine'],
    always: true,
    async control({ machine, victim }) {
      const bytes = await opens(machine, victim, keyOf(machine, victim))
      if (typeof bytes !== 'number' || bytes === 0) throw new Error(`with its own key: ${bytes}`)
      return `with the victim's own key a copy of it opens and holds ${bytes} bytes of objects`
    },
    async attempt({ machine, attacker, victim }) {
      const tries = [
        await opens(machine, victim, keyOf(machine, attacker)),
        await opens(machine, victim, keyOf(machine, attacker), attacker),
        await opens(machine, victim, keyOf(machine, victim), attacker),
        await opens(machine, victim, new Uint8Array(32)),
      ]
      const through = tries.find((result) => typeof result === 'number')
      return through === undefined
        ? blocked('partition cipher', tries.join('; '))
        : escaped(`it opens, with ${through} bytes of objects`)
    },
  },
  {
    id: 'secret-wrapped-key',
    title: "puts the victim's wrapped key in the place of its own, to have it unwrapped for itself",
    needs: ['machine'],
    async control({ machine, victim }) {
      return `the victim's key is unwrapped for the victim (${keyOf(machine, victim).length} bytes)`
    },
    async attempt({ machine, attacker, victim }) {
      try {
        keyOf(machine, victim, attacker.name)
        return escaped("the victim's key is unwrapped under the attacker's name")
      } catch (error) {
        return blocked('partition cipher', error instanceof Error ? error.message : String(error))
      }
    },
  },
  {
    id: 'secret-after-deletion',
    title: 'keeps a copy of the store of a tenant that is deleted afterwards, and looks for a key to it',
    standards: ['MS-TA9038'],
    needs: ['machine'],
    control: canaryIsThere,
    async attempt(context) {
      const { machine } = context
      const tenant = await context.scratchTenant('shared')
      const name = 'left-behind'
      await tenant.create('/api/v1/namespaces/default/secrets', {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name },
        stringData: { x: tenant.canaries.value },
      })
      const key = keyOf(machine, tenant)
      const sealed = readFileSync(wrapped(machine, tenant))
      const kept = mkdtempSync(join(tmpdir(), 'bulkhead-attack-'))
      try {
        mkdirSync(join(kept, 'tenants'), { recursive: true })
        cpSync(partition(machine, tenant), join(kept, 'tenants', tenant.name), {
          recursive: true,
          filter: (path) => statSync(path).isDirectory() || /store\.sqlite/.test(path),
        })
        const before = await opens({ ...machine, stateDir: kept }, tenant, key)
        if (typeof before !== 'number')
          return untried(`the copy does not open with the key while it is there: ${before}`)
        await context.deleteTenant(tenant)
        const still = [wrapped(machine, tenant), partition(machine, tenant)].filter((path) =>
          existsSync(path),
        )
        if (still.length > 0) return escaped(`still there: ${still.join(', ')}`)
        // Not the key, nor what it was wrapped in, under any name; images are not ours to read byte by byte.
        const dirs = ['keys', 'tenants', 'platform', 'logs', 'audit', 'pki'].map((dir) =>
          join(machine.stateDir, dir),
        )
        const found = dirs.flatMap((dir) =>
          filesWith(dir, [
            Buffer.from(key),
            sealed,
            Buffer.from(Buffer.from(key).toString('hex')),
            Buffer.from(Buffer.from(key).toString('base64')),
          ]),
        )
        return found.length > 0
          ? escaped(`its key is in ${found.join(', ')}`)
          : blocked(
              'partition cipher',
              'the wrapped key is gone with the tenant and no file holds it, so the copy stays shut',
            )
      } finally {
        rmSync(kept, { recursive: true, force: true })
      }
    },
  },
  {
    id: 'secret-in-logs',
    title: "looks for the victim's canaries and tokens in logs, audit records and the platform's own files",
    standards: ['T1552.007'],
    vector: 'logs and metrics',
    needs: ['machine'],
    async control({ machine, victim }) {
      const files = await until(
        () => {
          const found = filesWith(join(machine.stateDir, 'audit'), [Buffer.from(victim.name)])
          return found.length > 0 ? found : undefined
        },
        { what: "The victim's name in the audit log" },
      )
      return `the victim's name, which is no secret, is in ${files.length} files of the audit log`
    },
    async attempt({ machine, victim }) {
      const token = await victim.token()
      await victim.as({ token }).request(`${victim.root}/api/v1/namespaces`)
      const signature = token.split('.')[2] ?? token
      const dirs = ['logs', 'audit', 'platform', 'pki', 'keys'].map((dir) => join(machine.stateDir, dir))
      const found = [...dirs, machine.runDir].flatMap((dir) =>
        filesIn(dir, machine, [...spellings(victim.canaries.value), Buffer.from(signature)]),
      )
      return found.length > 0
        ? escaped(`in the clear in ${found.join(', ')}`)
        : blocked(
            'platform files',
            'neither the canary nor the signature of a token that was just used is in logs, audit records or files of the platform',
          )
    },
  },
])

/** Pods' own directories hold what is mounted into them; there the canary belongs. */
function filesIn(dir: string, { runDir }: MachineAccess, needles: readonly Buffer[]): string[] {
  return dir === runDir
    ? ['daemons', 'node', 'net', 'dns'].flatMap((below) => filesWith(join(runDir, below), needles))
    : filesWith(dir, needles)
}
