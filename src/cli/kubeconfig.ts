import { stringify } from 'yaml'
import type { Credentials } from './platform-client.ts'

/** A kubeconfig with one context, for stock kubectl and client libraries. Holds a private key: write it with mode 0600. */
export function renderKubeconfig({
  name,
  namespace,
  server,
  ca,
  certificate,
  key,
}: Credentials & { name: string; namespace?: string }): string {
  const encode = (text: string) => Buffer.from(text).toString('base64')
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': encode(ca) } }],
    users: [
      { name, user: { 'client-certificate-data': encode(certificate), 'client-key-data': encode(key) } },
    ],
    contexts: [
      { name, context: { cluster: name, user: name, ...(namespace === undefined ? {} : { namespace }) } },
    ],
    'current-context': name,
  })
}
