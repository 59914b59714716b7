import { parseQuantity, type Pod } from '../api/index.ts'

type Resources = { limits?: Record<string, string>; requests?: Record<string, string> } | undefined
export type Side = 'requests' | 'limits'

/** What a container asks for of a resource, in billionths; undefined when it does not say. */
export function amountOf(resources: Resources, side: Side, resource: string): bigint | undefined {
  const amounts = resources?.[side]
  const text = amounts && Object.hasOwn(amounts, resource) ? amounts[resource] : undefined
  return text === undefined ? undefined : parseQuantity(text).nanos
}

/**
 * What a whole pod asks for: its containers and sidecars together, or its largest init container with the sidecars
 * before it, whichever is more.
 */
export function podAmount({ spec }: Pod, side: Side, resource: string): bigint {
  let running = 0n
  let sidecars = 0n
  let starting = 0n
  for (const container of spec.containers) running += amountOf(container.resources, side, resource) ?? 0n
  for (const container of spec.initContainers ?? []) {
    const amount = amountOf(container.resources, side, resource) ?? 0n
    if (container.restartPolicy === 'Always') {
      running += amount
      sidecars += amount
    }
    const use = container.restartPolicy === 'Always' ? sidecars : sidecars + amount
    if (use > starting) starting = use
  }
  return running > starting ? running : starting
}
