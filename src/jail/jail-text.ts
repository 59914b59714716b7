/**
 * Texts of a jail (`command`, `args` and the values of `env`) leave room for what only an engine knows:
 * `$(podIP)`, `$(podIPs)` and `$(hostIP)` stand for addresses, `$$` for a dollar sign, all else for itself. Whoever
 * writes a jail puts a text that means nothing but itself through `literalText`.
 */
export function literalText(text: string): string {
  return text.replaceAll('$', '$$$$')
}

/** A text as a container gets it. */
export function renderJailText(text: string, { podIP, hostIP }: { podIP: string; hostIP: string }): string {
  const known = new Map([
    ['podIP', podIP],
    ['podIPs', podIP],
    ['hostIP', hostIP],
  ])
  return expandVariables(text, (name) => known.get(name))
}

/**
 * Replaces `$(NAME)` by what `lookup` knows. An unknown name stays as it is, `$$` is a dollar sign. What does not come
 * from `lookup` passes through `literal`.
 * https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
 */
export function expandVariables(
  text: string,
  lookup: (name: string) => string | undefined,
  literal: (text: string) => string = (same) => same,
): string {
  let expanded = ''
  let at = 0
  for (;;) {
    const dollar = text.indexOf('$', at)
    if (dollar === -1 || dollar + 1 >= text.length) return expanded + literal(text.slice(at))
    expanded += literal(text.slice(at, dollar))
    const next = text[dollar + 1]
    if (next === '$') {
      expanded += literal('$')
      at = dollar + 2
      continue
    }
    const end = next === '(' ? text.indexOf(')', dollar + 2) : -1
    if (end === -1) {
      expanded += literal(`$${next}`)
      at = dollar + 2
      continue
    }
    const name = text.slice(dollar + 2, end)
    expanded += lookup(name) ?? literal(`$(${name})`)
    at = end + 1
  }
}
