/** Short ways to write the manifests that tests apply. Everything not named is left to the defaults. */

export type Manifest = {
  apiVersion: string
  kind: string
  metadata: Record<string, unknown>
  [field: string]: unknown
}

type ContainerOptions = {
  name?: string
  image: string
  /** Run by `sh -c`. */
  script?: string
  [field: string]: unknown
}

export function container({ name = 'main', script, ...rest }: ContainerOptions): Record<string, unknown> {
  return { name, ...(script === undefined ? {} : { command: ['sh', '-c', script] }), ...rest }
}

type PodOptions = { name: string; labels?: Record<string, string>; spec?: Record<string, unknown> }

/** A pod with one container. `spec` adds to, or replaces, fields of the pod's spec. */
export function pod({
  name,
  labels,
  spec = {},
  ...main
}: PodOptions & Omit<ContainerOptions, 'name'>): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, ...(labels ? { labels } : {}) },
    spec: { terminationGracePeriodSeconds: 1, containers: [container(main as ContainerOptions)], ...spec },
  }
}

export function deployment({
  name,
  replicas = 1,
  spec = {},
  ...main
}: PodOptions & { replicas?: number } & Omit<ContainerOptions, 'name'>): Manifest {
  const labels = { app: name }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, labels },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [container(main as ContainerOptions)],
          ...spec,
        },
      },
    },
  }
}

export function configMap(name: string, data: Record<string, string>): Manifest {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data }
}

export function secret(name: string, stringData: Record<string, string>): Manifest {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData }
}

export function service(
  name: string,
  app: string,
  port: number,
  spec: Record<string, unknown> = {},
): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { selector: { app }, ports: [{ port }], ...spec },
  }
}
