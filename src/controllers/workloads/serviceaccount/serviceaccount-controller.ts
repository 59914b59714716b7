import { ensureCreated, type Informer, type ReconcileResult } from '../../../client/index.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type ConfigMap,
  configMapKind,
  type Namespace,
  namespaceKind,
  type ServiceAccount,
  serviceAccountKind,
} from '../../kinds.ts'

export const ROOT_CA_CONFIG_MAP = 'kube-root-ca.crt'
const DEFAULT_ACCOUNT = 'default'

/** Gives every namespace its `default` service account and the certificate authority that pods check the API server by. */
export class ServiceAccountController extends QueueController {
  private readonly namespaces: Informer<Namespace>
  private readonly accounts: Informer<ServiceAccount>
  private readonly configMaps: Informer<ConfigMap>
  private readonly caPem: string

  constructor(context: ControllerContext, { caPem }: { caPem: string }) {
    super('serviceaccount', context)
    this.caPem = caPem
    this.namespaces = this.follow(namespaceKind, ({ key }) => [key])
    this.accounts = this.follow(serviceAccountKind, ({ old, object }) =>
      (object ?? old).metadata.name === DEFAULT_ACCOUNT
        ? [`/${(object ?? old).metadata.namespace ?? ''}`]
        : [],
    )
    this.configMaps = this.follow(configMapKind, ({ old, object }) =>
      (object ?? old).metadata.name === ROOT_CA_CONFIG_MAP
        ? [`/${(object ?? old).metadata.namespace ?? ''}`]
        : [],
    )
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const found = this.namespaces.get(key)
    if (!found || found.metadata.deletionTimestamp) return undefined
    const namespace = found.metadata.name
    const { client } = this.context
    if (!this.accounts.find({ namespace, name: DEFAULT_ACCOUNT }))
      await ensureCreated(() =>
        client.create(serviceAccountKind, {
          apiVersion: 'v1',
          kind: 'ServiceAccount',
          metadata: { name: DEFAULT_ACCOUNT, namespace },
        }),
      )
    const data = { 'ca.crt': this.caPem }
    const current = this.configMaps.find({ namespace, name: ROOT_CA_CONFIG_MAP })
    if (!current)
      await ensureCreated(() =>
        client.create(configMapKind, {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: {
            name: ROOT_CA_CONFIG_MAP,
            namespace,
            annotations: {
              'kubernetes.io/description':
                'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints.',
            },
          },
          data,
        }),
      )
    else if (current.data?.['ca.crt'] !== this.caPem || Object.keys(current.data).length !== 1)
      await client.update(configMapKind, { ...current, data })
    return undefined
  }
}
