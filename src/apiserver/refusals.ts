import type { ResourcePath } from './route.ts'
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
  [
    'mutatingadmissionpolicies',
    'control planes store what was written: write the fields into the manifest, and a ValidatingAdmissionPolicy to require them',
  ],
])

/** What pods have elsewhere and not here, by sub-resource. */
const UNSERVED_OF_PODS: ReadonlyMap<string, string> = new Map([
  [
    'ephemeralcontainers',
    'containers cannot be added to a pod that runs. Instead: use kubectl exec, or kubectl debug --copy-to=NAME --share-processes=false',
  ],
  [
    'resize',
    'what a pod may use is fixed when it is made. Instead: change the template and let its pods be replaced',
  ],
  ['binding', 'the platform places pods. Instead: leave it to the platform'],
])

/** The reason why something that clients know from elsewhere is not served, as NotFound; undefined when there is none. */
export function unserved({
  group,
  resource,
  subresource,
}: Pick<ResourcePath, 'group' | 'resource' | 'subresource'>): ApiError | undefined {
  let why: string | undefined
  if (group === 'admissionregistration.k8s.io') why = UNSERVED_ADMISSION.get(resource)
  else if (group === '' && subresource !== undefined && resource === 'pods')
    why = UNSERVED_OF_PODS.get(subresource)
  return why === undefined
    ? undefined
    : new ApiError('NotFound', `the server could not find the requested resource: ${why}`, { details: {} })
}
