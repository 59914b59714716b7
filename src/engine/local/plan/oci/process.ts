import type { JailContainer } from '../../../../jail/index.ts'
import type { UnpackedImage } from '../../parts.ts'
import { ContainerError } from './container-error.ts'
import type { ResolvedUser } from './user.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const ARGS_BYTES_MAX = 2 * 1024 * 1024

export type Addresses = { podIP: string; hostIP: string }

/** Environment in the kubelet's order: the image's, then the container's, a later one replacing an earlier one. */
export function renderEnvironment(
  container: JailContainer,
  image: UnpackedImage['config'],
  { hostname, user, addresses }: { hostname: string; user: ResolvedUser; addresses: Addresses },
): Map<string, string> {
  const env = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['HOSTNAME', hostname],
    ['HOME', user.home],
  ])
  if (container.tty) env.set('TERM', 'xterm')
  for (const entry of image.env) {
    const equals = entry.indexOf('=')
    if (equals > 0) env.set(entry.slice(0, equals), entry.slice(equals + 1))
  }
  // References see only the container's own variables that came before, as in v1.EnvVar.
  const own = new Map<string, string>()
  for (const variable of container.env) {
    const value = 'value' in variable ? expand(variable.value, own) : fromPod(variable.fromPod, addresses)
    own.set(variable.name, value)
    env.set(variable.name, value)
  }
  for (const [name, value] of env)
    if (name.includes('\0') || name.includes('=') || value.includes('\0'))
      throw new ContainerError(
        'CreateContainerConfigError',
        `environment variable ${JSON.stringify(name.slice(0, 64))} cannot be set`,
      )
  return env
}

function fromPod(field: 'podIP' | 'podIPs' | 'hostIP', { podIP, hostIP }: Addresses): string {
  return field === 'hostIP' ? hostIP : podIP
}

/** The argument list: command over Entrypoint, args over Cmd; a command alone drops the image's Cmd. */
export function renderArgs(
  container: JailContainer,
  image: UnpackedImage['config'],
  env: ReadonlyMap<string, string>,
): string[] {
  const command = container.command ?? []
  const args = container.args ?? []
  const own = new Map(container.env.map(({ name }) => [name, env.get(name) ?? '']))
  const written = [...command, ...args].map((word) => expand(word, own))
  const list =
    command.length > 0
      ? written
      : args.length > 0
        ? [...image.entrypoint, ...written]
        : [...image.entrypoint, ...image.cmd]
  if (list.length === 0) throw new ContainerError('CreateContainerError', 'no command specified')
  if (list.some((word) => word.includes('\0')))
    throw new ContainerError('CreateContainerConfigError', 'an argument has a NUL byte')
  if (list.reduce((bytes, word) => bytes + Buffer.byteLength(word), 0) > ARGS_BYTES_MAX)
    throw new ContainerError('CreateContainerConfigError', 'the arguments are too long')
  return list
}

/**
 * `$(NAME)` becomes the variable's value, `$$(NAME)` a literal `$(NAME)`, and an unknown name stays as it is.
 * https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#envvar-v1-core
 */
export function expand(text: string, variables: ReadonlyMap<string, string>): string {
  let out = ''
  let at = 0
  const lastClose = text.lastIndexOf(')')
  for (;;) {
    const dollar = text.indexOf('$', at)
    if (dollar < 0 || dollar === text.length - 1) return out + text.slice(at)
    out += text.slice(at, dollar)
    const next = text[dollar + 1]
    if (next === '$') {
      out += '$'
      at = dollar + 2
      continue
    }
    const end = next === '(' && lastClose > dollar ? text.indexOf(')', dollar + 2) : -1
    if (end < 0) {
      out += '$'
      at = dollar + 1
      continue
    }
    const name = text.slice(dollar + 2, end)
    out += variables.get(name) ?? `$(${name})`
    at = end + 1
  }
}
