/**
 * What becomes of upstream's conformance tests here. The first rule one of whose words is part of a test's name decides.
 * `supported` only where a test of ours shows the behaviour. What upstream's own tests said is in `upstream/`.
 */

/** A file and the words that one of its tests is named with. */
export type Shown = readonly [file: string, test: string]
export type Verdict =
  | { names: readonly string[]; supported: readonly Shown[] }
  | { names: readonly string[]; refused: string }
  | { names: readonly string[]; missing: string }

/**
 * What some of the supported tests make use of on their way, which is refused here: as they are written they would fail,
 * though what they are about is there.
 */
export const NEEDED: readonly { names: readonly string[]; what: string }[] = [
  { names: ['capture the life of a service'], what: 'a Service of type NodePort' },
  { names: ['service status lifecycle'], what: 'a class of load balancers of the test’s own' },
  { names: ['Should recreate evicted statefulset'], what: 'a port of the machine' },
  { names: ['poststart http hook', 'prestop http hook'], what: 'a hook that asks another pod' },
  { names: ['retry creating failed daemon pods'], what: 'a pod’s phase that the test makes up' },
  { names: ['KubeletManagedEtcHosts'], what: 'a pod in the machine’s network' },
  {
    names: [
      'basic preemption works',
      'preemption by critical pod',
      'disruption condition is added to the preempted pod',
      'PreemptionExecutionPath',
    ],
    what: 'an amount that the test adds to the node',
  },
]

const EVERY_KIND: Shown = [
  'tests/conformance/every-kind.test.ts',
  'every verb and every mistake is answered as Kubernetes answers it',
]
const RECORDED: Shown = [
  'tests/conformance/recorded-answers.test.ts',
  'every recorded request is answered as kube-apiserver answered it',
]
const behaviour = (test: string): Shown => ['tests/conformance/kubernetes-behaviour.test.ts', test]
const kubectl = (test: string): Shown => ['tests/conformance/kubectl.test.ts', test]
const controllers = (test: string): Shown => ['src/controllers/controllers.test.ts', test]
const workload = (kind: string, test: string): Shown => [
  `src/controllers/workloads/${kind}/plan.test.ts`,
  test,
]
const custom = (test: string): Shown => ['src/apiserver/custom-kinds.test.ts', test]
const customJourney = (test: string): Shown => ['tests/journeys/custom-resources.test.ts', test]
const policies = (test: string): Shown => ['src/apiserver/admission-policies.test.ts', test]
const server = (test: string): Shown => ['src/apiserver/api-server.test.ts', test]
const discovery = (test: string): Shown => ['src/apiserver/discovery/discovery.test.ts', test]
const streams = (test: string): Shown => ['src/apiserver/streams/streams.test.ts', test]
const engine = (test: string): Shown => ['src/engine/local/local-engine.test.ts', test]
const host = (test: string): Shown => ['src/engine/local/host/container-host.test.ts', test]
const jail = (test: string): Shown => ['src/controllers/pods/plan-jail.test.ts', test]
const pods = (test: string): Shown => ['src/controllers/pods/pod-controller.test.ts', test]
const network = (test: string): Shown => ['tests/isolation/network.test.ts', test]
const sets = (test: string): Shown => ['tests/journeys/sets.test.ts', test]
const quota = (test: string): Shown => ['tests/journeys/quota.test.ts', test]
const preemption = (test: string): Shown => ['tests/journeys/preemption.test.ts', test]
const rollouts = (test: string): Shown => ['tests/journeys/rollouts.test.ts', test]
const realPods = (test: string): Shown => ['tests/conformance/pods.test.ts', test]
const realJobs = (test: string): Shown => ['tests/journeys/jobs.test.ts', test]
const cron = (test: string): Shown => workload('cronjob', test)

const CONTAINERS = [
  jail('a pod that uses nearly everything becomes exactly this jail'),
  host('a container runs, writes, leaves a last word and ends with its own exit code'),
]
const FILES = [
  jail('a pod that uses nearly everything becomes exactly this jail'),
  host('files of a volume appear, are read-only, and change all at once'),
]

