import { isDeepStrictEqual } from 'node:util'
import {
  egressPortText,
  type FieldError,
  forbiddenField,
  type Ingress,
  INGRESS_CLASS_NAME,
  invalid,
  isHostGranted,
  type Service,
} from '../../api/index.ts'
import type { TenantLimits } from '../quota.ts'
import type { AdmissionPlugin, AdmissionRequest } from './admission.ts'

type Granted = NonNullable<TenantLimits['ingress']>

/**
 * Hosts and ports are the operator's to give, and whoever writes an Ingress or a Service is told at once. The front door
 * asks the operator's list again at every request. `granted` is undefined where nobody has said.
 */
export function ingressGrants(granted: () => Granted | undefined): AdmissionPlugin {
  const problems = (request: AdmissionRequest): FieldError[] => {
    const grants = granted()
    const { operation, subresource, user, old, object } = request
    if (!grants || operation === 'DELETE' || subresource !== undefined || user.kind === 'component') return []
    // What was taken away since is no reason to refuse another change; the front door does not serve it.
    if (old && isDeepStrictEqual(old['spec'], object['spec'])) return []
    if (isIngress(request)) return hostErrors(object as Ingress, grants)
    return request.group === '' && request.resource === 'services'
      ? portErrors(object as Service, grants)
      : []
  }
  return {
    name: 'IngressGrants',
    mutate(request) {
      const { operation, subresource, object } = request
      if (operation !== 'CREATE' || subresource !== undefined || !isIngress(request)) return
      const { spec, metadata } = object as Ingress
      // As upstream's DefaultIngressClass: who names a class in the old way is left alone.
      if (metadata.annotations?.['kubernetes.io/ingress.class'] === undefined)
        spec.ingressClassName ??= INGRESS_CLASS_NAME
    },
    problems,
    refuse(request) {
      const { group, kind, name } = request
      const errors = problems(request)
      return errors.length > 0 ? invalid({ group, kind, name }, errors) : undefined
    },
  }
}

function isIngress({ group, resource }: AdmissionRequest): boolean {
  return group === 'networking.k8s.io' && resource === 'ingresses'
}

function hostErrors({ spec: { rules = [], tls = [] } }: Ingress, { hosts }: Granted): FieldError[] {
  const named = [
    ...rules.map(({ host }, at) => ({ path: `spec.rules[${at}].host`, host })),
    ...tls.flatMap((each, at) =>
      (each.hosts ?? []).map((host, n) => ({ path: `spec.tls[${at}].hosts[${n}]`, host })),
    ),
  ]
  return named.flatMap(({ path, host }) =>
    host === undefined || isHostGranted(hosts, host)
      ? []
      : [
          forbiddenField(
            path,
            `the host "${host}" was not granted to this tenant (vector: pod network). Instead: ${
              hosts.length > 0
                ? `use ${hosts.join(', ')}, or ask the operator for it (spec.ingress.hosts of the Tenant)`
                : 'ask the operator for it (spec.ingress.hosts of the Tenant); this tenant has none'
            }`,
          ),
        ],
  )
}

function portErrors({ spec }: Service, { ports }: Granted): FieldError[] {
  if (spec.type !== 'LoadBalancer') return []
  return (spec.ports ?? []).flatMap(({ port, protocol = 'TCP' }, at) =>
    ports.some((range) => range.protocol === protocol && range.port <= port && port <= range.endPort)
      ? []
      : [
          forbiddenField(
            `spec.ports[${at}].port`,
            `the port ${port}${protocol === 'TCP' ? '' : `/${protocol}`} of the front door was not granted to this tenant (vector: pod network). Instead: ${
              ports.length > 0
                ? `use ${ports.map(egressPortText).join(', ')}, or ask the operator for it (spec.ingress.ports of the Tenant)`
                : 'ask the operator for it (spec.ingress.ports of the Tenant), or write ClusterIP'
            }`,
          ),
        ],
  )
}
