import { gunzipSync } from 'node:zlib'
import { unpackTar } from 'modern-tar'
import { BUNDLE_BYTES_MAX, DATA_BYTES_MAX, UNPACKED_BYTES_MAX } from './limits.ts'

export type UnpackedBundle = { wasm: Uint8Array<ArrayBuffer>; data: unknown }

/** Why a bundle cannot be used, for whoever wrote it. */
export class BundleRefused extends Error {}

/**
 * Reads what `opa build -t wasm` writes: a compressed tar with `/policy.wasm` and perhaps `/data.json`.
 * @throws {BundleRefused}
 */
export async function parseBundle(bytes: Uint8Array): Promise<UnpackedBundle> {
  if (bytes.length > BUNDLE_BYTES_MAX)
    throw new BundleRefused(`it takes ${bytes.length} bytes, more than ${BUNDLE_BYTES_MAX}`)
  let unpacked: Uint8Array
  try {
    unpacked = gunzipSync(bytes, { maxOutputLength: UNPACKED_BYTES_MAX })
  } catch (cause) {
    const large = (cause as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE'
    throw new BundleRefused(
      large
        ? `unpacked it takes more than ${UNPACKED_BYTES_MAX} bytes`
        : 'it is not compressed by gzip; "opa build -t wasm" makes a bundle.tar.gz',
      { cause },
    )
  }
  let wasm: Uint8Array | undefined
  let json: Uint8Array | undefined
  try {
    for (const { header, data } of await unpackTar(unpacked)) {
      const name = header.name.replace(/^\.?\//, '')
      if (name === 'policy.wasm') wasm = once(name, wasm, data)
      if (name === 'data.json') json = once(name, json, data)
      if (name === '.signatures.json')
        throw new BundleRefused('it is signed, and signatures of bundles are not checked here')
    }
  } catch (cause) {
    if (cause instanceof BundleRefused) throw cause
    throw new BundleRefused('it is no tar archive', { cause })
  }
  if (!wasm) throw new BundleRefused('it has no policy.wasm; build it with "opa build -t wasm -e ENTRYPOINT"')
  return { wasm: new Uint8Array(wasm), data: json === undefined ? {} : parseData(json) }
}

function once(name: string, before: Uint8Array | undefined, data: Uint8Array | undefined): Uint8Array {
  if (before) throw new BundleRefused(`it has two files ${name}`)
  if (!data) throw new BundleRefused(`its ${name} is no file`)
  return data
}

function parseData(json: Uint8Array): unknown {
  if (json.length > DATA_BYTES_MAX)
    throw new BundleRefused(`its data.json takes ${json.length} bytes, more than ${DATA_BYTES_MAX}`)
  try {
    const data: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json))
    if (typeof data === 'object' && data !== null && !Array.isArray(data)) return data
  } catch (cause) {
    throw new BundleRefused('its data.json is no JSON', { cause })
  }
  throw new BundleRefused('its data.json is no object')
}
