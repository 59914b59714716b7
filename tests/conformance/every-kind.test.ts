import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlPlane } from './control-plane.ts'
import { EXAMPLES, exampleKey, requestsOf, writableKinds } from './requests-of-kinds.ts'

test('there is an example of every kind whose objects clients make, and of no other', () => {
  assert.deepEqual(Object.keys(EXAMPLES).sort(), [...new Set(writableKinds().map(exampleKey))].sort())
})

for (const kind of writableKinds())
  test(`${exampleKey(kind)} ${kind.version}: every verb and every mistake is answered as Kubernetes answers it`, async () => {
    await using plane = await ControlPlane.start()
    await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'kinds' } } })
    const unexpected: string[] = []
    for (const { name, method, path, body, type, accept, code, reason } of requestsOf(kind)) {
      const answer = await plane.ask(method, path, {
        ...(typeof body === 'string' ? { raw: body } : body === undefined ? {} : { body }),
        ...(type ? { type } : {}),
        ...(accept ? { accept } : {}),
      })
      if (answer.code !== code || (reason && answer.body?.reason !== reason))
        unexpected.push(`${name}: ${answer.code} instead of ${code}: ${answer.text.slice(0, 300)}`)
    }
    assert.deepEqual(unexpected, [])
  })
