import { type ApiError, type FieldError, invalid } from '../api/index.ts'
import type { AdmissionRequest } from '../policy/index.ts'
import type { Context } from './context.ts'

/** Lets every plugin fill in what Kubernetes promises to fill in. */
export function mutateAdmission({ plugins, cluster }: Context, request: AdmissionRequest): void {
  for (const plugin of plugins) plugin.mutate?.(request, cluster)
}

/**
 * Also adds to `notes` what plugins have to say to the audit log, refused or not.
 * @throws {ApiError} the first refusal in the order of the plugins.
 */
export function refuseAdmission(context: Context, request: AdmissionRequest, notes: string[]): void {
  try {
    refuseAgain(context, request)
  } finally {
    const { plugins, cluster } = context
    notes.push(...plugins.flatMap((plugin) => plugin.auditNotes?.(request, cluster) ?? []))
  }
}

/**
 * Asks the plugins that cannot answer at once about a request that every other one let in. Undefined: there is nothing to wait
 * for. Afterwards: the world may have changed, so `refuseAgain` is called in the same turn as the write.
 */
export function reviewAdmission(
  { plugins, cluster }: Context,
  request: AdmissionRequest,
): Promise<ApiError | undefined> | undefined {
  const asked = plugins.flatMap((plugin) => plugin.review?.(request, cluster) ?? [])
  if (asked.length === 0) return undefined
  return Promise.all(asked).then((answers) => answers.find((answer) => answer !== undefined))
}

/** @throws {ApiError} when a plugin refuses now what it let in before. */
export function refuseAgain({ plugins, cluster }: Context, request: AdmissionRequest): void {
  for (const plugin of plugins) {
    const refusal = plugin.refuse?.(request, cluster)
    if (!refusal) continue
    // Others may find fault with other fields; who mends one of them shall not be told the next only then.
    const problems = refusal.reason === 'Invalid' ? furtherRefusals({ plugins, cluster }, request) : []
    if (problems.length === 0) throw refusal
    const { group, kind, object } = request
    throw invalid({ group, kind, name: object.metadata.name }, problems)
  }
}

/** What the plugins would say about the fields of an object that is refused anyway. */
export function furtherRefusals(
  { plugins, cluster }: Pick<Context, 'plugins' | 'cluster'>,
  request: AdmissionRequest,
): FieldError[] {
  return plugins.flatMap((plugin) => plugin.problems?.(request, cluster) ?? [])
}

/** What the plugins say about what they let in. */
export function admissionWarnings(
  { plugins, cluster }: Pick<Context, 'plugins' | 'cluster'>,
  request: AdmissionRequest,
): string[] {
  return plugins.flatMap((plugin) => plugin.warnings?.(request, cluster) ?? [])
}
