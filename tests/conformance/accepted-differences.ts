/**
 * Requests to which we answer differently on purpose: why, and exactly what differs. `body` stands for a whole document.
 * The list may only shrink.
 */
type AcceptedDifference = { why: string; differs: readonly string[] }

const OUR_WORDS =
  'Schemas are described in our own words and list the fields that we serve; `src/apiserver/discovery` tests the documents.'
const SAYS_MORE = 'The cause names the operation that failed and why; upstream leaves the client to guess.'

export const ACCEPTED_DIFFERENCES: Readonly<Record<string, AcceptedDifference>> = {
  'openapi-v3-core': { why: OUR_WORDS, differs: ['body'] },
  'openapi-v2-json': { why: OUR_WORDS, differs: ['body'] },
  'openapi-v2-pb': { why: OUR_WORDS, differs: ['body'] },
  'etag-304': { why: OUR_WORDS, differs: ['body'] },
  version: { why: 'We are not written in Go.', differs: ['goVersion', 'compiler'] },
  'cm-badtype': { why: 'The path includes the key, so the value is found at once.', differs: ['message'] },
  'list-bad-continue': {
    why: 'Our tokens are authenticated, not JSON, so there is no parser to quote.',
    differs: ['message'],
  },
  'list-rv-invalid': {
    why: 'Upstream answers a bad parameter with 500; we never answer bad input with 500.',
    differs: ['status 500 → 400', 'code', 'reason'],
  },
  'patch-415': { why: 'The message lists the types that are accepted.', differs: ['message', 'details'] },
  'patch-json-badpath': { why: SAYS_MORE, differs: ['details.causes'] },
  'patch-json-test-fail': { why: SAYS_MORE, differs: ['details.causes'] },
  'patch-pod-immutable': {
    why: 'Upstream appends a dump of two Go structures.',
    differs: ['message', 'details.causes[].message'],
  },
  'psa-warn-deploy': {
    why: 'Upstream warns of a Deployment that can never have a pod, and lets it in; ours refuses it with the same words.',
    differs: ['status 201 → 403', 'body'],
  },
  'status-patch': {
    why: 'Upstream forgets who owns `spec.replicas` when a scale is patched to what it is; ours keeps the owner.',
    differs: ['metadata.managedFields[].fieldsV1.f:spec.f:replicas'],
  },
  'svc-nodeport': {
    why: 'A NodePort would be a port of the machine that all tenants share; it is refused with the reason.',
    differs: ['status 201 → 422', 'body'],
  },
}
