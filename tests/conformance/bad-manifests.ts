import type { Json } from './control-plane.ts'

/**
 * Tricks by which manifests elsewhere leave their place, one request each. `docs/bad-manifests.md` tells what becomes of
 * them, and a test keeps it true.
 */
export type Trick = {
  /** What is tried, with the part of the manifest that tries it. */
  title: string
  method: 'POST' | 'PUT' | 'PATCH'
  path: string
  /** JSON, unless `raw` says it in bytes. */
  body?: Json
  raw?: string | Buffer
  type?: string
  /** For what is let in: why nothing comes of it. */
  harmless?: string
}
export type Chapter = { title: string; tricks: Trick[] }

const CORE = '/api/v1/namespaces/default'
const STRICT = '?fieldValidation=Strict'
const IMAGE = 'registry.test/app'
const MERGE = 'application/merge-patch+json'
const STRATEGIC = 'application/strategic-merge-patch+json'
const JSON_PATCH = 'application/json-patch+json'
const APPLY = 'application/apply-patch+yaml'
const YAML = 'application/yaml'

const container = (more: Json = {}): Json => ({ name: 'c', image: IMAGE, ...more })
const podBody = (spec: Json, metadata: Json = {}): Json => ({
  metadata: { name: 'p', ...metadata },
  spec: { containers: [container()], ...spec },
})
const pod = (title: string, spec: Json, harmless?: string): Trick => ({
  title,
  method: 'POST',
  path: `${CORE}/pods${STRICT}`,
  body: podBody(spec),
  ...(harmless === undefined ? {} : { harmless }),
})
const ofContainer = (title: string, more: Json, harmless?: string): Trick =>
  pod(title, { containers: [container(more)] }, harmless)
const secured = (title: string, securityContext: Json, harmless?: string): Trick =>
  ofContainer(title, { securityContext }, harmless)
const volume = (title: string, source: Json): Trick => pod(title, { volumes: [{ name: 'v', ...source }] })
const mounted = (title: string, mount: Json, harmless?: string): Trick =>
  pod(
    title,
    {
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: [container({ volumeMounts: [{ name: 'v', mountPath: '/data', ...mount }] })],
    },
    harmless,
  )
const service = (title: string, spec: Json, harmless?: string): Trick => ({
  title,
  method: 'POST',
  path: `${CORE}/services${STRICT}`,
  body: { metadata: { name: 's' }, spec: { ports: [{ port: 80 }], ...spec } },
  ...(harmless === undefined ? {} : { harmless }),
})
const pathTo = (name: string): Json => ({
  path: '/',
  pathType: 'Prefix',
  backend: { service: { name, port: { number: 80 } } },
})
const ruleFor = (host: string): Json => ({ host, http: { paths: [pathTo('web')] } })
const published = (title: string, spec: Json): Trick => ({
  title,
  method: 'POST',
  path: `/apis/networking.k8s.io/v1/namespaces/default/ingresses${STRICT}`,
  body: { metadata: { name: 'i' }, spec },
})
const raw = (title: string, type: string, text: string | Buffer): Trick => ({
  title,
  method: 'POST',
  path: `${CORE}/pods${STRICT}`,
  type,
  raw: text,
})
const jsonPod = (spec: string): string =>
  `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"${IMAGE}"}],${spec}}}`

const PRIVILEGED = { containers: [container({ securityContext: { privileged: true } })] }
const template = { metadata: { labels: { app: 'x' } }, spec: PRIVILEGED }
const selector = { matchLabels: { app: 'x' } }
const workload = (kind: string, path: string, spec: Json): Trick => ({
  title: `in a ${kind}`,
  method: 'POST',
  path: `${path}${STRICT}`,
  body: { metadata: { name: 'w' }, spec },
})
const APPS = '/apis/apps/v1/namespaces/default'
const BATCH = '/apis/batch/v1/namespaces/default'
const job = { template: { spec: { ...PRIVILEGED, restartPolicy: 'Never' } } }

const patch = (title: string, type: string, body: Json): Trick => ({
  title,
  method: 'PATCH',
  path: `${APPS}/deployments/there?fieldValidation=Strict${type === APPLY ? '&fieldManager=m' : ''}`,
  type,
  body,
})
const notServed = (title: string, path: string): Trick => ({
  title,
  method: 'POST',
  path,
  body: { metadata: { name: 'x' } },
})

