import {
  type KindDefinition,
  type KindRegistry,
  type Subresource,
  type VirtualKind,
  compareVersions,
  groupVersion,
} from '../../api/index.ts'
import { type Document, Documents, renderDocument } from './document.ts'

type Gvk = { group: string; version: string; kind: string }

/** What discovery says of one kind or one of its sub-resources. */
type Resource = {
  name: string
  singular: string
  namespaced: boolean
  gvk: Gvk
  /** True when `gvk` is not of the group version that the resource is listed under. */
  foreign: boolean
  /** Of a CustomResourceDefinition, which upstream tells of in full. */
  custom: boolean
  verbs: readonly string[]
  shortNames: readonly string[]
  categories: readonly string[]
  subresources: readonly Resource[]
}

type Group = { name: string; versions: { version: string; resources: readonly Resource[] }[] }

const documents = new Documents()

/** Aggregated discovery: every resource in two answers, as `kubectl` asks since 1.26. */
export function renderAggregatedDiscovery(
  registry: KindRegistry,
  which: 'api' | 'apis',
  version: 'v2' | 'v2beta1' = 'v2',
): Document {
  return documents.of(registry, `aggregated ${version} ${which}`, () =>
    renderDocument(
      {
        kind: 'APIGroupDiscoveryList',
        apiVersion: `apidiscovery.k8s.io/${version}`,
        metadata: {},
        items: groupsOf(registry)
          .filter((group) => (group.name === '') === (which === 'api'))
          .map((group) => ({
            metadata: group.name === '' ? {} : { name: group.name },
            versions: group.versions.map(({ version, resources }) => ({
              version,
              resources: resources.map(aggregatedResource),
              freshness: 'Current',
            })),
          })),
      },
      // Without these parameters a client does not believe that the answer is aggregated.
      `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
    ),
  )
}

function aggregatedResource(resource: Resource): object {
  return {
    resource: resource.name,
    responseKind: responseKind(resource),
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: resource.verbs,
    ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
    ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
    ...(resource.subresources.length > 0
      ? {
          subresources: resource.subresources.map((sub) => ({
            subresource: sub.name,
            responseKind: responseKind(sub),
            verbs: sub.verbs,
          })),
        }
      : {}),
  }
}

/** What is of the group version that it stands in says so by saying nothing. */
function responseKind({ gvk, foreign, custom }: Resource): Gvk {
  return foreign || custom ? gvk : { group: '', version: '', kind: gvk.kind }
}

/**
 * Legacy `/api`.
 * @param serverAddress `host:port` as clients reach us.
 */
export function renderApiVersions(registry: KindRegistry, serverAddress: string): Document {
  const core = groupsOf(registry).find((group) => group.name === '')
  return renderDocument({
    kind: 'APIVersions',
    versions: core?.versions.map(({ version }) => version) ?? [],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress }],
  })
}

/** Legacy `/apis`. */
export function renderApiGroupList(registry: KindRegistry): Document {
  return documents.of(registry, '/apis', () =>
    renderDocument({
      kind: 'APIGroupList',
      apiVersion: 'v1',
      groups: groupsOf(registry)
        .filter((group) => group.name !== '')
        .map(apiGroup),
    }),
  )
}

/** Legacy `/apis/GROUP`, or undefined for a group without kinds. */
export function renderApiGroup(registry: KindRegistry, name: string): Document | undefined {
  const group = groupsOf(registry).find((candidate) => candidate.name === name && name !== '')
  if (!group) return undefined
  return documents.of(registry, `/apis/${name}`, () =>
    renderDocument({ kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group) }),
  )
}

function apiGroup({ name, versions }: Group): object {
  const listed = versions.map(({ version }) => ({
    groupVersion: groupVersion({ group: name, version }),
    version,
  }))
  return { name, versions: listed, preferredVersion: listed[0] }
}

/** Legacy `/api/v1` and `/apis/GROUP/VERSION`, or undefined when no kind is of that group version. */
export function renderApiResourceList(
  registry: KindRegistry,
  { group, version }: { group: string; version: string },
): Document | undefined {
  const resources = groupsOf(registry)
    .find((candidate) => candidate.name === group)
    ?.versions.find((candidate) => candidate.version === version)?.resources
  if (!resources) return undefined
  return documents.of(registry, `resources ${group}/${version}`, () =>
    renderDocument({
      kind: 'APIResourceList',
      ...(group === '' ? {} : { apiVersion: 'v1' }),
      groupVersion: groupVersion({ group, version }),
      resources: resources.flatMap((resource) => [
        apiResource(resource),
        ...resource.subresources.map((sub) => apiResource({ ...sub, name: `${resource.name}/${sub.name}` })),
      ]),
    }),
  )
}

function apiResource(resource: Resource): object {
  const { group, version, kind } = resource.gvk
  return {
    name: resource.name,
    singularName: resource.singular,
    namespaced: resource.namespaced,
    ...(resource.foreign ? { ...(group === '' ? {} : { group }), version } : {}),
    kind,
    verbs: resource.verbs,
    ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
    ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
  }
}

/** Groups in the registry's order, the newest version of each first. */
function groupsOf(registry: KindRegistry): Group[] {
  const groups = new Map<string, Map<string, Resource[]>>()
  const all = [...registry.kinds.map(kindResource), ...registry.virtualKinds.map(virtualResource)]
  for (const resource of all) {
    const { group, version } = resource.gvk
    const versions = groups.get(group) ?? new Map<string, Resource[]>()
    groups.set(group, versions)
    const resources = versions.get(version) ?? []
    versions.set(version, resources)
    resources.push(resource)
  }
  return [...groups].map(([name, versions]) => ({
    name,
    versions: [...versions]
      .map(([version, resources]) => ({
        version,
        resources: resources.sort((a, b) => (a.name < b.name ? -1 : 1)),
      }))
      .sort((a, b) => compareVersions(b.version, a.version)),
  }))
}

function kindResource(definition: KindDefinition): Resource {
  const { group, version, kind, plural, singular, namespaced } = definition
  return {
    name: plural,
    singular,
    namespaced,
    gvk: { group, version, kind },
    foreign: false,
    custom: definition.custom !== undefined,
    verbs: [...definition.verbs].sort(),
    shortNames: definition.shortNames ?? [],
    categories: definition.categories ?? [],
    subresources: (definition.subresources ?? [])
      .map((sub) => subresource(definition, sub))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  }
}

function subresource(definition: KindDefinition, { name, kind, verbs }: Subresource): Resource {
  const { group, version, namespaced, custom } = definition
  const gvk = kind ?? { group, version, kind: definition.kind }
  return {
    name,
    singular: '',
    namespaced,
    gvk,
    foreign: gvk.group !== group || gvk.version !== version,
    custom: custom !== undefined,
    // Upstream lists the methods that open a connection, not the RBAC word.
    verbs: [...new Set(verbs.flatMap((verb) => (verb === 'connect' ? ['create', 'get'] : [verb])))].sort(),
    shortNames: [],
    categories: [],
    subresources: [],
  }
}

function virtualResource({ group, version, kind, plural, singular, namespaced }: VirtualKind): Resource {
  return {
    name: plural,
    singular,
    namespaced,
    gvk: { group, version, kind },
    foreign: false,
    custom: false,
    verbs: ['create'],
    shortNames: [],
    categories: [],
    subresources: [],
  }
}
