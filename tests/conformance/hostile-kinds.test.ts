import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { groupVersion } from '../../src/api/index.ts'
import { type Answer, ControlPlane, type Json } from './control-plane.ts'
import { mutate, NOT_OURS, tree } from './hostile-values.ts'
import { EXAMPLES, exampleKey, writableKinds } from './requests-of-kinds.ts'

const PATCHES = ['merge-patch+json', 'strategic-merge-patch+json', 'apply-patch+yaml']
const ACCEPTS = ['application/json', 'application/json;as=Table;v=v1;g=meta.k8s.io', 'application/yaml']
const RUNS = 40

function unharmed({ code, text }: Answer): void {
  assert.ok(code < 500 || NOT_OURS.includes(code), `${code} ${text}`)
  assert.ok(!text.includes('    at '), 'no stack trace is told')
}

for (const kind of writableKinds())
  test(`${exampleKey(kind)}: objects that are wrong in a place or two make no request fail`, async () => {
    await using plane = await ControlPlane.start()
    await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'kinds' } } })
    const gv = groupVersion(kind)
    const root = `/${kind.group ? 'apis' : 'api'}/${gv}${kind.namespaced ? '/namespaces/kinds' : ''}/${kind.plural}`
    const name = exampleKey(kind).startsWith('customresourcedefinitions') ? 'kinds.example.com' : 'x-one'
    const right: Json = { apiVersion: gv, kind: kind.kind, ...EXAMPLES[exampleKey(kind)], metadata: { name } }
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.array(fc.nat(), { minLength: 1, maxLength: 7 }), tree), { maxLength: 2 }),
        fc.constantFrom('POST', 'PUT', ...PATCHES),
        fc.constantFrom(...ACCEPTS),
        fc.boolean(),
        async (changes, how, accept, dryRun) => {
          const body = changes.reduce<unknown>(
            (object, [steps, value]) => mutate(object, steps, value),
            structuredClone(right),
          )
          const raw = JSON.stringify(body) ?? 'null'
          const query = dryRun ? '?dryRun=All&fieldManager=m' : '?fieldManager=m'
          if (how === 'POST') unharmed(await plane.ask('POST', root + query, { raw, accept }))
          else {
            await plane.ask('POST', root, { body: right })
            const patching = PATCHES.includes(how)
            const type = patching ? `application/${how}` : 'application/json'
            const method = patching ? 'PATCH' : 'PUT'
            unharmed(await plane.ask(method, `${root}/${name}${query}`, { raw, type, accept }))
          }
          // What was let in can be read in every form, too.
          unharmed(await plane.ask('GET', root, { accept }))
        },
      ),
      { numRuns: RUNS },
    )
    assert.equal((await plane.ask('GET', '/healthz')).text, 'ok')
  })

test('a continue token that was changed in any way opens nothing, and shows nothing of another list', async () => {
  await using plane = await ControlPlane.start()
  const lists = ['/api/v1/namespaces/default/configmaps', '/api/v1/namespaces/default/secrets']
  for (const list of lists)
    for (const name of ['a', 'b', 'c']) await plane.ask('POST', list, { body: { metadata: { name } } })
  const [configMaps = '', secrets = ''] = lists
  const { body } = await plane.ask('GET', `${configMaps}?limit=1`)
  const token: string = body.metadata.continue
  const ask = async (list: string, text: string) =>
    plane.ask('GET', `${list}?limit=1&continue=${encodeURIComponent(text)}`)
  const expected = await ask(configMaps, token)
  assert.equal(expected.code, 200)
  assert.equal((await ask(secrets, token)).code, 400, 'a token is of one list')
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), fc.string({ maxLength: 3 }), async (at, text) => {
      const changed = (token.slice(0, at) + text + token.slice(at + 1)).toWellFormed()
      fc.pre(changed !== token && changed !== '')
      const answer = await ask(configMaps, changed)
      // Characters that base64 does not have are not looked at: then it is still the same token.
      if (answer.code === 200) assert.deepEqual(answer.body.items, expected.body.items)
      else assert.ok([400, 410].includes(answer.code), answer.text)
    }),
    { numRuns: 150 },
  )
})

test('selectors and versions of any text are a list or a clear no', async () => {
  await using plane = await ControlPlane.start()
  const part = fc.oneof(
    fc.constantFrom(
      'a',
      '=',
      '!=',
      ' in ',
      ' notin ',
      '(',
      ')',
      ',',
      '!',
      '==',
      '\\',
      '>',
      '<',
      '/',
      'metadata.name',
    ),
    fc.string({ maxLength: 6 }),
  )
  const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join('').toWellFormed())
  const options = ['labelSelector', 'fieldSelector', 'resourceVersion', 'limit', 'timeoutSeconds']
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...options), text, async (option, value) => {
      const answer = await plane.ask(
        'GET',
        `/api/v1/pods?${new URLSearchParams({ [option]: value }).toString()}`,
      )
      unharmed(answer)
      assert.ok([200, 400, 422, 504].includes(answer.code), `${answer.code} ${answer.text}`)
    }),
    { numRuns: 400 },
  )
  // The longest that there may be, of what is worst for parsers that look back.
  for (const worst of ['('.repeat(4_000), 'a in ('.repeat(800), '!'.repeat(4_000), 'a,'.repeat(2_000)])
    unharmed(await plane.ask('GET', `/api/v1/pods?labelSelector=${encodeURIComponent(worst)}`))
})
