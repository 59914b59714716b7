import { semanticEqual } from '../../conditions.ts'
import { ENDPOINTS_PER_ENDPOINTS_MAX, ENDPOINTS_PER_SLICE_MAX, MIRRORED_PER_SLICE_MAX } from '../../limits.ts'
import type {
  EndpointAddress,
  Endpoints,
  EndpointSlice,
  EndpointSliceEndpoint,
  EndpointSlicePort,
  EndpointSubset,
  Pod,
  Service,
} from '../../kinds.ts'
import { isFinished, isReady } from '../pods.ts'

/** A pod that carries out a service, and under which numbers it offers the service's ports. */
type Member = {
  pod: Pod
  ip: string
  ports: EndpointSlicePort[]
  ready: boolean
  serving: boolean
  terminating: boolean
}

export type SliceContent = { endpoints: EndpointSliceEndpoint[]; ports: EndpointSlicePort[] }

/** The pods of a service that have an address and have not ended. */
function membersOf(service: Service, pods: readonly Pod[]): Member[] {
  return pods
    .filter((pod) => pod.status?.podIP && !isFinished(pod))
    .map((pod) => {
      const terminating = pod.metadata.deletionTimestamp !== undefined
      const serving = isReady(pod)
      return {
        pod,
        ip: pod.status?.podIP ?? '',
        ports: portsOf(service, pod),
        ready: service.spec.publishNotReadyAddresses === true || (serving && !terminating),
        serving,
        terminating,
      }
    })
    .toSorted((a, b) => (a.pod.metadata.uid < b.pod.metadata.uid ? -1 : 1))
}

function portsOf(service: Service, pod: Pod): EndpointSlicePort[] {
  return (service.spec.ports ?? []).flatMap((port) => {
    const protocol = port.protocol ?? 'TCP'
    const number = targetPort(port.targetPort ?? port.port, protocol, pod)
    // A pod without a port of that name does not offer it; the others it still offers.
    if (number === undefined) return []
    return [
      {
        name: port.name ?? '',
        protocol,
        port: number,
        ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }),
      },
    ]
  })
}

/** The number behind a service's target port, which may be the name of a container's port. */
function targetPort(target: number | string, protocol: string, pod: Pod): number | undefined {
  if (typeof target === 'number') return target
  if (/^\d{1,5}$/.test(target)) return Number(target)
  const sidecars = (pod.spec.initContainers ?? []).filter((container) => container.restartPolicy === 'Always')
  for (const container of [...pod.spec.containers, ...sidecars])
    for (const port of container.ports ?? [])
      if (port.name === target && (port.protocol ?? 'TCP') === protocol) return port.containerPort
  return undefined
}

function hostnameOf(service: Service, pod: Pod): string | undefined {
  return pod.spec.hostname && pod.spec.subdomain === service.metadata.name ? pod.spec.hostname : undefined
}

function targetRefOf(pod: Pod) {
  const { name, namespace, uid } = pod.metadata
  return { kind: 'Pod', name, ...(namespace === undefined ? {} : { namespace }), uid }
}

