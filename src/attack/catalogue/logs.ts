import { MiB, SECOND_MS, sleep, until } from '../../stdx/index.ts'
import { type AttackContext, blocked, escaped, type Outcome } from '../attack.ts'
import type { Party } from '../party.ts'
import type { ApiAnswer } from '../tenant-api.ts'
import { allRefused, counted } from './expect.ts'
import { family, secretOf } from './own-and-other.ts'

/** What a pod prints, and what reads it. */

const ENDED_MS = 40 * SECOND_MS
const LINE_MIB = 32
/** What an answer of the log may weigh: more is for who follows it. */
const ANSWER_BYTES_MAX = 20 * MiB

const podsOf = ({ canaries }: Party) => `/api/v1/namespaces/${canaries.namespace}/pods`

/** Runs a program of Python's in a pod of its own until it has ended, and returns its log as it was asked for. */
async function logOf(
  { attacker }: AttackContext,
  name: string,
  program: string,
  query: string,
): Promise<ApiAnswer> {
  const path = `${podsOf(attacker)}/${name}`
  await attacker.create(podsOf(attacker), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: attacker.canaries.namespace },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'main',
          image: attacker.image,
          command: ['python3', '-c', program],
          resources: { limits: { cpu: '1', memory: '256Mi' }, requests: { cpu: '10m', memory: '32Mi' } },
        },
      ],
    },
  })
  try {
    await until(
      async () => {
        const { status } = await attacker.must<{ status: { phase?: string } }>(path)
        return status.phase === 'Succeeded' || status.phase === 'Failed'
      },
      { timeoutMs: ENDED_MS, everyMs: 200, what: `The end of ${name}` },
    )
    return await attacker.own(`${path}/log?${query}`)
  } finally {
    await attacker.own(`${path}?gracePeriodSeconds=0`, { method: 'DELETE' })
  }
}

async function logWorks(context: AttackContext): Promise<string> {
  const { body } = await logOf(context, `says-${context.mark}`, 'print("hello")', '')
  if (body !== 'hello\n') throw new Error(`its own log: ${body.slice(0, 100)}`)
  return 'what its own pod prints is in its log'
}

const LINE = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d+(?:Z|[+-]\d{2}:\d{2}) /

