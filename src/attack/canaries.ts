import { WORK_MIB } from './limits.ts'
import { CANARY_PORT, INTRUDER, type Party } from './party.ts'

/** Puts the tenant's canary wherever a tenant keeps things, and, if pods are wanted, starts the two pods of an attack. */
export async function plantCanaries(party: Party, { pods }: { pods: boolean }): Promise<void> {
  const { canaries } = party
  const { namespace, value } = canaries
  const base = `/api/v1/namespaces/${namespace}`
  await party.create('/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: namespace, annotations: { canary: value } },
  })
  const metadata = (name: string) => ({
    name,
    namespace,
    labels: { canary: value },
    annotations: { canary: value },
  })
  await party.create(`${base}/secrets`, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadata(canaries.secret),
    stringData: { canary: value },
  })
  await party.create(`${base}/configmaps`, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: metadata(canaries.configMap),
    data: { canary: value },
  })
  await party.create(`${base}/serviceaccounts`, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: metadata('canary'),
  })
  const service = await party.create<{ spec: { clusterIP: string } }>(`${base}/services`, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(canaries.service),
    spec: { selector: { app: 'canary' }, ports: [{ port: CANARY_PORT, targetPort: CANARY_PORT }] },
  })
  canaries.clusterIP = service.spec.clusterIP
  if (!pods) return
  for (const pod of [canaryPod(party), intruderPod(party)]) await party.create(`${base}/pods`, pod)
  const seen = await party.untilReady(namespace, canaries.pod)
  if (seen.status.podIP !== undefined) canaries.podIP = seen.status.podIP
  await party.untilReady(namespace, INTRUDER)
}

/** Holds the canary in its environment, in files, in memory, in its log, and says it to whoever asks on its port. */
function canaryPod({ image, canaries }: Party): object {
  const { namespace, value, secret } = canaries
  const script = [
    `mkdir -p /tmp/www && echo ${value} > /tmp/www/index.html && echo ${value} > /work/file`,
    `echo ${value}`,
    `exec httpd -f -p ${CANARY_PORT} -h /tmp/www`,
  ].join('\n')
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: canaries.pod, namespace, labels: { app: 'canary' } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'main',
          image,
          command: ['sh', '-c', script],
          env: [{ name: 'CANARY', value }],
          volumeMounts: [
            { name: 'work', mountPath: '/work' },
            { name: 'secret', mountPath: '/secret', readOnly: true },
          ],
          resources: { limits: { cpu: '200m', memory: '64Mi' }, requests: { cpu: '10m', memory: '16Mi' } },
        },
      ],
      volumes: [
        { name: 'work', emptyDir: {} },
        { name: 'secret', secret: { secretName: secret } },
      ],
    },
  }
}

const WORK = { sizeLimit: `${WORK_MIB}Mi` }

/** Where the attacker's programs run: an ordinary pod whose root does what it can. */
function intruderPod({ image, canaries }: Party): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: INTRUDER, namespace: canaries.namespace, labels: { app: INTRUDER } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'main',
          image,
          command: ['sh', '-c', 'trap exit TERM; sleep 86400 & wait'],
          volumeMounts: [{ name: 'work', mountPath: '/work' }],
          resources: { limits: { cpu: '1', memory: '256Mi' }, requests: { cpu: '10m', memory: '32Mi' } },
        },
      ],
      volumes: [{ name: 'work', emptyDir: WORK }],
    },
  }
}
