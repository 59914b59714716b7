import type { IncomingHttpHeaders } from 'node:http'
import { Readable } from 'node:stream'
import { ApiError, type KubeObject, type Pod, type Service, badRequest, forbidden } from '../api/index.ts'
import type { Engine, JailId } from '../jail/index.ts'
import { askPod, type PodAnswer } from './ask-pod.ts'
import { admitConnection } from './connect.ts'
import { type Context, keyPrefix, objectKey } from './context.ts'
import { PASS_ON_MS_MAX, POD_LOCATION_CHARS_MAX } from './limits.ts'
import type { OpenCount } from './open-count.ts'
import { requireEngine } from './pod-log.ts'
import { readStored } from './read.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'

/** What a pod gets to see of a client's headers. Who the client is, and what it showed for it, is the API's alone. */
const REQUEST_HEADERS = [
  'accept',
  'accept-encoding',
  'cache-control',
  'content-encoding',
  'content-type',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'user-agent',
] as const

type Slice = KubeObject & {
  ports?: { name?: string; port?: number; protocol?: string }[]
  endpoints?: { conditions?: { ready?: boolean }; targetRef?: { kind?: string; name?: string } }[]
}

/** Where a request is to go: `[http:|https:]NAME[:PORT]`, where the port of a service may be its name. */
export type Place = { scheme: 'http' | 'https'; name: string; port: string }

