import { readdirSync, readFileSync } from 'node:fs'
import { type RouterPosture, runIn } from './network.ts'

/** What the kernel does with packets whose source cannot be (ip-sysctl.rst), of one interface or of `all`. */
export type SourceChecks = {
  interfaceName: string
  rpFilter: number
  acceptLocal: boolean
  forwarding: boolean
}

const DIRECTORY = '/proc/sys/net/ipv4/conf'
// A shell's own `read` takes single bytes, which these files do not give. A link that goes while this runs is no failure;
// which ones are still there at the end is said last.
const SCRIPT = `cd ${DIRECTORY} && { grep -sH . */rp_filter */accept_local */forwarding; ls; }`

export function observeSourceChecks(netns: string): SourceChecks[] {
  return parseSourceChecks(runIn(netns, 'sh', ['-c', SCRIPT]))
}

/**
 * Lines such as `all/rp_filter:1`, then the names of all that are still there. A value that is missing counts as unsafe; a
 * link that has gone meanwhile is not listed, because half of what was read of it says nothing.
 */
export function parseSourceChecks(text: string): SourceChecks[] {
  const values = new Map<string, Map<string, string>>()
  const there = new Set<string>()
  for (const line of text.split('\n')) {
    const [, interfaceName, file, value] = /^([^/]+)\/([a-z_]+):(\d+)$/.exec(line) ?? []
    if (line !== '' && !line.includes('/')) there.add(line)
    if (interfaceName === undefined || file === undefined || value === undefined) continue
    const own = values.get(interfaceName) ?? new Map<string, string>()
    values.set(interfaceName, own.set(file, value))
  }
  return [...there].map((interfaceName) => {
    const own = values.get(interfaceName)
    return {
      interfaceName,
      rpFilter: Number(own?.get('rp_filter') ?? 0),
      acceptLocal: own?.get('accept_local') !== '0',
      forwarding: own?.get('forwarding') !== '0',
    }
  })
}

/**
 * Without the links that were there when the router was looked at and are gone now: of those neither filters nor switches
 * could be read, which is no hole. No link of the router's takes the name of an earlier one soon. When not even `all` could
 * be read, nothing is known to be gone.
 *
 * Requires: the switches were read after the router.
 */
export function withoutGoneLinks(router: RouterPosture, checks: readonly SourceChecks[]): RouterPosture {
  const there = new Set(checks.map(({ interfaceName }) => interfaceName))
  if (!there.has('all')) return router
  return { ...router, pods: router.pods.filter(({ interfaceName }) => there.has(interfaceName)) }
}

const VULNERABILITIES = '/sys/devices/system/cpu/vulnerabilities'

/** The processor's known leaks, in the kernel's words. Undefined when the kernel does not tell. */
export function observeProcessorLeaks(
  directory = VULNERABILITIES,
): { name: string; state: string }[] | undefined {
  try {
    return readdirSync(directory).map((name) => ({
      name,
      state: readFileSync(`${directory}/${name}`, 'utf8').split('\n', 1)[0] ?? '',
    }))
  } catch {
    return undefined
  }
}
