import type { Service } from '../kinds.ts'

/** The API server as the pods reach it. */
export type ApiServerAddress = { host: string; port: number }

type Named = {
  name: string
  host: string
  ports: readonly { name?: string; port: number; protocol: string }[]
}

/**
 * The variables by which programs of the days before DNS find services, for services of the pod's own namespace.
 * https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 */
export function serviceVariables(
  services: readonly Service[],
  apiServer: ApiServerAddress | undefined,
): Map<string, string> {
  const variables = new Map<string, string>()
  for (const service of services.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const { clusterIP, ports = [] } = service.spec
    if (!clusterIP || clusterIP === 'None' || ports.length === 0) continue
    add(variables, {
      name: service.metadata.name,
      host: clusterIP,
      ports: ports.map(({ name, port, protocol = 'TCP' }) => ({ ...(name ? { name } : {}), port, protocol })),
    })
  }
  if (apiServer)
    add(variables, {
      name: 'kubernetes',
      host: apiServer.host,
      ports: [{ name: 'https', port: apiServer.port, protocol: 'TCP' }],
    })
  return variables
}

function add(variables: Map<string, string>, { name, host, ports }: Named): void {
  const prefix = variableName(name)
  const [first] = ports
  if (!first) return
  variables.set(`${prefix}_SERVICE_HOST`, host)
  variables.set(`${prefix}_SERVICE_PORT`, String(first.port))
  for (const port of ports)
    if (port.name) variables.set(`${prefix}_SERVICE_PORT_${variableName(port.name)}`, String(port.port))
  variables.set(`${prefix}_PORT`, urlOf(host, first))
  for (const port of ports) {
    const link = `${prefix}_PORT_${port.port}_${port.protocol}`
    variables.set(link, urlOf(host, port))
    variables.set(`${link}_PROTO`, port.protocol.toLowerCase())
    variables.set(`${link}_PORT`, String(port.port))
    variables.set(`${link}_ADDR`, host)
  }
}

function urlOf(host: string, { port, protocol }: { port: number; protocol: string }): string {
  return `${protocol.toLowerCase()}://${host.includes(':') ? `[${host}]` : host}:${port}`
}

function variableName(name: string): string {
  return name.toUpperCase().replaceAll('-', '_')
}
