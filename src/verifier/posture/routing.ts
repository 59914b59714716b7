import { readdirSync, readFileSync } from 'node:fs'
import { runIn } from './network.ts'

/** What the kernel does with packets whose source cannot be (ip-sysctl.rst), of one interface or of `all`. */
export type SourceChecks = {
  interfaceName: string
  rpFilter: number
  acceptLocal: boolean
  forwarding: boolean
}

const DIRECTORY = '/proc/sys/net/ipv4/conf'
// A shell's own `read` takes single bytes, which these files do not give.
const SCRIPT = `cd ${DIRECTORY} && grep -H . */rp_filter */accept_local */forwarding`

export function observeSourceChecks(netns: string): SourceChecks[] {
  return parseSourceChecks(runIn(netns, 'sh', ['-c', SCRIPT]))
}

/** Lines such as `all/rp_filter:1`. What is missing counts as unsafe. */
export function parseSourceChecks(text: string): SourceChecks[] {
  const values = new Map<string, Map<string, string>>()
  for (const line of text.split('\n')) {
    const [, interfaceName, file, value] = /^([^/]+)\/([a-z_]+):(\d+)$/.exec(line) ?? []
    if (interfaceName === undefined || file === undefined || value === undefined) continue
    const own = values.get(interfaceName) ?? new Map<string, string>()
    values.set(interfaceName, own.set(file, value))
  }
  return [...values].map(([interfaceName, own]) => ({
    interfaceName,
    rpFilter: Number(own.get('rp_filter') ?? 0),
    acceptLocal: own.get('accept_local') !== '0',
    forwarding: own.get('forwarding') !== '0',
  }))
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