export const logAttacks = family('logs', 'logs and metrics', [
  {
    id: 'log-forged-lines',
    title: 'prints lines that look like those of the log itself: other times, streams, parts and tags',
    replays: 'CVE-2021-25743: escape sequences and forged lines of pods that readers took for the tool’s own',
    needs: ['pods'],
    control: logWorks,
    async attempt(context) {
      const lines = [
        '1999-01-01T00:00:00.000000000+00:00 stdout F forged',
        '2999-01-01T00:00:00.000000000+00:00 stderr P forged',
        '\\\\x1b[2J\\\\x1b]0;owned\\\\x07',
        '\\\\r1999-01-01T00:00:00Z stdout F over',
        '\\\\x00\\\\x00\\\\x00',
        '\\\\xff\\\\xfe\\\\xc3\\\\x28',
        '{"log":"forged","stream":"stdout","time":"1999-01-01T00:00:00Z"}',
      ]
      const program = `import os\nfor line in [${lines.map((line) => `b'${line.replaceAll('\\\\', '\\')}'`).join(', ')}]: os.write(1, line + b"\\n")`
      const { body } = await logOf(context, `forges-${context.mark}`, program, 'timestamps=true')
      const seen = body.split('\n').filter(Boolean)
      const bad = seen.filter((line) => !LINE.test(line) || /^(?:1999|2999)/.test(line))
      if (bad.length > 0) return escaped(`lines of the pod's own making: ${JSON.stringify(bad.slice(0, 3))}`)
      return seen.length === lines.length
        ? blocked('every line has a time of the platform', `${seen.length} lines, each after its own time`)
        : escaped(`${lines.length} lines became ${seen.length}: ${JSON.stringify(seen).slice(0, 200)}`)
    },
  },
  {
    id: 'log-enormous-line',
    title: `prints a line of ${LINE_MIB} MiB without an end, and asks for its last line`,
    vector: 'control-plane saturation',
    standards: ['T1499'],
    needs: ['pods'],
    control: logWorks,
    async attempt(context): Promise<Outcome> {
      const { victim, mark } = context
      const over = { is: false }
      const codes: number[] = []
      const asking = (async () => {
        while (!over.is) {
          codes.push((await victim.own(secretOf(victim))).code)
          await sleep(100)
        }
      })()
      let answer: ApiAnswer
      try {
        const program = `import os\nfor _ in range(${LINE_MIB * 16}): os.write(1, b"x" * 65536)`
        answer = await logOf(context, `long-${mark}`, program, 'tailLines=1')
      } finally {
        over.is = true
        await asking
      }
      if (answer.code >= 500) return escaped(`the log: ${answer.code} ${answer.body.slice(0, 100)}`)
      if (answer.body.length > ANSWER_BYTES_MAX) return escaped(`an answer of ${answer.body.length} bytes`)
      return codes.every((code) => code === 200)
        ? blocked(
            'limits of the log',
            `the last line has ${answer.body.length} characters; the victim was answered ${counted(codes)}`,
          )
        : escaped(`the victim was answered ${counted(codes)}`)
    },
  },
  {
    id: 'log-of-others',
    title: "asks for the victim's log by container, pod and file names that lead elsewhere",
    standards: ['MTB-PL1-CC-TI-2'],
    needs: ['pods'],
    control: logWorks,
    async attempt({ attacker, victim }) {
      const own = `${podsOf(attacker)}/${attacker.canaries.pod}/log`
      const { metadata } = await victim.must<{ metadata: { uid: string } }>(
        `${podsOf(victim)}/${victim.canaries.pod}`,
      )
      const answers: [string, ApiAnswer][] = []
      for (const query of [
        `container=..%2f..%2f${metadata.uid}%2fmain`,
        `container=main%00`,
        `container=${metadata.uid}`,
        'container=..',
        'container=__proto__',
        'tailLines=-1',
        'limitBytes=-5',
        'sinceTime=yesterday',
        'tailLines=1e99',
        'sinceSeconds=-9223372036854775808',
      ])
        answers.push([query, await attacker.own(`${own}?${query}`)])
      for (const pod of [metadata.uid, `..%2f${metadata.uid}`, `%2e%2e%2f${victim.name}`])
        answers.push([pod, await attacker.own(`${podsOf(attacker)}/${pod}/log`)])
      return allRefused(answers)
    },
  },
  {
    id: 'log-through-links',
    title: "puts links to the machine's files in the place of its own streams, and truncates them",
    vector: 'storage',
    standards: ['T1611'],
    replays: 'CVE-2021-25741 and its like: files of a container that the machine opened by name',
    needs: ['pods'],
    control: logWorks,
    async attempt(context) {
      const program = [
        'import os',
        'for name in ("stdout", "stderr"):',
        '    try:',
        '        os.unlink("/dev/" + name); os.symlink("/etc/shadow", "/dev/" + name)',
        '    except OSError as error: print(error)',
        'for fd in (1, 2):',
        '    for path in ("/proc/self/fd/%d" % fd, "/proc/1/fd/%d" % fd):',
        '        try: print(os.readlink(path)); os.truncate(path, 0)',
        '        except OSError as error: print(error)',
        'print("done", flush=True)',
      ].join('\n')
      const { body } = await logOf(context, `links-${context.mark}`, program, '')
      return /root:.*:\d+:/.test(body) || !body.includes('done')
        ? escaped(body.slice(0, 200))
        : blocked('mount view', body.trim().split('\n').slice(-4).join('; '))
    },
  },
])