export const VERDICTS: readonly Verdict[] = [
  {
    names: ['AdmissionWebhook', 'CustomResourceConversionWebhook'],
    refused:
      'a webhook would let a tenant’s program hold up or change what the control plane does; ValidatingAdmissionPolicies and CEL rules are there instead',
  },
  {
    names: ['Aggregator Should'],
    refused:
      'an aggregated API server would answer in the control plane’s name; CustomResourceDefinitions are there instead',
  },
  {
    names: ['API priority and fairness'],
    refused: 'fairness between tenants is the platform’s, and no tenant may change it',
  },
  {
    names: ['NodePort', 'HostPort', 'same hostPort'],
    refused: 'ports of the machine are shared by all tenants',
  },
  {
    names: ['node-pod communication', 'NoExecuteTaintManager', 'two untainted nodes', 'Node Lifecycle'],
    refused:
      'tenants see one node that stands for their share of the machine, and no network, taint or login of it',
  },
  {
    names: ['Certificates API'],
    refused: 'certificates for tenants come from the platform’s own authority',
  },
  {
    names: [
      'CSIInlineVolumes',
      'CSINodes',
      'CSIStorageCapacity',
      'VolumeAttachment',
      'StorageClasses CSI',
      'PersistentVolumes CSI',
    ],
    refused:
      'volumes are made by the platform from claims; drivers and volumes made by hand would reach the machine',
  },
  {
    names: [
      'RuntimeClass should reject a Pod requesting a deleted',
      'RuntimeClass should reject a Pod requesting a non-existent',
    ],
    supported: [['tests/conformance/bad-manifests.test.ts', 'each trick is refused with a reason']],
  },
  {
    names: ['RuntimeClass'],
    refused: 'the runtime follows from who the tenant is; a tenant must not choose a weaker one',
  },
  {
    names: ['should support sysctls', 'should reject invalid sysctls'],
    refused: 'settings of the kernel are shared by all tenants',
  },
  {
    names: ['Ephemeral Containers'],
    missing: 'a container cannot be added to a pod that runs; the request is refused with what to do instead',
  },
  {
    names: ['Proxy server should'],
    supported: [kubectl('serves the API to programs of this machine')],
  },
  {
    names: ['Proxy version v1'],
    missing:
      'requests are passed on, but not the methods HEAD and OPTIONS; no redirects come back, and links in HTML stay as they are',
  },
  {
    names: ['retrieving logs from the container over websockets'],
    supported: [server('a log goes over a WebSocket as well')],
  },
  { names: ['Ingress API'], supported: [EVERY_KIND] },
  {
    names: ['IngressClass API'],
    refused: 'the platform decides which ways in there are',
  },
  {
    names: ['EndpointSliceMirroring'],
    supported: [controllers('Endpoints written by hand become slices as long as')],
  },
  {
    names: ['Service endpoints latency'],
    supported: [['tests/journeys/controllers.test.ts', 'two hundred services that come one after the other']],
  },
  {
    names: ['preemption by critical pod', 'PreemptionExecutionPath'],
    supported: [
      preemption('a pod of a class of the system makes a less important one'),
      preemption('ReplicaSets of several classes'),
    ],
  },
  {
    names: ['pod disruption condition is added to the preempted pod'],
    supported: [
      [
        'src/controllers/workloads/scheduler/scheduler.test.ts',
        'a more important pod makes the least important ones go, gracefully',
      ],
    ],
  },
  {
    names: ['SchedulerPreemption', 'PriorityClass endpoints'],
    supported: [
      [
        'tests/journeys/scheduling.test.ts',
        'a more important pod gets the room of a less important one of the same tenant',
      ],
      EVERY_KIND,
    ],
  },
  {
    names: ['SchedulerPredicates'],
    supported: [
      ['tests/journeys/scheduling.test.ts', 'a pod that asks for another node stays pending'],
      ['tests/journeys/scheduling.test.ts', 'pods beyond what the machine has wait with the reason'],
    ],
  },

  // The API server.
  {
    names: ['AggregatedDiscovery'],
    supported: [
      discovery('aggregated discovery names every resource once'),
      custom('discovery and OpenAPI change with a definition'),
    ],
  },
  {
    names: ['] Discovery should'],
    supported: [
      discovery('legacy discovery says the same in more answers'),
      discovery('versions are ordered as Kubernetes orders them'),
    ],
  },
  { names: ['server version'], supported: [kubectl('learns what there is')] },
  {
    names: ['CustomResourceFieldSelectors'],
    supported: [
      customJourney('its objects are applied, read, explained and shown like those of built-in kinds'),
    ],
  },
  {
    names: ['CustomResourcePublishOpenAPI'],
    supported: [
      custom('discovery and OpenAPI change with a definition'),
      customJourney('its objects are applied, read, explained and shown like those of built-in kinds'),
    ],
  },
  {
    names: ['CustomResourceDefinition'],
    supported: [
      EVERY_KIND,
      customJourney('it is patched, scaled, labelled, reported on and applied by the server'),
      custom('an object is shown as every version'),
    ],
  },
  {
    names: ['FieldValidation should'],
    supported: [
      ['src/apiserver/refusals.test.ts', 'what is only unreadable, or only unknown'],
      RECORDED,
      customJourney('what the schema forbids is refused in the words of Kubernetes'),
    ],
  },
  {
    names: [
      'delete RS created by deployment when not orphaning',
      'delete pods created by rc when not orphaning',
    ],
    supported: [controllers('background deletion of a deployment takes ReplicaSets and pods with it')],
  },
  {
    names: ['orphan RS created by deployment', 'orphan pods created by rc'],
    supported: [controllers('orphaning leaves the pods running')],
  },
  {
    names: ['keep the rc around until all its pods are deleted'],
    supported: [controllers('foreground deletion keeps the owner until the last pod is gone')],
  },
  {
    names: ['not delete dependents that have both valid owner'],
    supported: [controllers('what has an owner that waits for it, and one that stays')],
  },
  {
    names: ['dependency circle'],
    supported: [controllers('owners in a circle are deleted with each other')],
  },
  {
    names: ['Namespaces [Serial] should ensure that all'],
    supported: [controllers('deleting a namespace deletes everything in it')],
  },
  {
    names: ['Namespaces [Serial]'],
    supported: [behaviour('a namespace is updated, patched, reported on and kept by finalizers')],
  },
  {
    names: ['ResourceQuota should verify ResourceQuota with terminating'],
    supported: [quota('scopes tell pods with a deadline from others')],
  },
  {
    names: ['ResourceQuota should verify ResourceQuota with best effort'],
    supported: [quota('many at once get no more than is left')],
  },
  {
    names: [
      'ResourceQuota should apply',
      'be able to update and delete ResourceQuota',
      'lifecycle of a ResourceQuota',
    ],
    supported: [EVERY_KIND],
  },
  {
    names: ['ResourceQuota should create'],
    supported: [quota('objects are counted by kind'), quota('a pod must say what it takes')],
  },
  { names: ['should return chunks of results'], supported: [server('the pages of a list show one moment')] },
  {
    names: ['continue listing from the last key'],
    supported: [server('a watch, a list or a page of a forgotten revision says so')],
  },
  { names: ['Table transformation'], supported: [behaviour('what has no metadata is no table')] },
  { names: ['ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support'], supported: [EVERY_KIND] },
  {
    names: [
      'ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow',
      'ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate',
    ],
    supported: [
      policies('match conditions, variables, parameters and messages work together'),
      policies('what a policy forbids is denied'),
    ],
  },
  {
    names: ['if it stops meeting the requirements', 'Watchers should observe an object deletion'],
    supported: [server('a watch tells what begins and stops to match its selector')],
  },
  {
    names: ['Watchers should'],
    supported: [behaviour('watches that run at the same time hear everything in one order')],
  },

  // Workloads.
  {
    names: ['ControllerRevision'],
    supported: [EVERY_KIND, sets('its image is changed, its history shown, and the change undone')],
  },
  { names: ['CronJob should support CronJob API'], supported: [EVERY_KIND] },
  {
    names: ['CronJob should not schedule jobs when suspended'],
    supported: [cron('nothing is started while it is suspended')],
  },
  {
    names: ['CronJob should'],
    supported: [
      cron('a job that is not done is let be, waited for or replaced'),
      ['tests/journeys/cronjobs.test.ts', 'a job runs at its hour'],
    ],
  },
  {
    names: ['list and delete a collection of DaemonSets', 'changes to a daemon set status'],
    supported: [EVERY_KIND],
  },
  {
    names: ['retry creating failed daemon pods', 'complex daemon'],
    supported: [rollouts('a pod of a DaemonSet that has failed is replaced, and one that no node wants')],
  },
  {
    names: ['Daemon set [Serial]'],
    supported: [
      sets('a DaemonSet has one pod, which is replaced when its template changes'),
      workload('daemonset', 'the node has one pod; its successor comes when it is gone'),
    ],
  },
  {
    names: ['working scale subresource', 'ReplicationController scale'],
    supported: [server('the scale of a workload is read and written through its own kind'), EVERY_KIND],
  },
  {
    names: ['RecreateDeployment'],
    supported: [controllers('a recreate deployment starts no new pod before the last old one is gone')],
  },
  {
    names: ['should support rollover'],
    supported: [rollouts('a rollout that cannot succeed is passed over by the next one')],
  },
  {
    names: ['RollingUpdateDeployment'],
    supported: [
      controllers('a rolling update never has too many pods'),
      controllers('an image change rolls out'),
    ],
  },
  {
    names: ['should delete old replica sets'],
    supported: [workload('deployment', 'old ReplicaSets beyond the history limit are deleted')],
  },
  {
    names: ['proportional scaling'],
    supported: [rollouts('a resize in the middle of a rollout is spread over the old pods and the new')],
  },
  {
    names: ['lifecycle of a Deployment', 'Deployment Status endpoints'],
    supported: [
      EVERY_KIND,
      ['tests/journeys/controllers.test.ts', 'an application is applied and its rollout awaited'],
    ],
  },
  {
    names: ['block an eviction until'],
    supported: [
      ['tests/journeys/disruption.test.ts', 'a budget lets as many pods be evicted as it can spare'],
    ],
  },
  {
    names: ['DisruptionController'],
    supported: [EVERY_KIND, ['tests/journeys/disruption.test.ts', 'a pod that does not run is no loss']],
  },
  {
    names: ['ignore failure matching on DisruptionTarget'],
    supported: [realJobs('a pod that was evicted does not count where a rule says so')],
  },
  {
    names: ['not count the failure towards the backoffLimit', 'pod failure policy'],
    supported: [realJobs('an exit code ends the whole job at once')],
  },
  {
    names: ['Job should adopt matching orphans'],
    supported: [controllers('a job adopts a pod that nobody has')],
  },
  { names: ['lifecycle of a job', 'apply changes to a job status', 'delete a job'], supported: [EVERY_KIND] },
  {
    names: ['Indexed job'],
    supported: [
      ['tests/journeys/cronjobs.test.ts', 'each index of an Indexed Job is done once'],
      realJobs('each index fails on its own, is tried as often as it may be'),
    ],
  },
  { names: ['locally restarted'], supported: [realJobs('failures that a container gets over on its own')] },
  {
    names: ['ReplicaSet should adopt'],
    supported: [controllers('a ReplicaSet adopts a pod that fits and lets go')],
  },
  {
    names: ['ReplicationController should adopt', 'ReplicationController should release'],
    supported: [controllers('a ReplicationController keeps its pods, adopts what fits')],
  },
  {
    names: ['ReplicationController should surface a failure'],
    supported: [controllers('a refused pod shows in events and conditions')],
  },
  {
    names: [
      'lifecycle of a ReplicationController',
      'Replace and Patch tests',
      'collection of ReplicaSets',
      'Replicaset Status endpoints',
    ],
    supported: [EVERY_KIND],
  },
  {
    names: ['should serve a basic image on each replica'],
    supported: [['tests/journeys/demo-application.test.ts', 'the shop comes up']],
  },
  {
    names: ['list, patch and delete a collection of StatefulSets', 'Statefulset Status endpoints'],
    supported: [EVERY_KIND],
  },
  {
    names: ['Burst scaling'],
    supported: [rollouts('with Parallel the pods of a StatefulSet come and go at once')],
  },
  {
    names: ['Scaling should happen in predictable order'],
    supported: [rollouts('a StatefulSet grows and shrinks in order, and halts')],
  },
  {
    names: ['Should recreate evicted statefulset'],
    supported: [workload('statefulset', 'a pod that has ended is deleted, and made again once it is gone')],
  },
  { names: ['canary updates'], supported: [sets('a partition holds pods back')] },
  {
    names: ['StatefulSetBasic] should perform rolling updates'],
    supported: [sets('its image is changed, its history shown, and the change undone')],
  },

  // Accounts and kubectl.
  {
    names: ['ServiceAccountIssuerDiscovery'],
    supported: [
      ['tests/isolation/pod-gateway.test.ts', 'who issues a token, and with which keys, a pod finds'],
    ],
  },
  {
    names: ['opting out of API token automount'],
    supported: [jail('a token is mounted unless the pod, or else its service account, says no')],
  },
  {
    names: ['serviceAccountToken and ensure', 'SubjectReview'],
    supported: [behaviour('an account is reviewed by its token')],
  },
  {
    names: ['kube-root-ca.crt'],
    supported: [controllers('every namespace has a default service account and the authority')],
  },
  {
    names: ['mount an API token', 'mount projected service account token'],
    supported: [
      pods('a token is renewed before it ends'),
      ['tests/isolation/pod-gateway.test.ts', 'each tenant reaches its own API under every name'],
    ],
  },
  { names: ['lifecycle of a ServiceAccount', 'update a ServiceAccount'], supported: [EVERY_KIND] },
  {
    names: ['Guestbook application'],
    supported: [['tests/journeys/demo-application.test.ts', 'the shop comes up']],
  },
  {
    names: ['api-versions', 'cluster-info', 'version should check is all data'],
    supported: [kubectl('learns what there is')],
  },
  {
    names: ['kubectl diff', 'server-side dry-run'],
    supported: [kubectl('applies on the client side and on the server side, diffs')],
  },
  {
    names: ['Kubectl label', 'Kubectl patch', 'Kubectl replace'],
    supported: [kubectl('changes objects in every way')],
  },
  {
    names: ['Kubectl run pod'],
    supported: [['tests/journeys/demo-application.test.ts', 'the shop comes up']],
  },
  {
    names: ['Kubectl describe', 'Kubectl expose', 'Update Demo'],
    supported: [
      [
        'tests/journeys/controllers.test.ts',
        'a ReplicationController is scaled and described, and its events are shown',
      ],
    ],
  },
  {
    names: ['Kubectl logs logs'],
    supported: [
      host('logs can be followed to the end, cut to the last lines or to some bytes'),
      server('logs stream from the engine'),
    ],
  },
  {
    names: ['Events API'],
    supported: [
      EVERY_KIND,
      ['src/apiserver/event-views.test.ts', 'an event of events.k8s.io says who reports what'],
    ],
  },
  { names: ['[sig-instrumentation] Events should'], supported: [EVERY_KIND] },

  // Network.
  {
    names: ['/etc/hosts', 'write entries to /etc/hosts', 'managed /etc/hosts'],
    supported: [['src/engine/local/plan/oci/pod-files.test.ts', 'hosts has the pod and its aliases']],
  },
  {
    names: ['configurable pod DNS'],
    supported: [
      [
        'src/engine/local/plan/oci/pod-files.test.ts',
        'resolv.conf names the tenant’s resolver unless the pod brought its own',
      ],
    ],
  },
  {
    names: ['DNS should'],
    supported: [
      [
        'src/engine/local/dns/resolver.test.ts',
        'queries get the answers that the Kubernetes DNS specification asks for',
      ],
      network('each tenant resolves its own names'),
    ],
  },
  {
    names: ['pointing to API Server', 'secure master service'],
    supported: [['tests/isolation/pod-gateway.test.ts', 'each tenant reaches its own API under every name']],
  },
  {
    names: [
      'support creating EndpointSlice API',
      'lifecycle of an Endpoint',
      'service status lifecycle',
      'delete a collection of services',
    ],
    supported: [EVERY_KIND],
  },
  {
    names: ['EndpointSlice should'],
    supported: [controllers('a service gets slices and endpoints of its ready pods')],
  },
  {
    names: ['intra-pod communication'],
    supported: [network('pods of one tenant reach each other over tcp, udp and icmp')],
  },
  {
    names: ['change the type from', 'find a service from listing'],
    supported: [behaviour('a service changes from an address to a name and back')],
  },
  { names: ['session affinity'], supported: [network('session affinity keeps a client with one pod')] },
  {
    names: ['Services should serve'],
    supported: [
      network('a service address balances over its tenant'),
      controllers('a service gets slices and endpoints of its ready pods'),
    ],
  },

  // Nodes: pods and their containers.
  {
    names: ['empty key', 'empty secret key', 'should be immutable'],
    supported: [behaviour('immutable means immutable, and empty keys are refused')],
  },
  {
    names: ['ConfigMap lifecycle', 'Secrets should patch', 'PodTemplates should', 'lease API'],
    supported: [EVERY_KIND],
  },
  {
    names: ['consumable via environment variable', 'consumable via the environment', 'from pods in env vars'],
    supported: CONTAINERS,
  },
  { names: ['poststart'], supported: [realPods('hooks are carried out after the start and before the end')] },
  {
    names: ['prestop', 'PreStop'],
    supported: [realPods('hooks are carried out after the start and before the end')],
  },
  {
    names: ['report termination message'],
    supported: [realPods('what they leave as their last words depends on the policy')],
  },
  {
    names: ['should run with the expected status'],
    supported: [realPods('restart policies decide what phase a pod is in')],
  },
  {
    names: ['Containers should'],
    supported: [['src/engine/local/plan/oci/process.test.ts', 'command and args replace entrypoint and cmd']],
  },
  {
    names: ['Downward API should'],
    supported: [realPods('a container knows its pod, its amounts, and those of the node')],
  },
  {
    names: ['InitContainer'],
    supported: [realPods('they run one after the other before the others')],
  },
  { names: ['print the output to logs'], supported: [host('logs can be followed to the end')] },
  {
    names: ['always fails in a pod should be possible to delete'],
    supported: [realPods('a command that always fails tells why')],
  },
  {
    names: ['should have an terminated reason'],
    supported: [realPods('a command that always fails tells why')],
  },
  {
    names: ['read only busybox', 'readOnlyRootFilesystem'],
    supported: [host('the root file system is writable for a container of its own, or read-only when asked')],
  },
  {
    names: [
      'QOS Class',
      'patch a pod status',
      'lifecycle of Pods',
      'Pods should be updated',
      'collection of pods',
    ],
    supported: [behaviour('a pod is listed, patched, reported on'), EVERY_KIND],
  },
  {
    names: ['activeDeadlineSeconds'],
    supported: [realPods('a pod that has run out of time fails, also when its deadline comes later')],
  },
  {
    names: ['Pods should be submitted and removed'],
    supported: [pods('deleting a pod gives its jail the grace period')],
  },
  {
    names: ['environment variables for services'],
    supported: [jail('only services that were there when the pod was made become variables')],
  },
  {
    names: ['get a host IP'],
    supported: [realPods('a container knows its pod, its amounts, and those of the node')],
  },
  {
    names: ['remote command execution over websockets'],
    supported: [streams('exec over v5 carries stdin'), streams('the oldest protocol has output only')],
  },
  {
    names: ['monotonically increasing restart count'],
    supported: [engine('a crashing container is restarted at once')],
  },
  { names: ['readiness probe'], supported: [engine('readiness follows its thresholds')] },
  {
    names: ['GRPC liveness'],
    supported: [['src/engine/local/pods/prober.test.ts', 'a gRPC health service is asked by its name']],
  },
  {
    names: ['tcp:8080 liveness'],
    supported: [['src/engine/local/pods/prober.test.ts', 'a TCP port that listens is well']],
  },
  {
    names: ['liveness probe'],
    supported: [
      engine('liveness that fails three times kills and restarts the container'),
      ['tests/journeys/demo-application.test.ts', 'probes decide who is ready and who is restarted'],
    ],
  },
  {
    names: ['RunAsUser', 'runAsUser'],
    supported: [['src/engine/local/plan/oci/user.test.ts', 'runAsUser wins over the image']],
  },
  {
    names: ['as unprivileged when false', 'not allow privilege escalation'],
    supported: [host('the process seen from outside has what was promised and no more')],
  },
  {
    names: [
      'absolute path',
      'backticks',
      'failing subpath expansion',
      'values in a volume subpath',
      'writing subpaths',
    ],
    supported: [
      realPods('they are replaced, and what a container writes there'),
      realPods('a path that leaves the volume starts nothing'),
      realPods('a pod that waits for a variable starts once it has a value'),
    ],
  },
  {
    names: ['Variable Expansion'],
    supported: [realPods('a container knows its pod, its amounts, and those of the node')],
  },
  { names: ['LimitRange'], supported: [quota('a range fills in what a pod leaves open'), EVERY_KIND] },

  // Storage.
  { names: ['different secret existing with same name'], supported: FILES },
  {
    names: ['updates should be reflected in volume', 'annotations on modification', 'labels on modification'],
    supported: [realPods('changes of ConfigMaps and Secrets reach a pod that runs')],
  },
  { names: ['fsGroup'], supported: [['tests/journeys/stock-images.test.ts', 'fsGroup owns volumes']] },
  {
    names: [
      '[sig-storage] ConfigMap',
      '[sig-storage] Secrets',
      '[sig-storage] Downward API volume',
      '[sig-storage] Projected',
    ],
    supported: FILES,
  },
  {
    names: ['EmptyDir volumes', 'EmptyDir wrapper'],
    supported: [
      realPods('modes and owners of an emptyDir are as upstream’s'),
      host('a memory volume is full at its limit'),
    ],
  },
  {
    names: ['Subpath Atomic'],
    supported: [realPods('a sub-path of a ConfigMap, Secret or projected volume is one file')],
  },
]