const CLAIMS = `/api/v1/namespaces/default/persistentvolumeclaims`
const claim = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } }
const ofStorage = (title: string, path: string, body: Record<string, unknown>): Trick => ({
  title,
  method: 'POST',
  path: `${path}${STRICT}`,
  body: { metadata: { name: 'x' }, ...body },
})

/** The bytes of a protobuf field: a message or text, or a number. */
function field(number: number, value: string | Buffer | number): Buffer {
  if (typeof value === 'number') return Buffer.from([number << 3, value])
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes])
}

/** A Pod as kubectl sends it for some commands: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding */
function protobufPod(...specFields: Buffer[]): Buffer {
  const spec = Buffer.concat([field(2, Buffer.concat([field(1, 'c'), field(2, IMAGE)])), ...specFields])
  const object = Buffer.concat([field(1, field(1, 'p')), field(2, spec)])
  const typeMeta = Buffer.concat([field(1, 'v1'), field(2, 'Pod')])
  return Buffer.concat([Buffer.from('k8s\0'), field(1, typeMeta), field(2, object)])
}
const PROTOBUF = 'application/vnd.kubernetes.protobuf'
const privilegedInProtobuf = field(2, Buffer.concat([field(1, 'd'), field(2, IMAGE), field(15, field(2, 1))]))

