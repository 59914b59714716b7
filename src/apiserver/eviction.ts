import { type Status, badRequest } from '../api/index.ts'
import type { Context } from './context.ts'
import { decodePart, decodeRequestBody } from './decode.ts'
import { deleteObject } from './delete.ts'
import { takeDisruption } from './disruption-budget.ts'
import { parseWriteOptions } from './options.ts'
import { readStored } from './read.ts'
import { methodNotAllowed } from './refusals.ts'
import type { ApiResult, ResourceRequest, Target } from './request.ts'

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
