import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Difference, compareServers } from './compare-answers.ts'
import { ControlPlane } from './control-plane.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from './kube-apiserver.ts'
import { LIVE_DIFFERENCES, unexplained } from './live-differences.ts'
import { type KindRequest, requestsOf, writableKinds } from './requests-of-kinds.ts'
import { answersAlike, observeMinor, observeServed } from './upstream-versions.ts'

/** Asks ours and a real kube-apiserver the same of every kind. Set KUBEBUILDER_ASSETS as for envtest. */

const FIRST: KindRequest = {
  name: 'the namespace of all',
  method: 'POST',
  path: '/api/v1/namespaces',
  body: { metadata: { name: 'kinds' } },
  code: 201,
}

/** The minor version whose documents `LIVE_DIFFERENCES` speaks of. */
const DOCUMENTS_OF_MINOR = 36

/** What the list excuses and nothing does any more. */
function unneeded(differences: readonly Difference[]): string[] {
  return LIVE_DIFFERENCES.filter(
    (known) =>
      !differences.some(
        ({ request, paths }) => known.request.test(request) && paths.some((path) => known.path.test(path)),
      ),
  ).map(({ why }) => why)
}

function asking(plane: ControlPlane) {
  return async ({ method, path, body, type, accept }: KindRequest) =>
    plane.ask(method, path, {
      ...(typeof body === 'string' ? { raw: body } : body === undefined ? {} : { body }),
      ...(type ? { type } : {}),
      ...(accept ? { accept } : {}),
    })
}

test('two servers of ours answer everything alike, so what is compared is not what is new every time', async () => {
  await using left = await ControlPlane.start()
  await using right = await ControlPlane.start()
  const requests = [FIRST, ...writableKinds().flatMap(requestsOf)]
  assert.deepEqual(await compareServers(requests, [asking(left), asking(right)]), [])
})

test('a server that answers otherwise is told of, by request and field', async () => {
  await using plane = await ControlPlane.start()
  const [request] = writableKinds().flatMap(requestsOf)
  assert.ok(request)
  const other = async () => ({ code: 200, text: '{"kind":"Pod","spec":{"a":1}}' })
  const [difference, ...more] = await compareServers([request], [asking(plane), other])
  assert.deepEqual(more, [])
  assert.deepEqual(difference?.codes, ['404 NotFound', '200'])
  assert.ok(difference?.paths.includes('spec') && difference.paths.includes('message'))
})

test(
  'every request about every kind gets the code and reason that a real kube-apiserver gives',
  { skip: upstreamMissing, timeout: 600_000 },
  async (t) => {
    await using upstream = await KubeApiServer.start(ASSETS ?? '')
    await using plane = await ControlPlane.start()
    const ours = asking(plane)
    const ask = async (request: Parameters<typeof upstream.ask>[0]) => upstream.ask(request)
    const minor = await observeMinor(ask)
    const served = await observeServed(ask, writableKinds())
    for (const { plural, group, version } of writableKinds().filter((kind) => !served.includes(kind)))
      t.diagnostic(`1.${minor} does not serve ${plural} of ${group}/${version}`)
    const all = [FIRST, ...served.flatMap(requestsOf)]
    const requests = all.filter((request) => answersAlike(request, minor))
    t.diagnostic(
      `${requests.length} requests; ${all.length - requests.length} are answered otherwise by newer versions`,
    )
    const differences = await compareServers(requests, [ask, ours])
    assert.deepEqual(
      differences.filter(({ codes }) => codes !== undefined),
      [],
    )
    const surprises = differences
      .map(({ request, paths }) => ({ request, paths: unexplained(request, paths) }))
      .filter(({ paths }) => paths.length > 0)
    if (minor === DOCUMENTS_OF_MINOR) {
      assert.deepEqual(surprises, [])
      assert.deepEqual(unneeded(differences), [])
    }
    // Documents differ where the versions do: whoever runs this with another one looks at them.
    else for (const { request, paths } of surprises) t.diagnostic(`${request}: ${paths.join(', ')}`)
  },
)
