import { type Attack, type AttackContext, escaped, type Outcome, type Party } from '../attack.ts'
import type { ApiAnswer, RequestOptions } from '../tenant-api.ts'
import { allRefused, said, worked } from './expect.ts'

export const secretOf = ({ canaries }: Party) =>
  `/api/v1/namespaces/${canaries.namespace}/secrets/${canaries.secret}`

export const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps'

export const configMap = (name: string, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, ...metadata },
  data: { by: 'the attacker' },
})

/** The control of attacks that read: the attacker reads its own secret over the same connection. */
export async function ownSecret({ attacker }: AttackContext): Promise<string> {
  const answer = await attacker.own(secretOf(attacker))
  if (!answer.body.includes(attacker.canaries.secret)) throw new Error('its own secret is not in the answer')
  return worked(answer, 'the same for its own secret')
}

/** The control of attacks that write: the attacker makes an object of its own, and it is there. */
export async function ownWrite({ attacker, mark }: AttackContext): Promise<string> {
  await attacker.create(CONFIG_MAPS, configMap(`${mark}-control`))
  return worked(await attacker.own(`${CONFIG_MAPS}/${mark}-control`), 'an object of its own is made and read')
}

/** Nothing that the attack is named for has come into being, in either tenant. */
export async function nothingMade({ attacker, victim, mark }: AttackContext): Promise<Outcome | undefined> {
  for (const party of [attacker, victim]) {
    const answer = await party.own(`${CONFIG_MAPS}/${mark}`)
    if (answer.code !== 404)
      return escaped(
        `an object that was to be made past the gateway is in ${party.name} (${party === victim ? 'the victim' : 'made with rights that its maker does not have'}): ${said(answer)}`,
      )
  }
  return undefined
}

/** Each request is sent as it is by the attacker's administrator; all have to be refused. */
export async function refusedAll(
  { attacker }: AttackContext,
  requests: readonly ({ path: string } & RequestOptions)[],
): Promise<Outcome> {
  const answers: [string, ApiAnswer][] = []
  for (const { path, ...options } of requests)
    answers.push([`${options.method ?? 'GET'} ${path}`, await answerOf(attacker, path, options)])
  // Where connections were ended, it must not have been because nobody is there any more.
  if (answers.some(([, { code }]) => code === 0))
    worked(await attacker.own('/version'), 'the gateway afterwards')
  return allRefused(answers)
}

async function answerOf(attacker: Party, path: string, options: RequestOptions): Promise<ApiAnswer> {
  try {
    return await attacker.admin.request(path, options)
  } catch (error) {
    return { code: 0, body: error instanceof Error ? error.message : String(error), headers: {} }
  }
}

/** What most attacks share. */
export type Sketch = Omit<Attack, 'control' | 'family' | 'vector'> &
  Partial<Pick<Attack, 'control' | 'vector'>>

export function family(
  name: Attack['family'],
  vector: string,
  sketches: readonly Sketch[],
): readonly Attack[] {
  return sketches.map((sketch) => ({ control: ownSecret, vector, ...sketch, family: name }))
}
