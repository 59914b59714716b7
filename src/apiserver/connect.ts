import { groupVersion, type KubeObject } from '../api/index.ts'
import type { AdmissionRequest } from '../policy/index.ts'
import { admissionWarnings } from './admit.ts'
import type { Context } from './context.ts'
import { addWarnings } from './decode.ts'
import { parseBoolean } from './options.ts'
import { noSuchResource } from './refusals.ts'
import type { ResourceRequest, Target } from './request.ts'

/**
 * Asks the policies whether a connection to a pod may be opened, with what the client asks for as the object. It is asked
 * before the pod is looked up, so a no tells nothing about what is there. Adds to `asked` what they warn of, and what they have
 * to say to the audit log.
 * @throws {ApiError} the first refusal.
 */
export async function admitConnection(
  context: Pick<Context, 'plugins' | 'cluster'>,
  asked: Pick<ResourceRequest, 'user' | 'query' | 'path' | 'warnings' | 'auditNotes'>,
  target: Target,
): Promise<void> {
  const { plugins, cluster } = context
  const { user, query, path } = asked
  const { definition, subresource, namespace, name } = target
  const kind = subresource?.kind
  if (!subresource || !kind) throw noSuchResource()
  const { group, version, plural } = definition
  const object = {
    kind: kind.kind,
    apiVersion: groupVersion(kind),
    ...(path.rest === undefined ? connectOptions(kind.kind, query) : { path: path.rest }),
  }
  const request: AdmissionRequest = {
    operation: 'CONNECT',
    user,
    group,
    version,
    kind: kind.kind,
    resource: plural,
    subresource: subresource.name,
    namespace,
    name,
    object: object as unknown as KubeObject, // Options have no metadata; plugins that judge connections know.
    dryRun: false,
  }
  try {
    for (const plugin of plugins) {
      const refusal = await plugin.connect?.(request, cluster)
      if (refusal) throw refusal
    }
    addWarnings(asked.warnings, admissionWarnings(context, request))
  } finally {
    asked.auditNotes.push(...plugins.flatMap((plugin) => plugin.auditNotes?.(request, cluster) ?? []))
  }
}

function connectOptions(kind: string, query: URLSearchParams): Record<string, unknown> {
  if (kind === 'PodPortForwardOptions') {
    const ports = query
      .getAll('ports')
      .flatMap((text) => text.split(','))
      .map(Number)
    return ports.length > 0 ? { ports: ports.filter((port) => Number.isInteger(port)) } : {}
  }
  const flags = ['stdin', 'stdout', 'stderr', 'tty'].filter((flag) => parseBoolean(query.get(flag)))
  const container = query.get('container')
  const command = query.getAll('command')
  return {
    ...Object.fromEntries(flags.map((flag) => [flag, true])),
    ...(container ? { container } : {}),
    ...(command.length > 0 ? { command } : {}),
  }
}
