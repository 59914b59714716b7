import type { LabelSelector } from '../meta.ts'
import type { KubeObject } from '../meta.ts'
import type { TypedColumn } from './define-kind.ts'
import type { Container } from './pod-schema.ts'

/** Cells as `kubectl get` shows them. */

export const nameColumn = {
  name: 'Name',
  type: 'string',
  format: 'name',
  description: 'Unique among objects of its kind in its namespace.',
  cell: (object: KubeObject) => object.metadata.name,
} as const satisfies TypedColumn<KubeObject>

export const ageColumn = {
  name: 'Age',
  type: 'string',
  description: 'Time since the server stored it first.',
  cell: (object: KubeObject, nowMs: number) => renderSince(object.metadata.creationTimestamp, nowMs),
} as const satisfies TypedColumn<KubeObject>

export const createdAtColumn = {
  name: 'Created At',
  type: 'date',
  description: 'When the server stored it first.',
  cell: (object: KubeObject) => object.metadata.creationTimestamp,
} as const satisfies TypedColumn<KubeObject>

export function column<T extends KubeObject>(
  name: string,
  description: string,
  cell: (object: T, nowMs: number) => string | number | null,
  options: { priority?: 1; type?: 'string' | 'integer'; format?: string } = {},
): TypedColumn<T> {
  return { name, type: 'string', description, cell, ...options }
}

/** Like `5m30s` or `3d4h`: two units at most, and only where the second one matters. */
export function renderDuration(ms: number): string {
  const seconds = Math.floor(ms / 1_000)
  // Clocks of client and server may disagree by a moment.
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 10) return withRest(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 8) return withRest(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.floor(hours / 24)
  if (hours < 24 * 8) return withRest(days, 'd', hours % 24, 'h')
  if (hours < 24 * 365 * 2) return `${days}d`
  const years = Math.floor(days / 365)
  if (hours < 24 * 365 * 8) return withRest(years, 'y', days % 365, 'd')
  return `${years}y`
}

function withRest(value: number, unit: string, rest: number, restUnit: string): string {
  return rest === 0 ? `${value}${unit}` : `${value}${unit}${rest}${restUnit}`
}

/** How long ago an RFC 3339 time was. */
export function renderSince(timestamp: string | undefined, nowMs: number): string {
  const at = timestamp ? Date.parse(timestamp) : Number.NaN
  return Number.isNaN(at) ? '<unknown>' : renderDuration(nowMs - at)
}

/** `a=b,c in (d,e)`; `<none>` for a selector that is absent or selects everything. */
export function renderSelector(selector: LabelSelector | undefined): string {
  if (!selector) return '<none>'
  const equal = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`)
  const others = (selector.matchExpressions ?? []).map(({ key, operator, values = [] }) => {
    switch (operator) {
      case 'In':
        return `${key} in (${[...values].sort().join(',')})`
      case 'NotIn':
        return `${key} notin (${[...values].sort().join(',')})`
      case 'Exists':
        return key
      case 'DoesNotExist':
        return `!${key}`
      default:
        operator satisfies never
        return ''
    }
  })
  return [...equal, ...others].sort().join(',') || '<none>'
}

export function renderMap(map: Readonly<Record<string, string>> | undefined): string {
  const pairs = Object.entries(map ?? {}).map(([key, value]) => `${key}=${value}`)
  return pairs.sort().join(',') || '<none>'
}

export const renderContainerNames = (containers: readonly Container[] | undefined) =>
  (containers ?? []).map((c) => c.name).join(',')
export const renderContainerImages = (containers: readonly Container[] | undefined) =>
  (containers ?? []).map((c) => c.image ?? '').join(',')
