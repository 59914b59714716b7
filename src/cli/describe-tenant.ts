import { wrapped } from './table.ts'
import type { TenantView } from './tenants.ts'

const LABEL_CHARS = 14

/** Everything that an operator wants to know about one tenant, in lines that fit a terminal. */
export function renderTenant({ metadata, spec, status = {} }: TenantView): string {
  const amounts = (all: Record<string, string | number> = {}) =>
    Object.entries(all).map(([what, amount]) => `${what} ${amount}`)
  const quota = amounts(spec.quota)
  const { placement } = status
  const rows: [string, string | readonly string[] | undefined][] = [
    ['Name', metadata.name],
    ['UID', metadata.uid],
    ['Created', metadata.creationTimestamp],
    ['Trust', spec.trust],
    ['Code', spec.code],
    ['Sensitivity', spec.sensitivity],
    ['Noisy', spec.noisy === true ? 'true' : undefined],
    ['Registries', spec.registries?.length ? spec.registries : 'none, so it can run no image'],
    ['Pod security', spec.podSecurity && `${spec.podSecurity.enforce} in every namespace, or stricter`],
    ['Hosts', spec.ingress?.hosts?.length ? spec.ingress.hosts : undefined],
    ['Ports', spec.ingress?.ports?.length ? spec.ingress.ports.map(String) : undefined],
    ['Quota', quota.length > 0 ? quota : "the platform's own limits"],
    ['Bandwidth', amounts(spec.network?.bandwidth)],
    ['Disk', amounts(spec.disk)],
    ['Phase', metadata.deletionTimestamp === undefined ? (status.phase ?? 'Pending') : 'Terminating'],
    ['Class', status.isolationClass],
    ['Reasons', status.reasons],
    ['Server', status.server],
    ['API', status.controlPlane?.toLowerCase()],
    [
      'Placement',
      placement && [
        `index ${placement.index}`,
        `root in its pods is user ${placement.podUidBase}`,
        `its control plane runs as user ${placement.controlPlaneUser}`,
      ],
    ],
    ...(status.conditions ?? []).map(({ type, status: value, reason, message }): [string, string] => [
      type,
      `${value}${reason === undefined ? '' : ` (${reason})`}${message ? `: ${message}` : ''}`,
    ]),
  ]
  return rows
    .flatMap(([label, value]) => {
      if (value === undefined) return []
      const entries = typeof value === 'string' ? [value] : value
      return entries
        .flatMap((entry) => wrapped(entry, LABEL_CHARS))
        .map((line, i) => `${(i === 0 ? `${label}:` : '').padEnd(LABEL_CHARS)}${line}`)
    })
    .join('\n')
}
