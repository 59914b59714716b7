import { type Pod, type Status, badRequest } from '../api/index.ts'
import { RevisionConflict } from '../store/index.ts'
import { type Context, objectKey, renderTime } from './context.ts'
import { decodePart, decodeRequestBody } from './decode.ts'
import { deleteObject } from './delete.ts'
import { takeDisruption } from './disruption-budget.ts'
import { cloneJson } from './json.ts'
import { parseWriteOptions } from './options.ts'
import { readStored } from './read.ts'
import { methodNotAllowed } from './refusals.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'
import { writeStored } from './storing.ts'

/** POST of policy/v1 Eviction: a delete of the pod with the options that came along, if its budget allows it. */
export async function evictPod(
  context: Context,
  request: ResourceRequest,
  target: Target,
): Promise<ApiResult> {
  const schema = target.subresource?.schema
  if (!schema) throw methodNotAllowed()
  const options = parseWriteOptions('CreateOptions', request.query)
  const eviction = decodePart({
    schema,
    kind: 'Eviction',
    version: 'v1',
    decoded: decodeRequestBody(await request.readBody(), 'Eviction'),
    fieldValidation: options.fieldValidation,
    warnings: request.warnings,
  }) as { metadata?: { name?: string }; deleteOptions?: Record<string, unknown> }
  const named = eviction.metadata?.name
  if (named !== undefined && named !== target.name)
    throw badRequest(`name in URL does not match name in Eviction object: ${named} != ${target.name}`)
  const { object: pod } = readStored(context, target)
  await takeDisruption(context, pod, { dryRun: options.dryRun })
  // A precondition is about the pod as it was.
  if (!options.dryRun && eviction.deleteOptions?.['preconditions'] === undefined)
    await markDisrupted(context, target)
  await deleteObject(
    context,
    {
      ...request,
      query: options.dryRun ? new URLSearchParams({ dryRun: 'All' }) : new URLSearchParams(),
      readBody: async () =>
        eviction.deleteOptions && {
          kind: 'value',
          contentType: 'application/json',
          value: { ...eviction.deleteOptions, ...(options.dryRun ? { dryRun: ['All'] } : {}) },
        },
    },
    target,
  )
  const status: Status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }
  return { kind: 'status', status }
}

/** Lets policies of jobs tell an eviction from a failure of the program. */
async function markDisrupted(context: Context, target: Target): Promise<void> {
  const stored = readStored(context, target)
  const pod = stored.object as Pod // evictions are a subresource of pods
  const { conditions = [], ...status } = pod.status ?? {}
  if (conditions.some(({ type }) => type === 'DisruptionTarget')) return
  const condition = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'EvictionByEvictionAPI',
    message: 'Eviction API: evicting',
    lastTransitionTime: renderTime(context.clock.nowMs()),
  }
  const marked = { ...cloneJson(pod), status: { ...status, conditions: [...conditions, condition] } }
  try {
    await writeStored(context, target.definition, marked, stored)
  } catch (error) {
    // Its status changed at this moment. It goes all the same, only without saying why.
    if (!(error instanceof RevisionConflict)) throw error
    await context.store.settled(objectKey(target.definition, target.namespace, target.name))
  }
}
