import type { Attack, AttackContext, Outcome } from '../attack.ts'
import { allRefused, worked } from './expect.ts'

const secretOf = ({ canaries }: AttackContext['victim']) =>
  `api/v1/namespaces/${canaries.namespace}/secrets/${canaries.secret}`

/** Reads its own secret, as every one of these attacks would read the victim's. */
async function ownSecret({ attacker }: AttackContext): Promise<string> {
  const answer = await attacker.own(`/${secretOf(attacker)}`)
  if (!answer.body.includes(attacker.canaries.secret)) throw new Error('its own secret is not in the answer')
  return worked(answer, 'the same for its own secret')
}

async function askAll(context: AttackContext, paths: readonly string[], method = 'GET'): Promise<Outcome> {
  const answers = []
  for (const path of paths)
    answers.push([path, await context.attacker.admin.request(path, { method })] as const)
  return allRefused(answers)
}

type Spelling = Pick<Attack, 'id' | 'title' | 'standards' | 'replays' | 'always'> & {
  paths(context: {
    own: string
    other: string
    secret: string
    attacker: string
    victim: string
  }): readonly string[]
}

function spelled({ paths, ...attack }: Spelling): Attack {
  return {
    family: 'paths',
    vector: 'tenant API',
    ...attack,
    control: ownSecret,
    attempt: (context) =>
      askAll(
        context,
        paths({
          own: context.attacker.root,
          other: context.victim.root,
          secret: secretOf(context.victim),
          attacker: context.attacker.name,
          victim: context.victim.name,
        }),
      ),
  }
}

export const pathAttacks: readonly Attack[] = [
  spelled({
    id: 'path-direct',
    title: "reads the victim's objects by their own address",
    standards: ['MTB-PL1-CC-TI-2', 'T1552.007'],
    always: true,
    paths: ({ other, secret }) => [
      `${other}/${secret}`,
      `${other}/api/v1/secrets`,
      `${other}/api/v1/namespaces`,
      `${other}/api`,
      `${other}/version`,
      `${other}/openapi/v3`,
      `${other}/healthz`,
      other,
    ],
  }),
]