export const CHAPTERS: Chapter[] = [
  {
    title: 'Rights of containers',
    tricks: [
      secured('`privileged: true`', { privileged: true }),
      pod('`privileged: true` in an init container', {
        initContainers: [container({ name: 'i', securityContext: { privileged: true } })],
      }),
      pod('`privileged: true` in the last of several containers', {
        containers: [
          container(),
          container({ name: 'b' }),
          container({ name: 'z', securityContext: { privileged: true } }),
        ],
      }),
      secured('`allowPrivilegeEscalation: true`', { allowPrivilegeEscalation: true }),
      secured('`capabilities.add: [SYS_ADMIN]`', { capabilities: { add: ['SYS_ADMIN'] } }),
      secured('`capabilities.add: [ALL]`', { capabilities: { add: ['ALL'] } }),
      secured('`capabilities.add: [NET_RAW]`', { capabilities: { add: ['NET_RAW'] } }),
      secured('a capability in another notation: `CAP_SYS_ADMIN`', {
        capabilities: { add: ['CAP_SYS_ADMIN'] },
      }),
      secured('a capability in small letters: `sys_admin`', { capabilities: { add: ['sys_admin'] } }),
      secured('a bad capability after a good one: `[CHOWN, SYS_PTRACE]`', {
        capabilities: { add: ['CHOWN', 'SYS_PTRACE'] },
      }),
      secured('`procMount: Unmasked`', { procMount: 'Unmasked' }),
      secured('`seccompProfile.type: Unconfined`', { seccompProfile: { type: 'Unconfined' } }),
      secured('`seccompProfile.type: Localhost`', {
        seccompProfile: { type: 'Localhost', localhostProfile: '../x.json' },
      }),
      pod('`seccompProfile.type: Unconfined` for the whole pod', {
        securityContext: { seccompProfile: { type: 'Unconfined' } },
      }),
      secured('`appArmorProfile.type: Unconfined`', { appArmorProfile: { type: 'Unconfined' } }),
      secured('`seLinuxOptions.type: spc_t`', { seLinuxOptions: { type: 'spc_t' } }),
      secured('`windowsOptions.hostProcess: true`', { windowsOptions: { hostProcess: true } }),
      pod('`sysctls`', { securityContext: { sysctls: [{ name: 'kernel.msgmax', value: '1' }] } }),
      secured('a user outside the tenant’s range: `runAsUser: 65536`', { runAsUser: 65_536 }),
      secured('root: `runAsUser: 0`', { runAsUser: 0 }, 'root in a pod is nobody on the machine'),
      ofContainer('a device: `resources.limits[example.com/gpu]`', {
        resources: { limits: { 'example.com/gpu': '1' } },
      }),
      ofContainer('`volumeDevices`', { volumeDevices: [{ name: 'v', devicePath: '/dev/sda' }] }),
    ],
  },
  {
    title: 'Namespaces and ports of the machine',
    tricks: [
      pod('`hostPID: true`', { hostPID: true }),
      pod('`hostIPC: true`', { hostIPC: true }),
      pod('`hostNetwork: true`', { hostNetwork: true }),
      pod('`hostUsers: true`', { hostUsers: true }),
      pod('`shareProcessNamespace: true`', { shareProcessNamespace: true }),
      ofContainer('`hostPort: 80`', { ports: [{ containerPort: 80, hostPort: 80 }] }),
      pod('`hostPort` of an init container’s second port', {
        initContainers: [
          container({ name: 'i', ports: [{ containerPort: 1 }, { containerPort: 2, hostPort: 2 }] }),
        ],
      }),
      ofContainer('`hostIP`', { ports: [{ containerPort: 80, hostIP: '0.0.0.0' }] }),
      pod('`dnsPolicy: ClusterFirstWithHostNet`', { dnsPolicy: 'ClusterFirstWithHostNet' }),
      pod('another runtime: `runtimeClassName: runc`', { runtimeClassName: 'runc' }),
      pod('a node of one’s choice: `nodeName`', { nodeName: 'control-plane' }),
      pod('another scheduler: `schedulerName`', { schedulerName: 'mine' }),
      pod(
        'every taint tolerated: `tolerations: [{operator: Exists}]`',
        { tolerations: [{ operator: 'Exists' }] },
        'there is one virtual node',
      ),
      pod(
        'the platform’s priority: `priorityClassName: system-node-critical`',
        { priorityClassName: 'system-node-critical' },
        'pods of a tenant are not ranked',
      ),
      pod('`ephemeralContainers` in a new pod', { ephemeralContainers: [container({ name: 'e' })] }),
      ofContainer('a probe of the metadata service: `httpGet.host: 169.254.169.254`', {
        livenessProbe: { httpGet: { host: '169.254.169.254', port: 80 } },
      }),
      ofContainer('a hook that calls another host: `preStop.httpGet.host`', {
        lifecycle: { preStop: { httpGet: { host: '10.0.0.1', port: 80 } } },
      }),
      ofContainer('a probe by TCP of another host: `tcpSocket.host`', {
        readinessProbe: { tcpSocket: { host: '127.0.0.1', port: 22 } },
      }),
    ],
  },
  {
    title: 'Files of the machine',
    tricks: [
      volume('`hostPath: /`', { hostPath: { path: '/' } }),
      volume('the socket of a container runtime: `hostPath` of type `Socket`', {
        hostPath: { path: '/run/containerd/containerd.sock', type: 'Socket' },
      }),
      pod('`hostPath` as the second volume', {
        volumes: [
          { name: 'ok', emptyDir: {} },
          { name: 'v', hostPath: { path: '/etc' } },
        ],
      }),
      volume('two sources in one volume: `emptyDir` and `hostPath`', {
        emptyDir: {},
        hostPath: { path: '/' },
      }),
      volume('`nfs`', { nfs: { server: '10.0.0.1', path: '/' } }),
      volume('`csi`', { csi: { driver: 'x' } }),
      volume('`flexVolume`', { flexVolume: { driver: 'x/y' } }),
      volume('`gitRepo`', { gitRepo: { repository: 'https://x.test/y' } }),
      volume('huge pages: `emptyDir.medium: HugePages-2Mi`', { emptyDir: { medium: 'HugePages-2Mi' } }),
      mounted('a path that climbs: `subPath: ../../etc`', { subPath: '../../etc' }),
      mounted('an absolute `subPath`', { subPath: '/etc' }),
      mounted('`subPathExpr` that climbs around a variable', { subPathExpr: '$(UP)/../../etc' }),
      mounted(
        '`subPathExpr` with a variable that climbs',
        { subPathExpr: '$(UP)/etc' },
        'the container does not start once the variable is `..`: the path is looked at when it is whole, and again by the engine',
      ),
      mounted('mounts that spread: `mountPropagation: Bidirectional`', { mountPropagation: 'Bidirectional' }),
      mounted('a mount over `/proc`', { mountPath: '/proc' }),
      mounted('a mount over `/proc` in other words: `/./proc/..//proc/sys`', {
        mountPath: '/./proc/..//proc/sys',
      }),
      mounted('a mount over `/sys/fs/cgroup`', { mountPath: '/sys/fs/cgroup' }),
      volume('a file that climbs: `items[].path: ../x`', {
        configMap: { name: 'm', items: [{ key: 'k', path: '../x' }] },
      }),
      volume('a file that replaces the content’s own link: `items[].path: ..data`', {
        configMap: { name: 'm', items: [{ key: 'k', path: '..data' }] },
      }),
      volume('a set-user-id file: `defaultMode: 04755`', { configMap: { name: 'm', defaultMode: 0o4755 } }),
      ofContainer('`terminationMessagePath: /proc/self/mem`', { terminationMessagePath: '/proc/self/mem' }),
      ofStorage('`hostPath` by way of a PersistentVolume', '/api/v1/persistentvolumes', {
        spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], hostPath: { path: '/' } },
      }),
      ofStorage('a PersistentVolume that names no place', '/api/v1/persistentvolumes', {
        spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'] },
      }),
      ofStorage('a StorageClass with options for the mount', '/apis/storage.k8s.io/v1/storageclasses', {
        provisioner: 'bulkhead.dev/volumes',
        mountOptions: ['suid', 'dev'],
      }),
      ofStorage('a StorageClass with another driver', '/apis/storage.k8s.io/v1/storageclasses', {
        provisioner: 'example.com/driver',
      }),
      ofStorage('a claim on a volume of somebody else: `volumeName`', CLAIMS, {
        spec: { ...claim, volumeName: 'pvc-of-another' },
      }),
      ofStorage('a claim on a device: `volumeMode: Block`', CLAIMS, {
        spec: { ...claim, volumeMode: 'Block' },
      }),
      ofStorage('a claim on a copy of another: `dataSource`', CLAIMS, {
        spec: { ...claim, dataSource: { kind: 'PersistentVolumeClaim', name: 'theirs' } },
      }),
      volume('a claim outside the namespace: `claimName: ../other/x`', {
        persistentVolumeClaim: { claimName: '../other/x' },
      }),
    ],
  },
  {
    title: 'A privileged container, hidden in another kind',
    tricks: [
      workload('Deployment', `${APPS}/deployments`, { selector, template }),
      workload('ReplicaSet', `${APPS}/replicasets`, { selector, template }),
      workload('StatefulSet', `${APPS}/statefulsets`, { selector, template, serviceName: 's' }),
      workload('DaemonSet', `${APPS}/daemonsets`, { selector, template }),
      workload('Job', `${BATCH}/jobs`, job),
      workload('CronJob', `${BATCH}/cronjobs`, { schedule: '* * * * *', jobTemplate: { spec: job } }),
      {
        title: 'in a ControllerRevision, from which a StatefulSet could be rolled back',
        method: 'POST',
        path: `${APPS}/controllerrevisions${STRICT}`,
        body: { metadata: { name: 'w' }, revision: 1, data: { spec: { template } } },
        harmless: 'it holds any data, and what is made of it is judged like what anybody sends',
      },
    ],
  },
  {
    title: 'Sub-resources',
    tricks: [
      {
        title: 'a container added to a pod that runs: `pods/ephemeralcontainers`',
        method: 'PATCH',
        path: `${CORE}/pods/there/ephemeralcontainers`,
        type: STRATEGIC,
        body: {
          spec: { ephemeralContainers: [container({ name: 'e', securityContext: { privileged: true } })] },
        },
      },
      {
        title: 'a pod bound to a node: `pods/binding`',
        method: 'POST',
        path: `${CORE}/pods/there/binding`,
        body: { metadata: { name: 'there' }, target: { kind: 'Node', name: 'control-plane' } },
      },
      { title: '`pods/resize`', method: 'PATCH', path: `${CORE}/pods/there/resize`, type: MERGE, body: {} },
      {
        title: '`pods/proxy` to another program of a machine, by another protocol',
        method: 'POST',
        path: `${CORE}/pods/gopher:there:70/proxy/_`,
        body: {},
      },
      {
        title: '`services/proxy` to an address instead of a service',
        method: 'POST',
        path: `${CORE}/services/http:169.254.169.254:80/proxy/latest/meta-data`,
        body: {},
      },
      {
        title: '`nodes/proxy`, which runs commands in any pod',
        method: 'POST',
        path: '/api/v1/nodes/n/proxy/run',
        body: {},
      },
      {
        title: 'an end that did not happen, so that the pod no longer counts: `pods/status`',
        method: 'PATCH',
        path: `${CORE}/pods/there/status`,
        type: MERGE,
        body: { status: { phase: 'Succeeded' } },
      },
      {
        title: 'another spec by way of the status: `deployments/status`',
        method: 'PATCH',
        path: `${APPS}/deployments/there/status${STRICT}`,
        type: MERGE,
        body: { spec: { template: { spec: { hostNetwork: true } } } },
      },
      {
        title: 'more than a number in `deployments/scale`',
        method: 'PATCH',
        path: `${APPS}/deployments/there/scale${STRICT}`,
        type: MERGE,
        body: { spec: { replicas: 1, template: { spec: PRIVILEGED } } },
      },
      {
        title: 'an eviction of another pod than the URL’s',
        method: 'POST',
        path: `${CORE}/pods/there/eviction`,
        body: {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name: 'other', namespace: 'default' },
        },
      },
    ],
  },
  {
    title: 'Patches',
    tricks: [
      patch('a merge patch', MERGE, { spec: { template: { spec: { hostNetwork: true } } } }),
      patch('a strategic merge patch that finds the container by its name', STRATEGIC, {
        spec: { template: { spec: { containers: [{ name: 'c', securityContext: { privileged: true } }] } } },
      }),
      patch('a strategic merge patch with `$patch: replace`', STRATEGIC, {
        spec: { template: { spec: { $patch: 'replace', hostPID: true, containers: [container()] } } },
      }),
      patch('a JSON patch', JSON_PATCH, [{ op: 'add', path: '/spec/template/spec/hostIPC', value: true }]),
      patch('a JSON patch that moves what is allowed elsewhere', JSON_PATCH, [
        { op: 'copy', from: '/spec/paused', path: '/spec/template/spec/hostNetwork' },
      ]),
      patch('server-side apply', APPLY, {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'there' },
        spec: { template: { spec: { containers: [{ name: 'c', securityContext: { privileged: true } }] } } },
      }),
    ],
  },
  {
    title: 'Spelling',
    tricks: [
      raw(
        'a duplicate key, of which one reader sees the first and another the last',
        'application/json',
        jsonPod('"hostNetwork":false,"hostNetwork":true'),
      ),
      raw(
        'other letter case: `HostNetwork: true`, which some decoders accept',
        'application/json',
        jsonPod('"HostNetwork":true'),
      ),
      raw(
        'a look-alike: `hostNetwоrk` with a Cyrillic о',
        'application/json',
        jsonPod('"hostNetw\u043erk":true'),
      ),
      raw(
        'an invisible letter: `hostNetwork` with a zero-width space',
        'application/json',
        jsonPod('"hostNetwork\u200b":true'),
      ),
      raw('escaped letters: `host\\u004eetwork`', 'application/json', jsonPod('"host\\u004eetwork":true')),
      raw('text for a flag: `hostNetwork: "true"`', 'application/json', jsonPod('"hostNetwork":"true"')),
      raw('a number for a flag: `hostNetwork: 1`', 'application/json', jsonPod('"hostNetwork":1')),
      raw(
        'text for a number: `containerPort: "80"`',
        'application/json',
        `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"${IMAGE}","ports":[{"containerPort":"80"}]}]}}`,
      ),
      raw('`__proto__`', 'application/json', jsonPod('"__proto__":{"hostNetwork":true}')),
      raw('`constructor`', 'application/json', jsonPod('"constructor":{"prototype":{"hostNetwork":true}}')),
      raw(
        'a YAML anchor that repeats what is refused',
        YAML,
        `metadata: {name: p}\nspec:\n  x-base: &c {name: c, image: ${IMAGE}, securityContext: {privileged: true}}\n  containers: [*c]\n`,
      ),
      raw(
        'a YAML merge key',
        YAML,
        `metadata: {name: p}\nspec:\n  containers:\n  - &c {name: c, image: ${IMAGE}}\n  - <<: *c\n    name: d\n    securityContext: {privileged: true}\n`,
      ),
      raw(
        'a YAML tag that makes an object of a program’s class',
        YAML,
        `metadata: {name: p}\nspec: !!python/object:os.system {containers: []}\n`,
      ),
      raw(
        'a duplicate key in YAML',
        YAML,
        `metadata: {name: p}\nspec:\n  hostNetwork: false\n  hostNetwork: true\n  containers: [{name: c, image: ${IMAGE}}]\n`,
      ),
      raw(
        'a second document behind the first',
        YAML,
        `metadata: {name: p}\nspec: {containers: [{name: c, image: ${IMAGE}}]}\n---\nspec: {hostNetwork: true}\n`,
      ),
      raw(
        'aliases that multiply',
        YAML,
        `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n`,
      ),
      raw('protobuf instead of JSON: `hostNetwork`', PROTOBUF, protobufPod(field(11, 1))),
      raw(
        'protobuf instead of JSON: a privileged second container',
        PROTOBUF,
        protobufPod(privilegedInProtobuf),
      ),
      raw(
        'another kind in the body than in the URL',
        'application/json',
        '{"apiVersion":"v1","kind":"Node","metadata":{"name":"p"}}',
      ),
      raw('arrays without end', 'application/json', `${'['.repeat(100_000)}`),
    ],
  },
  {
    title: 'Networks and names',
    tricks: [
      service('`externalIPs`', { externalIPs: ['10.0.0.1'] }),
      service('`type: NodePort`', { type: 'NodePort' }),
      service('`nodePort` of a service inside', { ports: [{ port: 80, nodePort: 30_000 }] }),
      service('`type: LoadBalancer`', { type: 'LoadBalancer' }),
      published('an Ingress for another’s host', { rules: [ruleFor('blue.example.com')] }),
      published('an Ingress for every host', { rules: [{ http: { paths: [pathTo('web')] } }] }),
      published('an Ingress with a `defaultBackend`', {
        defaultBackend: { service: { name: 'web', port: { number: 80 } } },
      }),
      published('an Ingress with a path that climbs', {
        rules: [{ host: 'shop.example.com', http: { paths: [{ ...pathTo('web'), path: '/a/%2e%2e/b' }] } }],
      }),
      published('an Ingress of another class', {
        ingressClassName: 'nginx',
        rules: [ruleFor('shop.example.com')],
      }),
      service('`loadBalancerIP`', { loadBalancerIP: '10.0.0.1' }),
      service('an address of one’s choice outside the range: `clusterIP: 169.254.169.254`', {
        clusterIP: '169.254.169.254',
      }),
      service(
        '`type: ExternalName` with an address',
        { type: 'ExternalName', externalName: '169.254.169.254' },
        'it is a name for pods of the tenant, which reach no such address',
      ),
      {
        title: 'an EndpointSlice that leads to the metadata service',
        method: 'POST',
        path: `/apis/discovery.k8s.io/v1/namespaces/default/endpointslices${STRICT}`,
        body: {
          metadata: { name: 'e', labels: { 'kubernetes.io/service-name': 'there' } },
          addressType: 'IPv4',
          endpoints: [{ addresses: ['169.254.169.254'] }],
          ports: [{ port: 80 }],
        },
      },
      ofContainer('a field of the node: `fieldRef: spec.nodeLabels`', {
        env: [{ name: 'X', valueFrom: { fieldRef: { fieldPath: "node.metadata.labels['x']" } } }],
      }),
      pod(
        'a token for somebody else: `serviceAccountToken.audience`',
        {
          volumes: [
            {
              name: 'v',
              projected: {
                sources: [{ serviceAccountToken: { audience: 'https://cloud.test', path: 'token' } }],
              },
            },
          ],
        },
        'it is signed with the tenant’s own key and says which tenant it is of; our own API refuses it',
      ),
    ],
  },
  {
    title: 'Annotations and labels',
    tricks: [
      {
        title: 'a filter switched off as of old: `seccomp.security.alpha.kubernetes.io/pod: unconfined`',
        method: 'POST',
        path: `${CORE}/pods${STRICT}`,
        body: podBody({}, { annotations: { 'seccomp.security.alpha.kubernetes.io/pod': 'unconfined' } }),
        harmless: 'nothing reads it',
      },
      {
        title: 'a profile switched off: `container.apparmor.security.beta.kubernetes.io/c: unconfined`',
        method: 'POST',
        path: `${CORE}/pods${STRICT}`,
        body: podBody(
          {},
          { annotations: { 'container.apparmor.security.beta.kubernetes.io/c': 'unconfined' } },
        ),
        harmless: 'nothing reads it',
      },
      {
        title:
          'options of a runtime: `run.oci.keep_original_groups`, `io.katacontainers.config.hypervisor.path`',
        method: 'POST',
        path: `${CORE}/pods${STRICT}`,
        body: podBody(
          {},
          {
            annotations: {
              'run.oci.keep_original_groups': '1',
              'io.katacontainers.config.hypervisor.path': '/bin/sh',
            },
          },
        ),
        harmless: 'annotations do not reach the runtime',
      },
      {
        title: 'a pod of the node itself: `kubernetes.io/config.mirror`',
        method: 'POST',
        path: `${CORE}/pods${STRICT}`,
        body: podBody({}, { annotations: { 'kubernetes.io/config.mirror': 'x' } }),
        harmless: 'there are no pods of nodes, and nothing reads it',
      },
      {
        title: 'less security by a label: `pod-security.kubernetes.io/enforce: privileged`',
        method: 'POST',
        path: `/api/v1/namespaces${STRICT}`,
        body: { metadata: { name: 'n', labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } } },
        harmless: 'what the schema refuses is refused at every level',
      },
    ],
  },
  {
    title: 'Images',
    tricks: [
      ofContainer('a registry that the operator did not allow', { image: 'elsewhere.test/app' }),
      ofContainer('a short name, which means Docker Hub', { image: 'nginx' }),
      ofContainer('a host that begins like an allowed one: `registry.test.evil.test/app`', {
        image: 'registry.test.evil.test/app',
      }),
      ofContainer('a user in front of the host: `registry.test@evil.test/app`', {
        image: 'registry.test@evil.test/app',
      }),
      ofContainer('a path that climbs: `registry.test/../evil`', { image: 'registry.test/../evil' }),
      pod('in an init container', {
        initContainers: [container({ name: 'i', image: 'elsewhere.test/app' })],
      }),
    ],
  },
  {
    title: 'Kinds that change the cluster',
    tricks: [
      {
        title: 'a webhook that rewrites what others send',
        method: 'POST',
        path: `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations${STRICT}`,
        body: { metadata: { name: 'x' }, webhooks: [{ name: 'hook.example.com' }] },
      },
      {
        title: 'a webhook that the API server calls wherever it leads',
        method: 'POST',
        path: `/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations${STRICT}`,
        body: { metadata: { name: 'x' }, webhooks: [{ name: 'hook.example.com' }] },
      },
      notServed(
        'an APIService, to which requests are passed on',
        '/apis/apiregistration.k8s.io/v1/apiservices',
      ),
      notServed(
        'a CertificateSigningRequest for a node',
        '/apis/certificates.k8s.io/v1/certificatesigningrequests',
      ),
      notServed('a PodSecurityPolicy', '/apis/policy/v1beta1/podsecuritypolicies'),
      notServed('a RuntimeClass', '/apis/node.k8s.io/v1/runtimeclasses'),
      notServed('a Node', '/api/v1/nodes'),
    ],
  },
]

/** What is there before each trick, for those that change something. */
export const THERE: { path: string; body: Json }[] = [
  { path: `${CORE}/pods`, body: { metadata: { name: 'there' }, spec: { containers: [container()] } } },
  { path: `${CORE}/services`, body: { metadata: { name: 'there' }, spec: { ports: [{ port: 80 }] } } },
  {
    path: `${APPS}/deployments`,
    body: {
      metadata: { name: 'there' },
      spec: { selector, paused: true, template: { ...template, spec: { containers: [container()] } } },
    },
  },
]

export const REGISTRIES = ['registry.test']
export const GRANTED = { hosts: ['shop.example.com'], ports: [] }
