import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeProtobuf } from '../../src/apiserver/wire/index.ts'
import type { Logger } from '../../src/stdx/index.ts'
import { BOAT_DEFINITION, type FuzzRequest, requestOf } from '../../tools/fuzz/requests.ts'
import { type Answer, ControlPlane } from './control-plane.ts'

/**
 * Asks an API server whatever it can be asked: a few hundred requests, others in every run. For longer, and again:
 * `FUZZ_REQUESTS=100000 FUZZ_SEED=1 node --test tests/conformance/fuzz-requests.test.ts`.
 */
const REQUESTS = Number(process.env['FUZZ_REQUESTS'] ?? 600)
const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31)
const AT_ONCE = 8
/** Nothing that a client may ask takes so long on any machine. */
const ANSWER_MS_MAX = 60_000

/** What our own log calls an error is one. */
function errorsOf(found: unknown[]): Logger {
  const log: Logger = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (message, fields) => void found.push({ message, ...fields }),
    with: () => log,
  }
  return log
}

async function answered(plane: ControlPlane, request: FuzzRequest): Promise<Answer | undefined> {
  const { method, path, headers, body } = request
  const { accept = '*/*', 'content-type': type = 'application/json', ...others } = headers
  const asked = plane.ask(method, path, { accept, type, headers: others, ...(body ? { raw: body } : {}) })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), ANSWER_MS_MAX)
  })
  try {
    return await Promise.race([asked, late])
  } catch (error) {
    // Node sends no such path or header, and its server takes no more of a request that it cannot read.
    const { code } = error as { code?: string }
    if (code === 'ERR_UNESCAPED_CHARACTERS' || code === 'ERR_INVALID_CHAR') return undefined
    throw error
  } finally {
    clearTimeout(timer)
  }
}

/** What is wrong with an answer, whatever was asked. */
function faultOf({ code, headers, bytes, text }: Answer): string | undefined {
  const type = headers['content-type'] ?? ''
  // A revision that is not there yet, and what this server is not made of.
  const known = code === 504 || code === 503 || code === 501
  if (code >= 500 && !known) return `${code}`
  if (/\n {4}at |node:internal|\/src\/|TypeError|RangeError/.test(text) && code >= 400)
    return 'it shows our insides'
  // Node itself answers what is no HTTP.
  if (code === 400 && type === '' && bytes.length === 0) return undefined
  if (code < 400 || type.startsWith('text/plain')) return undefined
  if (type.startsWith('application/vnd.kubernetes.protobuf')) {
    const { value } = decodeProtobuf(bytes)
    return (value as { kind?: string }).kind === 'Status' ? undefined : 'a refusal that is no Status'
  }
  if (type.startsWith('application/yaml'))
    return /^kind: Status$/m.test(text) ? undefined : 'a refusal that is no Status'
  const status = JSON.parse(text) as { kind?: string; code?: number }
  return status.kind === 'Status' && status.code === code ? undefined : 'a refusal that is no Status'
}

test(`no request makes the server fail, hang or show its insides (seed ${SEED})`, async () => {
  const errors: unknown[] = []
  const lost = (error: unknown) => void errors.push(error)
  process.on('unhandledRejection', lost)
  await using plane = await ControlPlane.start({ log: errorsOf(errors) })
  const create = async (path: string, body: unknown) => {
    const answer = await plane.ask('POST', path, { body })
    assert.equal(answer.code, 201, answer.text)
    return answer.body as { spec: { names: unknown } }
  }
  const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
  await create('/api/v1/namespaces', { metadata: { name: 'fuzz' } })
  const definition = await create(definitions, BOAT_DEFINITION)
  const status = {
    acceptedNames: definition.spec.names,
    conditions: [{ type: 'Established', status: 'True' }],
  }
  await plane.ask('PUT', `${definitions}/boats.example.com/status`, { body: { ...definition, status } })
  const codes: Record<string, number> = {}
  let next = 0
  const worker = async () => {
    for (let number = next++; number < REQUESTS; number = next++) {
      const request = requestOf(SEED, number)
      const described = `request ${number} of seed ${SEED}: ${request.method} ${request.path.slice(0, 300)}`
      try {
        const answer = await answered(plane, request)
        if (!answer) continue
        const fault = faultOf(answer)
        assert.equal(fault, undefined, answer.text.slice(0, 500))
        codes[answer.code] = (codes[answer.code] ?? 0) + 1
      } catch (cause) {
        throw new Error(`${described}\n${request.body?.toString('utf8').slice(0, 1_000) ?? ''}`, { cause })
      }
      if (errors.length > 0) throw new Error(described, { cause: errors[0] })
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
    // It goes on as if nothing had happened.
    const after = await plane.ask('POST', '/api/v1/namespaces/default/configmaps', {
      body: { metadata: { name: 'after' } },
    })
    assert.equal(after.code, 201, after.text)
  } finally {
    process.off('unhandledRejection', lost)
  }
  // Requests that are all refused at once would prove nothing.
  if (REQUESTS >= 500)
    for (const code of [200, 201, 400, 404, 409, 422])
      assert.ok(codes[code], `${code}: ${JSON.stringify(codes)}`)
})

test('a seed and a number always make the same request', () => {
  for (let number = 0; number < 50; number++) assert.deepEqual(requestOf(7, number), requestOf(7, number))
})
