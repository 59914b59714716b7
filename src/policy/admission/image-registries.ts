import { isDeepStrictEqual } from 'node:util'
import {
  type FieldError,
  forbiddenField,
  invalid,
  invalidValue,
  isRegistryAllowed,
  parseReference,
} from '../../api/index.ts'
import { containersOf, podTemplateOf } from '../pod-templates.ts'
import type { AdmissionPlugin, AdmissionRequest } from './admission.ts'

/**
 * Images come from the registries that the operator lists, and whoever writes a workload is told so at once. The engine
 * looks again when it pulls. What could not be an image at all is refused everywhere. `allowed` is undefined where nobody has said which.
 */
export function imageRegistries(allowed: () => readonly string[] | undefined): AdmissionPlugin {
  const problems = (request: AdmissionRequest): FieldError[] => imageErrors(request, allowed())
  return {
    name: 'ImageRegistries',
    problems,
    refuse(request) {
      const { group, kind, name } = request
      const errors = problems(request)
      return errors.length > 0 ? invalid({ group, kind, name }, errors) : undefined
    },
  }
}

function imageErrors(request: AdmissionRequest, registries: readonly string[] | undefined): FieldError[] {
  const { operation, subresource, user, object, old } = request
  if (operation === 'DELETE' || subresource !== undefined) return []
  // Pods of a template of before are the engine's to refuse: where a registry was taken away, the pod says so.
  if (user.kind === 'component') return []
  const pod = podTemplateOf(request, object)
  if (!pod || (old && isDeepStrictEqual(podTemplateOf(request, old)?.spec, pod.spec))) return []
  return containersOf(pod.spec).flatMap(({ path, container: { image } }) => {
    const at = `${pod.path}.${path}.image`
    if (!image) return []
    try {
      const reference = parseReference(image)
      if (registries === undefined || isRegistryAllowed(reference, registries)) return []
      const whole = `${reference.registry}/${reference.repository}`
      const instead =
        registries.length > 0
          ? `use an image from ${registries.join(', ')}`
          : 'ask the operator to allow a registry; this tenant has none'
      return [
        forbiddenField(
          at,
          `${whole} is not in a registry that this tenant may use (vector: images and image cache). Instead: ${instead}`,
        ),
      ]
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      return [invalidValue(at, image, error.message)]
    }
  })
}
