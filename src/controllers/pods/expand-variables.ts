/**
 * Replaces `$(NAME)` by what `lookup` knows. An unknown name stays as it is, `$$` is a dollar sign.
 * https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
 */
export function expandVariables(text: string, lookup: (name: string) => string | undefined): string {
  let expanded = ''
  let at = 0
  for (;;) {
    const dollar = text.indexOf('$', at)
    if (dollar === -1 || dollar + 1 >= text.length) return expanded + text.slice(at)
    expanded += text.slice(at, dollar)
    const next = text[dollar + 1]
    if (next === '$') {
      expanded += '$'
      at = dollar + 2
      continue
    }
    const end = next === '(' ? text.indexOf(')', dollar + 2) : -1
    if (end === -1) {
      expanded += next === '(' ? '$(' : `$${next}`
      at = dollar + 2
      continue
    }
    const name = text.slice(dollar + 2, end)
    expanded += lookup(name) ?? `$(${name})`
    at = end + 1
  }
}
