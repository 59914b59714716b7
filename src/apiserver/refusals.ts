import { ApiError } from '../api/index.ts'

export function noSuchResource(): ApiError {
  return new ApiError('NotFound', 'the server could not find the requested resource', { details: {} })
}

export function methodNotAllowed(): ApiError {
  return new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {
    details: {},
  })
}

/** What upstream has beside ValidatingAdmissionPolicies; undefined for what nobody has. */
const UNSERVED_ADMISSION: ReadonlyMap<string, string> = new Map([
  ['validatingwebhookconfigurations', 'control planes call no webhooks: write a ValidatingAdmissionPolicy'],
  [
    'mutatingwebhookconfigurations',
    'control planes call no webhooks and store what was written: write the fields into the manifest, and a ValidatingAdmissionPolicy to require them',
  ],
  [
    'mutatingadmissionpolicies',
    'control planes store what was written: write the fields into the manifest, and a ValidatingAdmissionPolicy to require them',
  ],
])

export function unservedAdmission(resource: string): ApiError | undefined {
  const why = UNSERVED_ADMISSION.get(resource)
  return why === undefined
    ? undefined
    : new ApiError('NotFound', `the server could not find the requested resource: ${why}`, { details: {} })
}
