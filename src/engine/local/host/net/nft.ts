import { spawn } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { NFT_OUTPUT_BYTES_MAX, NFT_TIMEOUT_MS } from './limits.ts'
import { inNamespace } from './syscalls.ts'
import { type ObservedRules, TABLE, parseRules } from '../../plan/net/index.ts'

/** Runs `nft` in a network namespace. Scripts go through a file, because `nft -f -` does not read from a socket. */
export class Nft {
  private readonly netns: string
  private readonly scratchDir: string
  private count = 0

  constructor(netns: string, scratchDir: string) {
    this.netns = netns
    this.scratchDir = scratchDir
  }

  /** One script is one transaction: all of it or nothing. */
  async apply(script: string): Promise<void> {
    if (script === '') return
    const file = join(this.scratchDir, `script-${process.pid}-${this.count++}.nft`)
    writeFileSync(file, script, { mode: 0o600 })
    try {
      await this.run(['-f', file])
    } finally {
      rmSync(file, { force: true })
    }
  }

  /** Our table as it is; undefined when there is none that we understand. */
  async observe(): Promise<ObservedRules | undefined> {
    const tables = await this.run(['-j', 'list', 'tables'])
    if (!tables.includes(`"${TABLE}"`)) return undefined
    return parseRules(JSON.parse(await this.run(['-j', 'list', 'table', 'inet', TABLE])))
  }

  /** The entries that `nft -j list WHAT` prints. */
  async list(...what: readonly string[]): Promise<unknown[]> {
    const { nftables } = JSON.parse(await this.run(['-j', 'list', ...what])) as { nftables: unknown[] } // nft's own JSON
    return nftables
  }

  private async run(args: readonly string[]): Promise<string> {
    const ended = Promise.withResolvers<number>()
    // A child is born into the namespace that this thread is in at the moment of the call.
    const child = inNamespace('net', this.netns, () =>
      spawn('nft', args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: NFT_TIMEOUT_MS,
        killSignal: 'SIGKILL',
      }),
    )
    child.on('error', ended.reject)
    child.on('close', (code) => ended.resolve(code ?? -1))
    // Without a process there may be no pipes either.
    if (child.pid === undefined) await ended.promise
    const output: Buffer[] = []
    const errors: Buffer[] = []
    let bytes = 0
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > NFT_OUTPUT_BYTES_MAX) child.kill('SIGKILL')
      else output.push(chunk)
    })
    child.stderr.on('data', (chunk: Buffer) => errors.length < 64 && errors.push(chunk))
    const code = await ended.promise
    if (code !== 0)
      throw new Error(
        `"nft ${args.join(' ')}" ended with ${code}: ${Buffer.concat(errors).toString('utf8').slice(0, 2_000)}`,
      )
    return Buffer.concat(output).toString('utf8')
  }
}
