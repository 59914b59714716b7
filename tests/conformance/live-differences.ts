/**
 * Where our documents differ from those of kube-apiserver 1.36: in which answers, in which fields, and why. The list may
 * only shrink. Codes and reasons are the same everywhere.
 */
type LiveDifference = { why: string; request: RegExp; path: RegExp }

const ANY = /^/
const of = (plural: string) => new RegExp(`/${plural}[/? ]`)
const named = (...names: string[]) => new RegExp(`\\((${names.join('|')})\\)$`)
/** Of an object, also in a list and in a row. */
const field = (path: string) => new RegExp(`^(items\\[\\]\\.|rows\\[\\]\\.object\\.)?${path}$`)

const WORDS = /^message$|^details\.causes\[\]\.message$/

export const LIVE_DIFFERENCES: readonly LiveDifference[] = [
  {
    why: 'Our words are those of 1.32, which newer versions changed; both say the same.',
    request: named('create as another kind', 'get as something else'),
    path: WORDS,
  },
  {
    why: 'Upstream quotes its JSON parser; our tokens are no JSON, and a body is told that it is no object.',
    request: named('list with a bad token', 'patch with what is no patch'),
    path: WORDS,
  },
  {
    why: 'The message lists the types that are accepted.',
    request: named('patch in a way that is not there'),
    path: /^(message|details)$/,
  },
  {
    why: 'The cause names the operation that failed and why; upstream leaves the client to guess.',
    request: named('patch with a failing test', 'patch where nothing is'),
    path: /^details\.causes$/,
  },
  {
    why: 'Upstream names the same cause twice.',
    request: named('merge with another uid'),
    path: /^details\.causes\[\]$/,
  },
  {
    why: 'Upstream leaves this refusal to its storage for two kinds, in other words and with the plural as the kind.',
    request: /\/(namespaces\/x-one|customresourcedefinitions\/\S+) \(delete another one\)$/,
    path: /^(message|details\.kind)$/,
  },
  {
    why: 'Other words for a selector, and ReplicaSets can be selected by `status.replicas`.',
    request: /\/(jobs|replicasets)\?\S+ \(list by a field that is not there\)$/,
    path: WORDS,
  },
  {
    why: 'Upstream says the same twice, leaves a part of the path out, and goes on with labels of another uid.',
    request: /\/jobs(\/x-one)? \((create with a bad name|merge with another uid)\)$/,
    path: /^(message|details\.causes\[\]\.field)$/,
  },
  {
    why: 'Upstream keeps events out of its cache, which is what says when to ask again.',
    request: /\/events\?\S+ \(list with a version of the future\)$/,
    path: /^details\.retryAfterSeconds$/,
  },
  {
    why: 'Times and sources that an event has not are left out.',
    request: of('events'),
    path: field(
      '(source|deprecatedSource|reportingComponent|reportingInstance|eventTime|(first|last|deprecatedFirst|deprecatedLast)Timestamp)',
    ),
  },
  {
    why: 'The server of the comparison has no plugin that names a pod’s account, and no class that is the default.',
    request: ANY,
    path: field('spec\\.(serviceAccount|serviceAccountName|storageClassName|ingressClassName)'),
  },
  {
    why: 'The default class is a cell of the row.',
    request: /\/(persistentvolumeclaims|ingresses)\/x-one \(get as a table\)$/,
    path: /^rows\[\]\.cells\[\]$/,
  },
  {
    why: 'The controller of definitions does not run in the comparison, and deletion begins as for every kind.',
    request: of('customresourcedefinitions'),
    path: field(
      '(status\\.(conditions(\\[\\])?|acceptedNames\\..*)|metadata\\.(managedFields\\[\\]|generation|deletionGracePeriodSeconds))',
    ),
  },
  {
    why: 'The annotation of a DaemonSet’s generation was for versions that are gone.',
    request: of('daemonsets'),
    path: field(
      'metadata\\.(annotations(\\..*)?|managedFields\\[\\]\\.fieldsV1\\.f:metadata\\.f:annotations(\\..*)?)',
    ),
  },
  {
    why: 'Upstream counts changed labels as well, and shows absent ports as null.',
    request: of('endpointslices'),
    path: field('(metadata\\.generation|ports)'),
  },
  {
    why: 'An autoscaler counts its generations here; measurements that there are none of are left out.',
    request: of('horizontalpodautoscalers'),
    path: field('(metadata\\.generation|status\\.currentMetrics)'),
  },
  {
    why: 'The older form is stored as the newer one: what defaults add there is owned by nobody, and not in a trial.',
    request: /\/autoscaling\/v1\//,
    path: field(
      '(spec\\.targetCPUUtilizationPercentage|metadata\\.managedFields\\[\\]\\.fieldsV1\\.f:spec\\.f:targetCPUUtilizationPercentage)',
    ),
  },
  {
    why: 'Who writes `clusterIP: None` owns the list that follows from it as well.',
    request: of('services'),
    path: field('metadata\\.managedFields\\[\\]\\.fieldsV1\\.f:spec\\.f:clusterIPs'),
  },
  {
    why: 'Expressions are checked at once, and annotations can be written with every status.',
    request: of('validatingadmissionpolicies'),
    path: field('(status\\.(observedGeneration|typeChecking)|metadata\\.(annotations|managedFields\\[\\]))'),
  },
]

/** The paths that no difference of the list explains. */
export function unexplained(request: string, paths: readonly string[]): string[] {
  return paths.filter(
    (path) => !LIVE_DIFFERENCES.some((known) => known.request.test(request) && known.path.test(path)),
  )
}