export function headersForPod(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(
    REQUEST_HEADERS.flatMap((name) => {
      const value = headers[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/**
 * Any method at `pods/proxy` and `services/proxy`: a pod of this control plane is asked the same, over the way that
 * port-forward takes, and its answer goes back. Only pods are reached: what is asked is a jail, never an address.
 */
export async function passOn(
  context: Context,
  count: OpenCount,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const place = parsePlace(target.name)
  const path = request.path.rest ?? ''
  // Before anything is looked up, as for every connection.
  await admitConnection(context, request, target)
  const { pod, port } =
    target.definition.plural === 'pods'
      ? podPlace(context, target, place)
      : servicePlace(context, target, place)
  const engine = requireEngine(context)
  const { nodeName } = pod.spec
  if (!nodeName || !pod.status?.podIP) throw badRequest(`pod ${pod.metadata.name} has no address yet`)
  // Links of a page are relative to a folder, which a path without a slash at its end is not.
  if (path === '' && (request.method === 'GET' || request.method === 'HEAD')) {
    const location = `./proxy/${request.forPod?.search ?? ''}`
    return {
      kind: 'passed',
      code: 301,
      headers: { location, 'content-length': '0' },
      stream: Readable.from([]),
    }
  }
  const leave = count.enter()
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(PASS_ON_MS_MAX)])
  try {
    const { location, ...answer } = await ask(context, request, {
      engine,
      pod,
      port,
      scheme: place.scheme,
      path,
      signal,
    })
    answer.stream.once('close', leave)
    const asked = `${place.scheme}://${pod.status.podIP}:${port}${path === '' ? '/' : path}`
    const shown = location === undefined ? undefined : redirectBelow(path, asked, location)
    return {
      kind: 'passed',
      ...answer,
      headers: { ...answer.headers, ...(shown === undefined ? {} : { location: shown }) },
    }
  } catch (error) {
    leave()
    throw error
  }
}

async function ask(
  context: Context,
  request: ResourceRequest,
  {
    engine,
    pod,
    port,
    scheme,
    path,
    signal,
  }: { engine: Engine; pod: Pod; port: number; scheme: Place['scheme']; path: string; signal: AbortSignal },
): Promise<PodAnswer> {
  const body = await request.readBody()
  if (body?.kind === 'value') throw badRequest('what is passed on must be bytes')
  const { headers = {}, search = '' } = request.forPod ?? {}
  try {
    return await request.cost.waiting(
      engine.portForward(pod.metadata.uid as JailId, port, signal).then((connection) =>
        askPod(
          connection,
          {
            scheme,
            method: request.method,
            path: `${path === '' ? '/' : path}${search}`,
            headers: { ...headers, host: `${pod.status?.podIP}:${port}` },
            body: body?.bytes,
            signal,
          },
          context.clock,
        ),
      ),
    )
  } catch (cause) {
    throw new ApiError('ServiceUnavailable', `error trying to reach service: ${whyNot(cause)}`, { cause })
  }
}

/** A refusal of the engine is meant for the tenant; what a socket says goes to nobody. */
function whyNot(error: unknown): string {
  if (error instanceof ApiError) return error.message
  return 'nothing at that port answers in HTTP'
}

/**
 * Where a pod sends the reader, as the reader has to go there: below the same `proxy`, and relative, because nobody here knows
 * what stands before it. What leads to another host is not told: a client would follow it with what it shows the API.
 * @param asked the URL that the pod was asked for.
 */
export function redirectBelow(path: string, asked: string, location: string): string | undefined {
  if (location.length > POD_LOCATION_CHARS_MAX || !URL.canParse(location, asked)) return undefined
  const [from, to] = [new URL(asked), new URL(location, asked)]
  if (to.origin !== from.origin || to.username !== '' || to.password !== '') return undefined
  const target = `${to.pathname.slice(1)}${to.search}${to.hash}`
  if (path === '') return `./proxy/${target}`
  return `${'../'.repeat(path.split('/').length - 2) || './'}${target}`
}

/** @throws {ApiError} BadRequest for what is no such place. */
export function parsePlace(text: string): Place {
  const parts = text.split(':')
  const [name, port] = parts.length === 3 ? parts.slice(1) : parts
  const scheme = parts.length === 3 ? parts[0] || 'http' : 'http'
  if (!name || parts.length > 3 || (scheme !== 'http' && scheme !== 'https'))
    throw badRequest(`invalid request ${JSON.stringify(text)}: write [http:|https:]NAME[:PORT]`)
  return { scheme, name, port: port ?? '' }
}

function podPlace(
  context: Context,
  target: Target,
  { scheme, name, port }: Place,
): { pod: Pod; port: number } {
  const pod = readStored(context, { ...target, name }).object as Pod
  const first = pod.spec.containers.flatMap(({ ports = [] }) => ports)[0]?.containerPort
  if (port === '') return { pod, port: first ?? (scheme === 'https' ? 443 : 80) }
  return { pod, port: portNumber(port) }
}

function portNumber(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw badRequest(`invalid port ${JSON.stringify(text)}`)
  return port
}

/** One of the ready pods behind a service. */
function servicePlace(context: Context, target: Target, { name, port }: Place): { pod: Pod; port: number } {
  const service = readStored(context, { ...target, name }).object as Service
  const wanted = portName(service, port)
  const slices = context.store
    .list(keyPrefix({ group: 'discovery.k8s.io', resource: 'endpointslices' }, target.namespace))
    .items.map(({ object }) => object as Slice)
    .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === name)
  const ready = slices.flatMap(({ ports = [], endpoints = [] }) => {
    const number = ports.find((each) => (each.name ?? '') === wanted && each.protocol !== 'UDP')?.port
    if (number === undefined) return []
    return endpoints
      .filter(({ conditions }) => conditions?.ready !== false)
      .map(({ targetRef }) => ({ targetRef, number }))
  })
  // An address alone could be anybody's.
  const places = ready.flatMap(({ targetRef, number }) => {
    const pod =
      targetRef?.kind === 'Pod' && targetRef.name ? podNamed(context, target, targetRef.name) : undefined
    return pod ? [{ pod, port: number }] : []
  })
  const chosen = places[Math.floor(context.entropy.fraction() * places.length)]
  if (chosen) return chosen
  if (ready.length > 0)
    throw forbidden(
      { group: '', resource: 'services', name },
      { tell: 'requests are passed on to pods only, and none is behind it' },
    )
  throw new ApiError('ServiceUnavailable', `no endpoints available for service ${JSON.stringify(name)}`)
}

/** Endpoints know ports by the names that the service gives them. */
function portName(service: Service, port: string): string {
  const ports = service.spec.ports ?? []
  if (port === '') return ports.length === 1 ? (ports[0]?.name ?? '') : ''
  const byNumber = ports.find((each) => String(each.port) === port)
  return byNumber ? (byNumber.name ?? '') : port
}

function podNamed(context: Context, { namespace }: Target, name: string): Pod | undefined {
  const definition = context.registry.find({ group: '', resource: 'pods' })
  return definition && (context.store.get(objectKey(definition, namespace, name))?.object as Pod | undefined)
}
