const MESSAGE_CHARS_MAX = 1_024

export const NO_SPACE =
  'no space left on device: the ephemeral storage of the pod, or that of all pods of the tenant, is full'

/** What runtimes complain about that the tenant can do something about. The groups are the tenant's own words. */
const KNOWN: readonly { pattern: RegExp; tell: (match: RegExpExecArray) => string }[] = [
  {
    // crun, also for a command by path.
    pattern: /executable file `([^`]{0,256})` not found(?: in \$PATH)?/,
    tell: ([, file]) => `exec: ${JSON.stringify(file)}: executable file not found in $PATH`,
  },
  {
    // runc and runsc
    pattern:
      /exec: \\?"([^"\\]{0,256})\\?": (?:stat \S{1,256}: )?(executable file not found in \$PATH|permission denied|no such file or directory)/,
    tell: ([, file, why]) => `exec: ${JSON.stringify(file)}: ${why}`,
  },
  {
    pattern: /open executable: Permission denied|exec: permission denied/i,
    tell: () => 'the command cannot be executed: permission denied',
  },
  {
    pattern: /(?:failed to find|finding|error finding) executable \\?"([^"\\]{0,256})\\?"/,
    tell: ([, file]) => `exec: ${JSON.stringify(file)}: executable file not found in $PATH`,
  },
  {
    // runsc, for a command by path.
    pattern:
      /failed to load ([^\s:]{1,256}): (no such file or directory|permission denied|exec format error)/,
    tell: ([, file, why]) => `exec: ${JSON.stringify(file)}: ${why}`,
  },
  {
    pattern: /exec format error/i,
    tell: () => 'the command cannot be executed: exec format error (another architecture?)',
  },
  { pattern: /no space left on device/i, tell: () => NO_SPACE },
  {
    pattern: /not a directory/i,
    tell: () =>
      'a file or volume cannot be mounted: not a directory (a file over a directory, or a directory over a file?)',
  },
]

/** Turns a runtime's message, which names paths of the machine, into one for the tenant. */
export function tellOfRuntime(message: string): string {
  const text = message.slice(0, 16 * MESSAGE_CHARS_MAX)
  for (const { pattern, tell } of KNOWN) {
    const match = pattern.exec(text)
    if (match) return tell(match).slice(0, MESSAGE_CHARS_MAX)
  }
  return 'the container could not be created'
}
