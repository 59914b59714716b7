import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { planIngress } from '../../src/controllers/pods/plan-ingress.ts'
import type { Ingress, Secret, Service } from '../../src/controllers/kinds.ts'
import { certificateFor } from '../../src/engine/local/door/door.testkit.ts'
import { Sites } from '../../src/engine/local/door/sites.ts'
import { parseTenantIngress } from '../../src/jail/index.ts'

/**
 * What random Ingresses of several tenants mean, against a model that is written from upstream's description alone: hosts
 * and wildcards, the three types of paths, certificates, objects that want the same, and hosts that others were granted.
 * https://kubernetes.io/docs/concepts/services-networking/ingress/
 */

type Path = { path: string; pathType: 'Exact' | 'Prefix' | 'ImplementationSpecific'; service: string }
type Written = {
  namespace: string
  rules: { host: string; paths: Path[] }[]
  tls: { hosts: string[]; secret: string }[]
}
type Tenant = { grants: string[]; ingresses: Written[] }

const SERVICES = ['one', 'two', 'gone']
const PAIRS = [await certificateFor('a.example.com'), await certificateFor('b.example.com')]

/** Of no two tenants the same, as the operator's side sees to. */
const GRANTS = [
  ['a.example.com', '*.red.example.com'],
  ['b.example.com', '*.blue.example.com'],
  ['c.example.com', 'x.example.net', '*.deep.blue.example.com'],
]
const HOSTS = [
  ...GRANTS.flat(),
  'x.red.example.com',
  'y.red.example.com',
  'x.blue.example.com',
  'x.deep.blue.example.com',
  '*.example.com',
]
const REQUESTED = [
  ...HOSTS.filter((host) => !host.startsWith('*')),
  'x.y.red.example.com',
  'red.example.com',
  'nobody.example.org',
]
const PATHS = ['/', '/a', '/a/', '/a/b', '/a/b/', '/ab', '/a/b/c', '/c']

/** Mostly what people write, now and then what they write to break something. */
const oddly = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 19, arbitrary: usual }, { weight: 1, arbitrary: odd })
const oddText = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    'a.example.com\r\nhost: b.example.com',
    '*',
    '*.*.example.com',
    '"; }',
    'A.EXAMPLE.COM',
    'a.example.com.',
    '/../x',
    '/%2e%2e/',
    '/a b',
    'x'.repeat(9_000),
  ),
)
const host = oddly(fc.constantFrom(...HOSTS), oddText)
const path: fc.Arbitrary<Path> = fc.record({
  path: oddly(fc.constantFrom('', ...PATHS), oddText),
  pathType: fc.constantFrom('Exact', 'Prefix', 'ImplementationSpecific'),
  service: fc.constantFrom(...SERVICES),
})
const written: fc.Arbitrary<Written> = fc.record({
  namespace: fc.constantFrom('default', 'shop'),
  rules: fc.array(fc.record({ host, paths: fc.array(path, { maxLength: 4 }) }), { maxLength: 4 }),
  tls: fc.array(
    fc.record({
      hosts: fc.array(host, { maxLength: 3 }),
      secret: fc.constantFrom('pair-0', 'pair-1', 'absent', 'garbage', 'swapped'),
    }),
    { maxLength: 2 },
  ),
})
const world: fc.Arbitrary<Tenant[]> = fc
  .tuple(...GRANTS.map(() => fc.array(written, { maxLength: 4 })))
  .map((all) => all.map((ingresses, at) => ({ grants: GRANTS[at] ?? [], ingresses })))

function objectOf(each: Written, age: number): Ingress {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: {
      name: `i${age}`,
      namespace: each.namespace,
      uid: `${age}`,
      creationTimestamp: new Date(age * 1_000).toISOString(),
    },
    spec: {
      rules: each.rules.map(({ host: name, paths }) => ({
        host: name,
        http: {
          paths: paths.map(({ service, ...rest }) => ({
            ...rest,
            backend: { service: { name: service, port: { number: 80 } } },
          })),
        },
      })),
      tls: each.tls.map(({ hosts, secret }) => ({ hosts, secretName: secret })),
    },
  } as unknown as Ingress
}

const services = ['default', 'shop'].flatMap((namespace) =>
  ['one', 'two'].map(
    (name) =>
      ({
        metadata: { name, namespace, uid: `${namespace}/${name}` },
        spec: { ports: [{ port: 80 }] },
      }) as Service,
  ),
)

