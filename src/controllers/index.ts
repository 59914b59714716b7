// Reconcilers: what makes the world of a control plane be as its objects say.
import { type KindRegistry, type TenantName, VIRTUAL_NODE_NAME } from '../api/index.ts'
import { type ApiClient, EventRecorder, Informers, type KindRef } from '../client/index.ts'
import type { Engine, IngressAddress, JailRuntime } from '../jail/index.ts'
import { type Clock, type Logger, TimerClock } from '../stdx/index.ts'
import type { Controller, ControllerContext } from './controller.ts'
import { platformRegistry, tenantRegistry } from './kinds.ts'
import { CUSTOM_KINDS_SYNC_MS_MAX } from './limits.ts'
import type { NodeAmounts } from './pods/downward-api.ts'
import { IngressController } from './pods/ingress-controller.ts'
import { NetworkController } from './pods/network-controller.ts'
import { PodController } from './pods/pod-controller.ts'
import type { ApiServerAddress } from './pods/service-variables.ts'
import type { IssueToken } from './pods/token-cache.ts'
import { SleepController } from './tenancy/sleep-controller.ts'
import { TenantController, type TenantControllerOptions } from './tenancy/tenant-controller.ts'
import { AutoscalerController } from './workloads/autoscaler/autoscaler-controller.ts'
import { ClaimController } from './workloads/claims/claim-controller.ts'
import { EphemeralVolumeController } from './workloads/claims/ephemeral-controller.ts'
import { CronJobController } from './workloads/cronjob/cronjob-controller.ts'
import { CustomResourceDefinitionController } from './workloads/customresourcedefinition/customresourcedefinition-controller.ts'
import { DaemonSetController } from './workloads/daemonset/daemonset-controller.ts'
import { DeploymentController } from './workloads/deployment/deployment-controller.ts'
import { DisruptionController } from './workloads/disruption/disruption-controller.ts'
import { ApiServiceController } from './workloads/apiservice/apiservice-controller.ts'
import { EndpointSliceController } from './workloads/endpointslice/endpointslice-controller.ts'
import { EndpointSliceMirroringController } from './workloads/endpointslice/mirroring-controller.ts'
import { GarbageCollector } from './workloads/garbage-collector/garbage-collector.ts'
import { NodeController } from './workloads/node/node-controller.ts'
import { JobController } from './workloads/job/job-controller.ts'
import { NamespaceController } from './workloads/namespace/namespace-controller.ts'
import {
  REPLICA_SETS,
  REPLICATION_CONTROLLERS,
  ReplicaSetController,
} from './workloads/replicaset/replicaset-controller.ts'
import { ResourceQuotaController } from './workloads/resourcequota/resourcequota-controller.ts'
import { Scheduler } from './workloads/scheduler/scheduler.ts'
import { ServiceAccountController } from './workloads/serviceaccount/serviceaccount-controller.ts'
import { StatefulSetController } from './workloads/statefulset/statefulset-controller.ts'

export type { ApiServerAddress } from './pods/service-variables.ts'
export { type JailContext, type JailPlan, planJail, type TokenRequest } from './pods/plan-jail.ts'
export { type IssueToken, issueTokensThrough } from './pods/token-cache.ts'
export {
  type DecideIsolation,
  PLACEMENT_FINALIZER,
  type TenantControllerOptions,
} from './tenancy/tenant-controller.ts'
export type { NodeAmounts } from './pods/downward-api.ts'

export const CLUSTER_DOMAIN = 'cluster.local'

export type TenantControllersOptions = {
  /** Weakest runtime for the tenant's pods. */
  runtime: JailRuntime
  /** What pods check the API server by; in every namespace as ConfigMap `kube-root-ca.crt`. */
  caPem: string
  /** Where pods reach the API server; absent when they cannot. */
  apiServer?: ApiServerAddress
  /** Such as `issueTokensThrough(client)`. Absent: no tokens are mounted into pods. */
  issueToken?: IssueToken
  /** What a container without limits may use, for the downward API. */
  node: NodeAmounts
  /** Where the outside comes in; absent when it cannot. */
  frontDoor?: IngressAddress
  /** The kinds served; the tenant registry's when absent. */
  kinds?: readonly KindRef[]
  /** Up to where an earlier life of this control plane heard of the engine's events. */
  heardTo?: number
}

export type Running = {
  /** Resolves when every controller has seen everything there is. */
  readonly started: Promise<void>
  /**
   * When the next of them has something to do by itself, or undefined while one of them is busy. What is due is known to
   * the objects, so that whoever starts after a pause until then misses nothing. Infinity: not before something changes.
   */
  restsUntilMs(): number | undefined
  /** Resolves when nothing of them runs any more. Pods go on. */
  stop(): Promise<void>
}

/** Kinds that have objects of their own: a view of others is followed where those are. */
function stored({ kinds }: KindRegistry): readonly KindRef[] {
  return kinds.filter(({ view, measured }) => !view && !measured)
}

