/** What a recording of kube-apiserver 1.32.13 would say today, of the kinds that we serve. */
import { groupVersion, NETWORK_GROUP, tenantRegistry } from '../../src/api/index.ts'
import { isObject } from './compare-answers.ts'
import type { Json } from './control-plane.ts'

/**
 * The recorded answer as a newer Kubernetes with the usual plugins gives it: templates have no creation
 * time since 1.34, and the recorded server ran without the plugin ServiceAccount, which names a pod's account.
 */
export function asOfToday(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => asOfToday(item, key))
  // Lists of words were written as Go has them.
  if (typeof value === 'string') return value.replace(/\[\]string\{("[^{}]*")\}/, '[$1]')
  if (!isObject(value)) return value
  const object: Json = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, asOfToday(v, k)]))
  // An empty time is left away since 1.34, also in discovery.
  if (key === 'items' && object.versions) delete object.metadata.creationTimestamp
  if (key === 'template' && object.metadata?.creationTimestamp === null)
    delete object.metadata.creationTimestamp
  if (object.kind === 'Pod' && object.spec) {
    object.spec = { ...object.spec, serviceAccountName: 'default', serviceAccount: 'default' }
  }
  return object
}

/** Pods have a generation since 1.33. */
export function withoutGeneration(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutGeneration(item))
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([k, v]) =>
      key === 'metadata' && k === 'generation' ? [] : [[k, withoutGeneration(v, k)]],
    ),
  )
}

/** Names of what we serve: groups, group versions, resources and sub-resources in them, kinds, and paths. */
const SERVED: ReadonlySet<string> = new Set(
  // Measurements come from a server of their own upstream, and kinds of the platform's own are not there.
  [
    ...tenantRegistry.kinds.filter((kind) => !kind.measured && kind.group !== NETWORK_GROUP),
    ...tenantRegistry.virtualKinds,
  ].flatMap((kind) => {
    const gv = groupVersion(kind)
    const subresources = tenantRegistry.find({ ...kind, resource: kind.plural })?.subresources ?? []
    const root = kind.group ? 'apis' : 'api'
    return [
      kind.group,
      gv,
      `${root}/${gv}`,
      `${gv}/${kind.plural}`,
      ...subresources.map(({ name }) => `${gv}/${kind.plural}/${name}`),
    ]
  }),
)
const ALWAYS: readonly string[] = [
  'api',
  'apis',
  'healthz',
  'livez',
  'readyz',
  'version',
  'openapi/v2',
  'openapi/v3',
]

/**
 * A discovery document without what is not served here: other kinds, and the paths by which a server tells of its own parts. What is
 * listed is in the order of names: upstream's follows how a server is put together. A hash says nothing but that it changes.
 */
export function onlyServed(value: unknown): unknown {
  if (!isObject(value)) return value
  const document: Json = value
  const byName = (a: Json, b: Json) => (a.name < b.name ? -1 : 1)
  if (document.kind === 'APIGroupList')
    return { ...document, groups: document.groups.filter(({ name }: Json) => SERVED.has(name)).sort(byName) }
  if (document.kind === 'APIResourceList')
    return {
      ...document,
      resources: document.resources
        .filter(({ name }: Json) => SERVED.has(`${document.groupVersion}/${name}`))
        .map(({ storageVersionHash: _hash, ...resource }: Json) => resource),
    }
  if (document.kind === 'APIGroupDiscoveryList')
    return {
      ...document,
      items: document.items
        .filter(({ metadata }: Json) => SERVED.has(metadata.name ?? ''))
        .map((group: Json) => ({ ...group, versions: group.versions.map((v: Json) => versionOf(group, v)) }))
        .sort((a: Json, b: Json) => byName(a.metadata, b.metadata)),
    }
  // Upstream lists what comes from several roles in no order.
  if (document.kind === 'SelfSubjectRulesReview') {
    const { nonResourceRules } = document.status
    const asText = (rule: Json) => JSON.stringify(rule)
    const sorted = nonResourceRules.toSorted((a: Json, b: Json) => (asText(a) < asText(b) ? -1 : 1))
    return { ...document, status: { ...document.status, nonResourceRules: sorted } }
  }
  const { paths } = document
  if (Array.isArray(paths))
    return {
      paths: paths.filter((path: string) => ALWAYS.includes(path.slice(1)) || SERVED.has(path.slice(1))),
    }
  if (isObject(paths) && Object.values(paths).every((path: Json) => path?.serverRelativeURL))
    return {
      paths: Object.fromEntries(
        Object.entries(paths)
          .filter(([path]) => SERVED.has(path))
          .map(([path, { serverRelativeURL }]: [string, Json]) => [
            path,
            serverRelativeURL.replace(/hash=.*/, 'hash=*'),
          ]),
      ),
    }
  return document
}

function versionOf({ metadata }: Json, version: Json): Json {
  const gv = metadata.name ? `${metadata.name}/${version.version}` : version.version
  const has = (name: string) => SERVED.has(`${gv}/${name}`)
  return {
    ...version,
    resources: version.resources
      .filter(({ resource }: Json) => has(resource))
      .map(({ subresources = [], ...resource }: Json) => ({
        ...resource,
        subresources: subresources.filter((sub: Json) => has(`${resource.resource}/${sub.subresource}`)),
      })),
  }
}