function secretOf({ name }: { name: string }): Secret | undefined {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const pair = (certificate: string, key: string) =>
    ({
      type: 'kubernetes.io/tls',
      data: { 'tls.crt': base64(certificate), 'tls.key': base64(key) },
    }) as unknown as Secret
  const [first, second] = PAIRS
  if (!first || !second || name === 'absent') return undefined
  if (name === 'garbage') return pair('-----BEGIN CERTIFICATE-----\nAAAA', 'no key\u0001')
  if (name === 'swapped') return pair(first.certificate, second.key)
  return name === 'pair-0' ? pair(first.certificate, first.key) : pair(second.certificate, second.key)
}

/** The model. Nothing of it is shared with what it judges. */
function covers(pattern: string, name: string): boolean {
  const [first, ...others] = pattern.split('.')
  const [label, ...rest] = name.split('.')
  return first === '*'
    ? label !== undefined && rest.join('.') === others.join('.') && label !== ''
    : pattern === name
}

const elements = (text: string) => text.split('/').filter((part) => part !== '')

function matches({ path: rule, pathType }: Path, asked: string): boolean {
  const wanted = rule === '' ? '/' : rule
  if (pathType === 'Exact') return wanted === asked
  const [prefix, there] = [elements(wanted), elements(asked)]
  return prefix.every((part, at) => there[at] === part)
}

const isPlainHost = (text: string) => HOSTS.includes(text)
const isPlainPath = (text: string) => text === '' || PATHS.includes(text)

/** Whose service answers: `TENANT NAMESPACE/SERVICE`, or nothing. */
function expected(tenants: readonly Tenant[], name: string, asked: string): string | undefined {
  const owner = tenants.findIndex(({ grants }) => grants.some((grant) => covers(grant, name)))
  const entries = (tenants[owner]?.ingresses ?? []).flatMap(({ namespace, rules }) =>
    rules.flatMap(({ host: of, paths }) =>
      paths
        .filter((each) => isPlainHost(of) && isPlainPath(each.path))
        .map((each) => ({ namespace, of, ...each })),
    ),
  )
  // A rule for the name itself hides those of wildcards.
  const own = entries.filter(({ of }) => of === name)
  const candidates = (
    own.length > 0 ? own : entries.filter(({ of }) => of !== name && covers(of, name))
  ).filter((each) => matches(each, asked))
  const rank = (each: Path) => (each.pathType === 'Exact' ? 1_000 : elements(each.path).length)
  const best = Math.max(...candidates.map(rank))
  // Of two that want the same, the older one has it; "/a" and "/a/" are the same prefix, in the order in which they came.
  const [winner] = candidates.filter((each) => rank(each) === best)
  return winner && `${owner} ${winner.namespace}/${winner.service}`
}

test('random Ingresses of several tenants mean what upstream says, and hostile ones break nothing', () => {
  let answered = 0
  fc.assert(
    fc.property(world, (tenants) => {
      const sites = new Sites()
      for (const [index, { grants, ingresses }] of tenants.entries()) {
        const plan = planIngress({ ingresses: ingresses.map(objectOf), services, secret: secretOf })
        // What the control plane sends is what the node agent takes, whatever was written.
        const ingress = parseTenantIngress(JSON.parse(JSON.stringify(plan.ingress)))
        sites.set(index, { tenant: `t${index}`, grant: { hosts: grants, ports: [] }, ingress })
      }
      for (const name of REQUESTED)
        for (const asked of PATHS) {
          const site = sites.ownerOf(name)
          const route = site && sites.routeOf(site, name, asked)
          const backend = route && `${site.index} ${route.backend.namespace}/${route.backend.service}`
          assert.equal(backend, expected(tenants, name, asked), `${name}${asked}`)
          if (route) answered++
          // A service that is not there leads nowhere, and not to another path's.
          if (route) assert.equal(route.backend.port, route.backend.service === 'gone' ? 65_535 : 80)
        }
      for (const name of REQUESTED) {
        const owner = tenants.find(({ grants }) => grants.some((grant) => covers(grant, name)))
        const offered = (owner?.ingresses ?? []).flatMap(({ tls }) =>
          tls
            .filter(({ secret }) => secret.startsWith('pair-'))
            .flatMap(({ hosts }) => hosts.filter(isPlainHost)),
        )
        const certificate = sites.certificateOf(name)
        // Nobody's certificate is shown for a host that is another's, or that its owner has none for.
        if (certificate)
          assert.ok(
            offered.some((each) => covers(each, name)),
            name,
          )
      }
    }),
    { numRuns: 400 },
  )
  assert.ok(answered > 1_000, `${answered} requests were answered`)
})