/** Starts everything that runs in a tenant's control plane. Idle, it holds watches and no timers. */
export function startTenantControllers({
  client,
  engine,
  tenant,
  clock,
  log,
  options,
}: {
  client: ApiClient
  engine: Engine
  tenant: TenantName
  clock: Clock
  log: Logger
  options: TenantControllersOptions
}): Running & {
  /** Looks again at how much the tenant may have. */
  shareChanged(): void
  /** Tells again what the tenant publishes: what it may has changed. */
  grantsChanged(): void
  /** Up to where they have heard of the engine's events. */
  heardTo(): number
} {
  const kinds = options.kinds ?? stored(tenantRegistry)
  let ingress: IngressController | undefined
  let lookAtNode = (): void => {}
  let heardTo = (): number => -1
  const running = start({ client, clock, log }, (context) => {
    const node = new NodeController(context, { engine, runtime: options.runtime })
    lookAtNode = () => node.lookAgain()
    if (options.frontDoor) ingress = new IngressController(context, { engine, address: options.frontDoor })
    const network = new NetworkController(context, { engine, onPodsReady: (uids) => pods.lookAgain(uids) })
    const pods = new PodController(context, {
      engine,
      tenant,
      runtime: options.runtime,
      clusterDomain: CLUSTER_DOMAIN,
      apiServer: options.apiServer,
      issueToken: options.issueToken,
      node: options.node,
      networkReady: (uid) => network.ready(uid),
      ...(options.heardTo === undefined ? {} : { heardTo: options.heardTo }),
      onEngineSynced: () => {
        network.tellAgain()
        ingress?.tellAgain()
      },
    })
    heardTo = () => pods.heardTo
    const followers = [
      new NamespaceController(context, { kinds }),
      new GarbageCollector(context, { kinds }),
      new ResourceQuotaController(context, { kinds }),
    ]
    return [
      ...followers,
      new CustomResourceDefinitionController(context, { builtIn: tenantRegistry.kinds, followers }),
      new ServiceAccountController(context, { caPem: options.caPem }),
      new DeploymentController(context),
      new ReplicaSetController(context, REPLICA_SETS),
      new ReplicaSetController(context, REPLICATION_CONTROLLERS),
      new StatefulSetController(context),
      new DaemonSetController(context, { nodeName: VIRTUAL_NODE_NAME }),
      new JobController(context),
      new CronJobController(context),
      new DisruptionController(context),
      new EndpointSliceController(context),
      new EndpointSliceMirroringController(context),
      ...(options.apiServer ? [new ApiServiceController(context)] : []),
      new ClaimController(context, { engine }),
      new EphemeralVolumeController(context),
      node,
      new AutoscalerController(context, { builtIn: tenantRegistry.kinds }),
      new Scheduler(context, { nodeName: VIRTUAL_NODE_NAME, engine }),
      network,
      pods,
      ...(ingress ? [ingress] : []),
    ]
  })
  return {
    ...running,
    heardTo: () => heardTo(),
    shareChanged: () => lookAtNode(),
    grantsChanged: () => ingress?.tellAgain(),
  }
}

/** Starts everything that runs in the platform's control plane. */
export function startPlatformControllers({
  client,
  clock,
  log,
  options,
}: {
  client: ApiClient
  clock: Clock
  log: Logger
  options: TenantControllerOptions & { kinds?: readonly KindRef[] }
}): Running {
  const kinds = options.kinds ?? stored(platformRegistry)
  return start({ client, clock, log }, (context) => [
    new NamespaceController(context, { kinds }),
    new GarbageCollector(context, { kinds }),
    new TenantController(context, options),
    new SleepController(context, options),
  ])
}

function start(
  { client, clock: realClock, log }: { client: ApiClient; clock: Clock; log: Logger },
  make: (context: ControllerContext) => Controller[],
): Running {
  const clock = new TimerClock(realClock)
  const informers = new Informers({ client, clock, log })
  const recorders: EventRecorder[] = []
  const context: ControllerContext = {
    client: informers.client,
    informers,
    clock,
    patientClock: realClock,
    log,
    events: (component) => {
      const recorder = new EventRecorder({ client, clock, log, component })
      recorders.push(recorder)
      return recorder
    },
  }
  const controllers = make(context)
  const stopping = Promise.withResolvers<'stopped'>()
  const begin = async () => {
    if ((await Promise.race([informers.synced(), stopping.promise])) === 'stopped') return
    // Definitions of kinds have told of more to follow; one of them that cannot be read must not stop everything.
    const late = Promise.withResolvers<void>()
    const cancel = clock.after(CUSTOM_KINDS_SYNC_MS_MAX, late.resolve)
    const synced = await Promise.race([informers.synced(), late.promise, stopping.promise])
    cancel()
    if (synced === 'stopped') return
    for (const controller of controllers) controller.start()
    began = true
  }
  let began = false
  return {
    started: begin(),
    restsUntilMs: () =>
      began && controllers.every(({ atRest }) => atRest) && recorders.every(({ atRest }) => atRest)
        ? clock.nextMs
        : undefined,
    stop: async () => {
      stopping.resolve('stopped')
      await Promise.all(controllers.map((controller) => controller.stop()))
      await informers.stop()
      await Promise.all(recorders.map((recorder) => recorder.flush()))
    },
  }
}
