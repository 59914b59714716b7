import { type JailContainer, renderJailText } from '../../../../jail/index.ts'
import type { UnpackedImage } from '../../parts.ts'
import { ContainerError } from './container-error.ts'
import type { ResolvedUser } from './user.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const PATH_CHARS_MAX = 4_095
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
  for (const variable of container.env)
    env.set(
      variable.name,
      'value' in variable ? renderJailText(variable.value, addresses) : fromPod(variable.fromPod, addresses),
    )
  for (const [name, value] of env)
    if (name === '' || name.includes('\0') || name.includes('=') || value.includes('\0'))
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
  addresses: Addresses,
): string[] {
  const command = container.command ?? []
  const args = container.args ?? []
  const written = [...command, ...args].map((word) => renderJailText(word, addresses))
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

/** The working directory; an image's may be relative to "/". */
export function renderCwd(container: JailContainer, image: UnpackedImage['config']): string {
  const wanted = container.workingDir || image.workingDir || '/'
  const segments = wanted.split('/').filter((segment) => segment !== '' && segment !== '.')
  if (segments.includes('..') || wanted.includes('\0') || wanted.length > PATH_CHARS_MAX)
    throw new ContainerError(
      'CreateContainerConfigError',
      `the working directory ${JSON.stringify(wanted.slice(0, 256))} must be a path that does not climb`,
    )
  return `/${segments.join('/')}`
}
