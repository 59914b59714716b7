import { ApiError, type FieldError, type KubeObject, badRequest, invalid } from '../api/index.ts'
import type { JailId, LogOptions } from '../jail/index.ts'
import type { Context } from './context.ts'
import { LOG_FOLLOW_MS_MAX } from './limits.ts'
import { parseBoolean } from './options.ts'
import { readStored } from './read.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'

type Named = { name: string }
type ContainerStatus = Named & {
  containerID?: string
  lastState?: { terminated?: object }
  state?: { waiting?: { reason?: string } }
}
type PodSpec = { containers: Named[]; initContainers?: Named[]; nodeName?: string }
type PodStatus = { containerStatuses?: ContainerStatus[]; initContainerStatuses?: ContainerStatus[] }

/** GET pods/log: the container's output as plain text, for as long as the client follows it. */
export async function podLog(context: Context, request: ResourceRequest, target: Target): Promise<ApiResult> {
  const pod = readStored(context, target).object
  const options = parseLogOptions(request.query)
  const container = containerOf(pod, request.query.get('container') ?? '')
  const engine = requireEngine(context)
  requireStarted(pod, container, options.previous ?? false)
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(LOG_FOLLOW_MS_MAX)])
  const stream = await request.cost.waiting(
    engine.logs(pod.metadata.uid as JailId, container, options, signal),
  )
  return { kind: 'text', stream }
}

/** @throws {ApiError} ServiceUnavailable when this control plane has no machines. */
export function requireEngine(context: Context) {
  if (context.engine) return context.engine
  throw new ApiError(
    'ServiceUnavailable',
    'This control plane has no machines, so there are no containers to reach',
  )
}

/**
 * The container that a request means: the one it names, or the only one.
 * @throws {ApiError} BadRequest in upstream's words.
 */
export function containerOf(pod: KubeObject, wanted: string): string {
  const spec = pod['spec'] as PodSpec
  const names = spec.containers.map((c) => c.name)
  const init = (spec.initContainers ?? []).map((c) => c.name)
  const { name, annotations } = pod.metadata
  if (wanted === '') {
    const preferred = annotations?.['kubectl.kubernetes.io/default-container']
    if (names.length === 1) return names[0]!
    if (preferred !== undefined && names.includes(preferred)) return preferred
    const also = init.length > 0 ? ` or one of the init containers: [${init.join(' ')}]` : ''
    throw badRequest(
      `a container name must be specified for pod ${name}, choose one of: [${names.join(' ')}]${also}`,
    )
  }
  if (!names.includes(wanted) && !init.includes(wanted))
    throw badRequest(`container ${wanted} is not valid for pod ${name}`)
  return wanted
}

function requireStarted(pod: KubeObject, container: string, previous: boolean): void {
  const { name } = pod.metadata
  const status = pod['status'] as PodStatus | undefined
  const found = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])].find(
    (c) => c.name === container,
  )
  if (previous && !found?.lastState?.terminated)
    throw badRequest(
      `previous terminated container ${JSON.stringify(container)} in pod ${JSON.stringify(name)} not found`,
    )
  const waiting = found?.state?.waiting
  if (waiting && !previous && !found.lastState?.terminated)
    throw badRequest(
      `container ${JSON.stringify(container)} in pod ${JSON.stringify(name)} is waiting to start: ${waiting.reason ?? 'ContainerCreating'}`,
    )
}

function parseLogOptions(query: URLSearchParams): LogOptions {
  const errors: FieldError[] = []
  const integer = (field: string, minimum: number): number | undefined => {
    const value = query.get(field)
    if (value === null || value === '') return undefined
    if (/^-?\d{1,15}$/.test(value) && Number(value) >= minimum) return Number(value)
    errors.push({
      reason: 'FieldValueInvalid',
      field,
      message: `Invalid value: ${JSON.stringify(value)}: must be greater than or equal to ${minimum}`,
    })
    return undefined
  }
  const tailLines = integer('tailLines', 0)
  const limitBytes = integer('limitBytes', 1)
  const sinceSeconds = integer('sinceSeconds', 1)
  const sinceTime = query.get('sinceTime') || undefined
  if (sinceTime !== undefined && Number.isNaN(Date.parse(sinceTime)))
    errors.push({
      reason: 'FieldValueInvalid',
      field: 'sinceTime',
      message: `Invalid value: ${JSON.stringify(sinceTime)}: must be an RFC 3339 time`,
    })
  if (sinceSeconds !== undefined && sinceTime !== undefined)
    errors.push({
      reason: 'FieldValueForbidden',
      field: '',
      message: 'Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified',
    })
  if (errors.length > 0) throw invalid({ group: '', kind: 'PodLogOptions', name: '' }, errors)
  const flag = (name: string) => parseBoolean(query.get(name)) ?? false
  return {
    follow: flag('follow'),
    previous: flag('previous'),
    timestamps: flag('timestamps'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(sinceSeconds === undefined ? {} : { sinceSeconds }),
    ...(sinceTime === undefined ? {} : { sinceTime: new Date(sinceTime).toISOString() }),
  }
}
