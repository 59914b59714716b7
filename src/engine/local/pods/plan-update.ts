import { invalid, type FieldError } from '../../../api/index.ts'
import type { Jail, JailContainer, JailVolume } from '../../../jail/index.ts'

export type JailUpdate = {
  /** The jail from now on. */
  jail: Jail
  /** What was asked for and is left as it was when the pod started. */
  kept: string[]
}

/**
 * What a pod that exists takes over from a jail that differs from its own; the rule is told at `Engine.ensure`. Pure.
 * @throws {ApiError} Invalid when it is another pod's jail.
 */
export function planUpdate(before: Jail, wanted: Jail): JailUpdate {
  requireSamePod(before, wanted)
  const containers = (list: 'initContainers' | 'containers') =>
    before[list].map((own, index) => updatedContainer(own, wanted[list][index] ?? own))
  const { activeDeadlineSeconds: _, labels: _old, ...rest } = before
  const jail: Jail = {
    ...rest,
    ...(wanted.activeDeadlineSeconds === undefined
      ? {}
      : { activeDeadlineSeconds: wanted.activeDeadlineSeconds }),
    ...(wanted.labels === undefined ? {} : { labels: wanted.labels }),
    initContainers: containers('initContainers'),
    containers: containers('containers'),
    volumes: before.volumes.map((own) => updatedVolume(own, wanted.volumes)),
  }
  return { jail, kept: differences(jail, wanted) }
}

function updatedContainer(own: JailContainer, wanted: JailContainer): JailContainer {
  const updated: JailContainer = { ...own, image: wanted.image, env: wanted.env }
  for (const field of ['command', 'args'] as const) {
    delete updated[field]
    if (wanted[field]) updated[field] = wanted[field]
  }
  return updated
}

function updatedVolume(own: JailVolume, wanted: readonly JailVolume[]): JailVolume {
  const other = wanted.find((volume) => volume.name === own.name)
  return own.kind === 'files' && other?.kind === 'files' ? other : own
}

function requireSamePod(before: Jail, wanted: Jail): void {
  const errors: FieldError[] = []
  const mayNotChange = (field: string) =>
    errors.push({ reason: 'FieldValueForbidden', field, message: 'may not change while the pod exists' })
  for (const field of ['tenant', 'namespace', 'pod'] as const)
    if (before[field] !== wanted[field]) mayNotChange(field)
  for (const list of ['initContainers', 'containers'] as const) {
    const shape = (jail: Jail) => JSON.stringify(jail[list].map((c) => [c.name, c.restartPolicy ?? null]))
    if (shape(before) !== shape(wanted)) mayNotChange(list)
  }
  for (const [index, volume] of wanted.volumes.entries()) {
    const own = before.volumes.find((v) => v.name === volume.name)
    if (own && mediumOf(own) !== mediumOf(volume)) mayNotChange(`volumes[${index}].kind`)
  }
  if (errors.length > 0) throw invalid({ group: '', kind: 'Pod', name: wanted.pod }, errors)
}

function mediumOf(volume: JailVolume): string {
  if (volume.kind === 'claim') return `claim ${volume.claim}`
  return volume.kind === 'files' ? 'files' : volume.medium
}

/** The fields in which two jails of one pod differ, down to those of a container. */
function differences(a: Jail, b: Jail): string[] {
  const differ = (left: object, right: object, path: string): string[] =>
    [...new Set([...Object.keys(left), ...Object.keys(right)])]
      .filter(
        (field) =>
          JSON.stringify(left[field as keyof typeof left]) !==
          JSON.stringify(right[field as keyof typeof right]),
      )
      .map((field) => path + field)
  const { initContainers: _1, containers: _2, ...restA } = a
  const { initContainers: _3, containers: _4, ...restB } = b
  return [
    ...differ(restA, restB, ''),
    ...(['initContainers', 'containers'] as const).flatMap((list) =>
      a[list].flatMap((container, index) => differ(container, b[list][index] ?? {}, `${list}[${index}].`)),
    ),
  ]
}
