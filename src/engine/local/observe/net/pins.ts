import { existsSync, readFileSync, readdirSync } from 'node:fs'

/** Every path on which a namespace is mounted, in this mount namespace. */
export function observePins(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): Set<string> {
  const pins = new Set<string>()
  for (const line of mountinfo.split('\n')) {
    // proc_pid_mountinfo(5): the fifth field is the mount point, the file system type comes after " - ".
    const [before, after] = line.split(' - ')
    const path = before?.split(' ')[4]
    if (path !== undefined && after?.startsWith('nsfs ')) pins.add(unescapeOctal(path))
  }
  return pins
}

export type TextFile = { name: string; text: string }

/** The files of a directory that end in `.json`; none when there is no such directory. */
export function observeJsonFiles(dir: string): TextFile[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir)
    .filter((name) => name.endsWith('.json'))
    .map((name) => ({ name: name.slice(0, -'.json'.length), text: readFileSync(`${dir}/${name}`, 'utf8') }))
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
