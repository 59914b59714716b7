import type { Jail } from '../../../../jail/index.ts'
import { podNames } from '../net/names.ts'

const LINE_BREAK = /[\r\n\0]/

/** /etc/hosts as the kubelet writes it. */
export function renderHosts(jail: Jail, podIP: string): string {
  const lines = [
    // Programs look for this line to tell a file that the platform keeps from the image's own.
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'fe00::0\tip6-mcastprefix',
    'fe00::1\tip6-allnodes',
    'fe00::2\tip6-allrouters',
    // The whole name first: it is what `hostname -f` says.
    [podIP, ...podNames(jail), jail.hostname].join('\t'),
    ...jail.hostAliases.map((alias) => `${alias.ip}\t${alias.hostnames.join('\t')}`),
  ]
  return oneEntryPerLine(lines)
}

/** resolv.conf(5) reads this many servers and no more. */
const NAMESERVERS_MAX = 3

/** resolv.conf(5): the tenant's resolver unless the pod brought servers of its own that replace it. */
export function renderResolvConf(jail: Jail, resolver: string): string {
  const { nameservers = [], resolverFirst } = jail.dns
  const first = resolverFirst || nameservers.length === 0 ? [resolver] : []
  const servers = [...first, ...nameservers].slice(0, NAMESERVERS_MAX)
  const lines = [
    ...(jail.dns.searches.length > 0 ? [`search ${jail.dns.searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(jail.dns.options.length > 0 ? [`options ${jail.dns.options.join(' ')}`] : []),
  ]
  return oneEntryPerLine(lines)
}

export function renderHostname(jail: Jail): string {
  return oneEntryPerLine([jail.hostname])
}

/** A line break inside a value would let it write entries of its own. */
function oneEntryPerLine(lines: readonly string[]): string {
  const forged = lines.find((line) => LINE_BREAK.test(line))
  if (forged !== undefined) throw new TypeError(`A line break in ${JSON.stringify(forged)}`)
  return `${lines.join('\n')}\n`
}
