import type { Layout } from '../api/index.ts'

/** Where clients reach the gateway. An address that means "all of this machine" is reached as loopback. */
export function serverUrl({ gatewayAddress, gatewayPort }: Layout): string {
  const host = gatewayAddress === '0.0.0.0' ? '127.0.0.1' : gatewayAddress === '::' ? '::1' : gatewayAddress
  return `https://${host.includes(':') ? `[${host}]` : host}:${gatewayPort}`
}
