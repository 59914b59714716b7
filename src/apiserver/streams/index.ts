import type { Duplex } from 'node:stream'
import { createWebSocketStream } from 'ws'
import { ApiError, badRequest } from '../../api/index.ts'
import type { ExecOptions } from '../../jail/index.ts'
import { type Clock, type Logger, systemClock } from '../../stdx/index.ts'
import { parseBoolean } from '../options.ts'
import type { StreamHandler, StreamRequest } from '../stream-handler.ts'
import { PORTS_MAX } from './limits.ts'
import * as spdy from './spdy-sessions.ts'
import * as webSocket from './web-socket.ts'

/**
 * Carries exec, attach and port-forward over WebSockets (KEP-4006) and over SPDY/3.1, which kubectl falls back to.
 * A refusal comes before the switch of protocols, as an ApiError; after it the client is told on its own channel.
 */
export function createStreamHandler({
  log,
  clock = systemClock,
}: {
  log: Logger
  clock?: Clock
}): StreamHandler {
  return {
    async handle(stream) {
      const { socket } = stream
      socket.on('error', () => socket.destroy())
      const gone = new AbortController()
      socket.once('close', () => gone.abort(new Error('The client went away')))
      const upgrade = (stream.request.headers.upgrade ?? '').toLowerCase()
      if (upgrade === 'websocket') await overWebSocket(stream, gone.signal, clock, log)
      else if (upgrade === 'spdy/3.1') await overSpdy(stream, gone.signal, clock, log)
      else throw badRequest('"Upgrade" must be "websocket" or "SPDY/3.1"')
    },
    async handleText(upgrade, text) {
      const { request } = upgrade
      try {
        if ((request.headers.upgrade ?? '').toLowerCase() !== 'websocket')
          throw badRequest('"Upgrade" must be "websocket"')
        const offered = request.headers['sec-websocket-protocol']
        const protocol = webSocket.negotiate(offered, webSocket.BYTES_PROTOCOLS)
        if (offered !== undefined && !protocol) throw unsupported(webSocket.BYTES_PROTOCOLS)
        const client = await webSocket.acceptWebSocket(upgrade, protocol)
        if (client) await webSocket.carryBytes(client, text)
      } finally {
        text.destroy()
      }
    },
  }
}

async function overWebSocket(
  stream: StreamRequest,
  signal: AbortSignal,
  clock: Clock,
  log: Logger,
): Promise<void> {
  const offered = stream.request.headers['sec-websocket-protocol']
  if (stream.subresource === 'portforward') {
    const protocol = webSocket.negotiate(offered, webSocket.PORT_PROTOCOLS)
    if (!protocol) throw unsupported(webSocket.PORT_PROTOCOLS)
    const ports = protocol === webSocket.TUNNEL_PROTOCOL ? [] : parsePorts(stream.query)
    const client = await webSocket.acceptWebSocket(stream, protocol)
    if (!client) return
    const connect = connector(stream, signal, log)
    await survive(stream, log, () =>
      protocol === webSocket.TUNNEL_PROTOCOL
        ? spdy.carryPorts(createWebSocketStream(client), connect, clock)
        : webSocket.carryPorts(client, ports, connect),
    )
    return
  }
  const protocol = webSocket.negotiate(offered, webSocket.COMMAND_PROTOCOLS)
  if (!protocol) throw unsupported(webSocket.COMMAND_PROTOCOLS)
  const engine = await openCommand(stream, signal)
  const client = await webSocket.acceptWebSocket(stream, protocol)
  if (!client) return void engine.destroy()
  await survive(stream, log, () => webSocket.carryCommand(client, protocol, engine))
}

async function overSpdy(
  stream: StreamRequest,
  signal: AbortSignal,
  clock: Clock,
  log: Logger,
): Promise<void> {
  const header = stream.request.headers['x-stream-protocol-version']
  const offered = Array.isArray(header) ? header.join(',') : header
  const supported = stream.subresource === 'portforward' ? spdy.PORT_PROTOCOL : spdy.COMMAND_PROTOCOL
  const protocol = webSocket.negotiate(offered, [supported])
  if (!protocol) throw unsupported([supported])
  const engine = stream.subresource === 'portforward' ? undefined : await openCommand(stream, signal)
  const { socket, head } = stream
  if (signal.aborted) return void engine?.destroy()
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n' +
      `x-stream-protocol-version: ${protocol}\r\n` +
      `${stream.headerLines.map((line) => `${line}\r\n`).join('')}\r\n`,
  )
  if (head.length > 0) socket.unshift(head)
  await survive(stream, log, () =>
    engine
      ? spdy.carryCommand(socket, engine, commandOptions(stream), clock)
      : spdy.carryPorts(socket, connector(stream, signal, log), clock),
  )
}

/** After the switch there is nobody left to tell, so an error ends the connection and nothing else. */
async function survive(
  { socket, subresource }: StreamRequest,
  log: Logger,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    log.error('a stream failed', { subresource, error })
    socket.destroy()
  }
}

async function openCommand(stream: StreamRequest, signal: AbortSignal): Promise<Duplex> {
  const { engine, jail, container, subresource, query } = stream
  const options = commandOptions(stream)
  const opened =
    subresource === 'attach'
      ? engine.attach(jail, container, options, signal)
      : engine.exec(jail, container, { ...options, command: parseCommand(query) }, signal)
  const duplex = await opened
  duplex.on('error', () => {})
  return duplex
}

function parseCommand(query: URLSearchParams): string[] {
  const command = query.getAll('command')
  if (command.length === 0) throw badRequest('you must specify at least 1 command for the container')
  return command
}

/** As upstream: with a terminal, stderr is part of stdout. */
function commandOptions({ query }: StreamRequest): Omit<ExecOptions, 'command'> {
  const flag = (name: string) => parseBoolean(query.get(name)) ?? false
  const tty = flag('tty')
  const options = { stdin: flag('stdin'), stdout: flag('stdout'), stderr: flag('stderr') && !tty, tty }
  if (!options.stdin && !options.stdout && !options.stderr)
    throw badRequest('you must specify at least one of stdin, stdout, stderr')
  return options
}

function parsePorts(query: URLSearchParams): number[] {
  const texts = query.getAll('ports').flatMap((value) => value.split(',', PORTS_MAX + 1))
  const ports = texts.map((text) => (/^\d{1,5}$/.test(text) ? Number(text) : 0))
  if (ports.length === 0) throw badRequest('query parameter "ports" is required')
  if (ports.length > PORTS_MAX) throw badRequest(`at most ${PORTS_MAX} ports can be forwarded at once`)
  if (ports.some((port) => port < 1 || port > 65_535))
    throw badRequest('"ports" must be numbers from 1 to 65535')
  return ports
}

function connector(
  { engine, jail }: StreamRequest,
  signal: AbortSignal,
  log: Logger,
): (port: number) => Promise<Duplex> {
  return async (port) => {
    try {
      return await engine.portForward(jail, port, signal)
    } catch (error) {
      log.info('a port could not be forwarded', { jail, port, error })
      throw error
    }
  }
}

function unsupported(supported: readonly string[]): ApiError {
  return badRequest(`The client must offer one of the protocols ${supported.join(', ')}`)
}
