import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderHosts, renderResolvConf } from './pod-files.ts'
import { jail } from './sample-input.testkit.ts'

test('hosts has the pod and its aliases', () => {
  assert.equal(
    renderHosts(jail, '10.64.0.9'),
    `# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
10.64.0.9\tweb-0
10.1.2.3\tdb\tdb.example
`,
  )
})

test('hosts has the whole name of a pod that has one, and first', () => {
  const named = { ...jail, hostname: 'db-0', subdomain: 'db', namespace: 'shop' }
  assert.match(renderHosts(named, '10.64.0.9'), /^10\.64\.0\.9\tdb-0\.db\.shop\.svc\.cluster\.local\tdb-0$/m)
})

test('resolv.conf names the tenant’s resolver unless the pod brought its own', () => {
  assert.equal(
    renderResolvConf(jail, '169.254.1.1'),
    'search default.svc.cluster.local\nnameserver 169.254.1.1\noptions ndots:5\n',
  )
  const own = { ...jail, dns: { ...jail.dns, nameservers: ['9.9.9.9', '1.1.1.1'] } }
  assert.match(renderResolvConf(own, '169.254.1.1'), /nameserver 9\.9\.9\.9\nnameserver 1\.1\.1\.1/)
  assert.doesNotMatch(renderResolvConf(own, '169.254.1.1'), /169/)
  const nameservers = ['9.9.9.9', '1.1.1.1', '8.8.8.8']
  const both = { ...jail, dns: { ...jail.dns, nameservers, resolverFirst: true } }
  assert.deepEqual(renderResolvConf(both, '169.254.1.1').match(/(?<=nameserver ).*/g), [
    '169.254.1.1',
    '9.9.9.9',
    '1.1.1.1',
  ])
})

test('a line break in a name cannot forge an entry', () => {
  const forged = {
    ...jail,
    hostname: 'a\n6.6.6.6 bank.example',
    dns: { ...jail.dns, options: ['x\nnameserver 6.6.6.6'] },
  }
  assert.throws(() => renderHosts(forged, '10.64.0.9'), /line break/)
  assert.throws(() => renderResolvConf(forged, '169.254.1.1'), /line break/)
})
