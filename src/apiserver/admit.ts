import type { FieldError } from '../api/index.ts'
import type { AdmissionRequest } from '../policy/index.ts'
import type { Context } from './context.ts'

/** Lets every plugin fill in what Kubernetes promises to fill in. */
export function mutateAdmission({ plugins, cluster }: Context, request: AdmissionRequest): void {
  for (const plugin of plugins) plugin.mutate?.(request, cluster)
}

/** @throws {ApiError} the first refusal in the order of the plugins. */
export function refuseAdmission({ plugins, cluster }: Context, request: AdmissionRequest): void {
  for (const plugin of plugins) {
    const refusal = plugin.refuse?.(request, cluster)
    if (refusal) throw refusal
  }
}

/** What the plugins would say about the fields of an object that is refused anyway. */
export function furtherRefusals({ plugins, cluster }: Context, request: AdmissionRequest): FieldError[] {
  return plugins.flatMap((plugin) => plugin.problems?.(request, cluster) ?? [])
}
