import type { Container, PodSpec } from './pod-schema.ts'
import type { Pod } from './pod.ts'

/** Defaults of pods that depend on other fields, as upstream gives them. */

/** Of a pod and of a pod template. Changes `spec`. */
export function applyPodSpecDefaults(spec: PodSpec): void {
  for (const container of spec.initContainers ?? []) applyContainerDefaults(container)
  for (const container of spec.containers ?? []) applyContainerDefaults(container)
  for (const volume of spec.volumes ?? []) {
    const { name: _, ...sources } = volume
    if (Object.keys(sources).length === 0) volume.emptyDir = {}
  }
  // Two names of one field: whoever reads either finds it.
  const account = spec.serviceAccountName || spec.serviceAccount
  if (account) {
    spec.serviceAccountName = account
    spec.serviceAccount = account
  }
}

function applyContainerDefaults(container: Container): void {
  container.imagePullPolicy ??= imageTag(container.image ?? '') === 'latest' ? 'Always' : 'IfNotPresent'
}

/** The tag that an image reference asks for: `latest` when it says nothing, "" when it names a digest only. */
export function imageTag(image: string): string {
  const digestAt = image.indexOf('@')
  const name = digestAt < 0 ? image : image.slice(0, digestAt)
  const colon = name.lastIndexOf(':')
  // A colon before the last slash belongs to a registry's port.
  if (colon > name.lastIndexOf('/')) return name.slice(colon + 1)
  return digestAt < 0 ? 'latest' : ''
}

/** What only a pod gets, and a template does not. */
export function applyPodDefaults(pod: Pod): Pod {
  if (!pod.spec) return pod
  applyPodSpecDefaults(pod.spec)
  pod.spec.enableServiceLinks ??= true
  for (const container of [...(pod.spec.initContainers ?? []), ...(pod.spec.containers ?? [])]) {
    const limits = container.resources?.limits
    if (!limits) continue
    const requests = { ...container.resources?.requests }
    for (const [resource, limit] of Object.entries(limits)) {
      if (!Object.hasOwn(requests, resource)) requests[resource] = limit
    }
    if (Object.keys(requests).length > 0) container.resources = { ...container.resources, requests }
  }
  return pod
}
