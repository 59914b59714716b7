/**
 * Requests to which we answer differently on purpose: why, and exactly what differs. `body` stands for a whole document.
 * The list may only shrink.
 */
type AcceptedDifference = { why: string; differs: readonly string[] }

const OTHER_KINDS =
  'We serve other kinds; the documents themselves are tested beside `src/apiserver/discovery`.'
const OWN_COLUMNS =
  'Columns are described in our own words, and counts in columns of type string are strings.'
const POD_GENERATION = 'Pods have a generation since Kubernetes 1.33.'
const POD_FIELDS =
  'Pods have a generation since 1.33; tolerations mean nothing on a virtual node without taints and are not defaulted; ' +
  'the recorded server ran without the ServiceAccount plugin, ours has it.'
const NOT_STORED = 'Reviews are never stored, so nobody owns their fields.'
const SAYS_MORE = 'The cause names the operation that failed and why; upstream leaves the client to guess.'

const podFields = (at = ''): string[] => [
  `${at}metadata.generation`,
  ...['tolerations', 'serviceAccountName', 'serviceAccount'].map((f) => `${at}spec.${f}`),
]

export const ACCEPTED_DIFFERENCES: Readonly<Record<string, AcceptedDifference>> = {
  'api-agg': { why: OTHER_KINDS, differs: ['body'] },
  'apis-agg': { why: OTHER_KINDS, differs: ['body'] },
  'api-legacy': {
    why: 'Our server has another address.',
    differs: ['serverAddressByClientCIDRs[].serverAddress'],
  },
  'apis-legacy': { why: OTHER_KINDS, differs: ['body'] },
  'api-v1': { why: OTHER_KINDS, differs: ['body'] },
  'apps-v1': { why: OTHER_KINDS, differs: ['body'] },
  gzip: { why: OTHER_KINDS, differs: ['body'] },
  root: { why: OTHER_KINDS, differs: ['body'] },
  'openapi-v3': { why: OTHER_KINDS, differs: ['body'] },
  'openapi-v3-core': { why: OTHER_KINDS, differs: ['body'] },
  'openapi-v2-json': { why: OTHER_KINDS, differs: ['body'] },
  'etag-304': { why: OTHER_KINDS, differs: ['body'] },
  'openapi-v2-pb': { why: OTHER_KINDS, differs: ['body'] },
  version: {
    why: 'We are another version of another program.',
    differs: ['minor', 'gitVersion', 'gitCommit', 'goVersion', 'compiler'],
  },
  'cm-yaml-accept': {
    why: 'A key that is a single dot is in quotes, which reads the same.',
    differs: ['body'],
  },
  'cm-badtype': { why: 'The path includes the key, so the value is found at once.', differs: ['message'] },
  'list-bad-continue': {
    why: 'Our tokens are authenticated, not JSON, so there is no parser to quote.',
    differs: ['message'],
  },
  'list-badsel': { why: 'The same refusal in the words of our parser.', differs: ['message'] },
  'list-rv-invalid': {
    why: 'Upstream answers a bad parameter with 500; we never answer bad input with 500.',
    differs: ['status 500 → 400', 'message', 'code', 'reason'],
  },
  'patch-415': { why: 'The message lists the types that are accepted.', differs: ['message', 'details'] },
  'patch-json-badpath': { why: SAYS_MORE, differs: ['details.causes'] },
  'patch-json-test-fail': { why: SAYS_MORE, differs: ['details.causes'] },
  'patch-pod-immutable': {
    why: 'Upstream appends a dump of two Go structures.',
    differs: ['message', 'details.causes[].message'],
  },
  'pod-create-defaults': { why: POD_FIELDS, differs: podFields() },
  'pod-dryrun': { why: POD_FIELDS, differs: podFields() },
  'patch-strategic-list': { why: POD_FIELDS, differs: podFields() },
  'del-pod-graceful': { why: POD_FIELDS, differs: podFields() },
  pom: { why: POD_GENERATION, differs: ['items[].metadata.generation'] },
  'table-pods': {
    why: `${OWN_COLUMNS} ${POD_GENERATION}`,
    differs: ['columnDefinitions[].description', 'rows[].object.metadata.generation'],
  },
  'table-pod-1': {
    why: `${OWN_COLUMNS} ${POD_GENERATION}`,
    differs: ['columnDefinitions[].description', 'rows[].object.metadata.generation'],
  },
  'table-includeObject': {
    why: `${OWN_COLUMNS} ${POD_FIELDS}`,
    differs: ['columnDefinitions[].description', ...podFields('rows[].object.')],
  },
  'table-none': { why: OWN_COLUMNS, differs: ['columnDefinitions[].description', 'rows[].cells[]'] },
  'table-deploy': {
    why: `${OWN_COLUMNS} The object was made before the recording, by another client.`,
    differs: [
      'columnDefinitions[].description',
      'rows[].cells[]',
      'rows[].object.metadata.managedFields[].manager',
    ],
  },
  'watch-table': {
    why: `${OWN_COLUMNS} ${POD_GENERATION}`,
    differs: ['object.columnDefinitions[].description', 'object.rows[].object.metadata.generation'],
  },
  'watch-sendInitialEvents': {
    why: 'The annotation is an aid for aggregated servers; no client asks for it.',
    differs: ['[].object.metadata.annotations.kubernetes.io/initial-events-list-blueprint'],
  },
  'psa-403': {
    why: 'What `restricted` asks for is given to every pod by its jail, so the namespace label changes nothing here.',
    differs: ['status 403 → 201', 'body'],
  },
  'psa-warn-deploy': {
    why: 'As psa-403; and the metadata of a template has no creation time since 1.34.',
    differs: ['warning', 'spec.template.metadata.creationTimestamp'],
  },
  ssar: { why: NOT_STORED, differs: ['metadata.managedFields'] },
  'ssar-denied': { why: NOT_STORED, differs: ['metadata.managedFields'] },
  ssrr: {
    why: 'The test gives the tenant fewer rules, and some of our paths are bound by other roles.',
    differs: ['status.resourceRules[]', 'status.nonResourceRules[]'],
  },
  whoami: {
    why: 'A control plane does not learn which certificate the gateway has seen.',
    differs: ['status.userInfo.extra'],
  },
  token: {
    why: 'Our tokens are for the tenant, whose name is in the audience. Requests are never stored.',
    differs: ['metadata.managedFields', 'spec.audiences[]'],
  },
  'status-patch': {
    why: 'The object was made before the recording, by another client; a template has no creation time since 1.34.',
    differs: [
      'metadata.managedFields[].manager',
      'metadata.managedFields[].fieldsV1.f:spec.f:replicas',
      'spec.template.metadata.creationTimestamp',
    ],
  },
  'svc-create': {
    why: 'Another range of addresses; address families are defaults here and therefore owned like other defaults.',
    differs: [
      'metadata.managedFields[].fieldsV1.f:spec.f:ipFamilies',
      'metadata.managedFields[].fieldsV1.f:spec.f:ipFamilyPolicy',
      'spec.clusterIP',
      'spec.clusterIPs[]',
    ],
  },
  'svc-nodeport': {
    why: 'A NodePort would be a port of the machine that all tenants share; it is refused with the reason.',
    differs: ['status 201 → 422', 'body'],
  },
}