/** What the slices of a service must hold; always at least one, so that a reader knows that it was looked at. Pure. */
export function planSlices(service: Service, pods: readonly Pod[]): SliceContent[] {
  const groups = new Map<string, SliceContent>()
  for (const { pod, ip, ports, ready, serving, terminating } of membersOf(service, pods)) {
    const hostname = hostnameOf(service, pod)
    const endpoint: EndpointSliceEndpoint = {
      addresses: [ip],
      conditions: { ready, serving, terminating },
      ...(hostname === undefined ? {} : { hostname }),
      ...(pod.spec.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
      targetRef: targetRefOf(pod),
    }
    const key = JSON.stringify(ports)
    const group = groups.get(key)
    if (group) group.endpoints.push(endpoint)
    else groups.set(key, { ports, endpoints: [endpoint] })
  }
  const slices = [...groups.values()].flatMap(({ ports, endpoints }) =>
    chunks(endpoints, ENDPOINTS_PER_SLICE_MAX).map((part) => ({ ports, endpoints: part })),
  )
  return slices.length > 0 ? slices : [{ ports: [], endpoints: [] }]
}

export type SliceSteps = {
  create: SliceContent[]
  update: { slice: EndpointSlice; content: SliceContent }[]
  remove: EndpointSlice[]
}

/**
 * How to get from the slices there are to those there must be, writing as few as possible. `isCurrent` tells whether
 * the rest of a slice is as it should be. Pure.
 */
export function planSliceSteps(
  existing: readonly EndpointSlice[],
  wanted: readonly SliceContent[],
  isCurrent: (slice: EndpointSlice) => boolean = () => true,
): SliceSteps {
  const steps: SliceSteps = { create: [], update: [], remove: [] }
  const left = existing.filter((slice) => !slice.metadata.deletionTimestamp)
  const unmatched: SliceContent[] = []
  for (const content of wanted) {
    const same = left.findIndex((slice) => isCurrent(slice) && semanticEqual(contentOf(slice), content))
    if (same >= 0) left.splice(same, 1)
    else unmatched.push(content)
  }
  for (const content of unmatched) {
    const samePorts = left.findIndex((slice) => semanticEqual(contentOf(slice).ports, content.ports))
    const [slice] = samePorts >= 0 ? left.splice(samePorts, 1) : left.splice(0, 1)
    if (slice) steps.update.push({ slice, content })
    else steps.create.push(content)
  }
  steps.remove = left
  return steps
}

function contentOf({ endpoints = [], ports = [] }: EndpointSlice): SliceContent {
  return { endpoints, ports }
}

/** What the slices of Endpoints that somebody wrote by hand must hold: one for all subsets with the same ports. Pure. */
export function planMirror({ subsets = [] }: Endpoints): SliceContent[] {
  const groups = new Map<
    string,
    { ports: EndpointSlicePort[]; endpoints: Map<string, EndpointSliceEndpoint> }
  >()
  for (const { addresses = [], notReadyAddresses = [], ports: numbered = [] } of subsets) {
    const ports = numbered.map(({ name = '', protocol = 'TCP', ...rest }) => ({ name, protocol, ...rest }))
    const key = JSON.stringify(ports)
    const group = groups.get(key) ?? { ports, endpoints: new Map<string, EndpointSliceEndpoint>() }
    groups.set(key, group)
    // An address that is there twice is ready when one of the two is.
    for (const address of notReadyAddresses) group.endpoints.set(address.ip, mirrored(address, false))
    for (const address of addresses) group.endpoints.set(address.ip, mirrored(address, true))
  }
  return [...groups.values()].flatMap(({ ports, endpoints }) =>
    chunks([...endpoints.values()], MIRRORED_PER_SLICE_MAX).map((part) => ({ ports, endpoints: part })),
  )
}

function mirrored({ ip, ...rest }: EndpointAddress, ready: boolean): EndpointSliceEndpoint {
  return { addresses: [ip], conditions: { ready }, ...rest }
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  )
}

/** The same in the old form. Pure. */
export function planSubsets(service: Service, pods: readonly Pod[]): EndpointSubset[] {
  const groups = new Map<string, Required<EndpointSubset>>()
  for (const { pod, ip, ports, ready, terminating } of membersOf(service, pods).slice(
    0,
    ENDPOINTS_PER_ENDPOINTS_MAX,
  )) {
    // The old form has no word for an ending pod, so it is left out unless asked for.
    if (terminating && !service.spec.publishNotReadyAddresses) continue
    const hostname = hostnameOf(service, pod)
    const address: EndpointAddress = {
      ip,
      ...(hostname === undefined ? {} : { hostname }),
      ...(pod.spec.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
      targetRef: targetRefOf(pod),
    }
    const key = JSON.stringify(ports)
    let group = groups.get(key)
    if (!group) {
      const numbered = ports.flatMap(({ port, name, ...rest }) =>
        port === undefined ? [] : [{ ...rest, ...(name ? { name } : {}), port }],
      )
      groups.set(key, (group = { addresses: [], notReadyAddresses: [], ports: numbered }))
    }
    ;(ready ? group.addresses : group.notReadyAddresses).push(address)
  }
  return [...groups.values()].map(({ addresses, notReadyAddresses, ports }) => ({
    ...(addresses.length > 0 ? { addresses } : {}),
    ...(notReadyAddresses.length > 0 ? { notReadyAddresses } : {}),
    ...(ports.length > 0 ? { ports } : {}),
  }))
}
