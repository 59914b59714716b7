import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type ImageSource, pushImage } from './push.ts'

const run = promisify(execFile)
const TAR_BYTES_MAX = 256 * 1024 * 1024

/** nginx as Debian packages it, with the libraries it is linked to. */
const WEB_PACKAGES = ['nginx', 'nginx-common', 'libc6', 'libcrypt1', 'libpcre2-8-0', 'libssl3', 'zlib1g']
const WEB_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Python with ctypes, ssl and its whole library, as Debian packages it. */
export const PYTHON_PACKAGES: readonly string[] = [
  'python3.11-minimal',
  'libpython3.11-minimal',
  'libpython3.11-stdlib',
  'libc6',
  'libssl3',
  'libexpat1',
  'zlib1g',
  'libffi8',
  'liblzma5',
  'libbz2-1.0',
  'libuuid1',
  'libcrypt1',
]

const PASSWD = `root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`
const GROUP = `root:x:0:
www-data:x:33:
nogroup:x:65534:
`

/**
 * Builds the sample images from Debian's packages and pushes them to a registry: `busybox:1` (a static shell with its
 * applets) and `web:1` (nginx with its libraries). Returns their digests by repository.
 */
export async function buildSampleImages(
  registry: string,
  progress: (text: string) => void,
): Promise<Record<string, string>> {
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-images-'))
  try {
    progress('busybox:1 from the package busybox-static')
    const busybox = await pushImage(registry, 'busybox', '1', await busyboxImage(join(work, 'busybox')))
    progress('web:1 from the package nginx')
    const web = await pushImage(registry, 'web', '1', await webImage(join(work, 'web')))
    return { busybox, web }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

export async function busyboxImage(root: string): Promise<ImageSource> {
  await skeleton(root)
  await addBusybox(join(root, 'bin'))
  return { layers: [await tar(root)], config: { Cmd: ['/bin/sh'], Env: [`PATH=${WEB_PATH}`] } }
}

/** Python and a static shell with its applets: what the programs of `bulkhead attack` run in. */
export async function buildPythonImage(registry: string, repository: string, tag: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-images-'))
  try {
    const root = join(work, 'python')
    await unpackPackages(root, PYTHON_PACKAGES)
    await symlink('python3.11', join(root, 'usr/bin/python3'))
    const config = { Cmd: ['/usr/bin/python3'], Env: [`PATH=${WEB_PATH}`, 'PYTHONDONTWRITEBYTECODE=1'] }
    return await pushImage(registry, repository, tag, { layers: [await tar(root)], config })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** nginx, which serves the files below `pages` on port 80. */
export async function webImage(root: string, pages = '/var/www/html'): Promise<ImageSource> {
  await unpackPackages(root, WEB_PACKAGES)
  await writeFile(join(root, 'etc/nginx/sites-enabled/default'), nginxSite(pages))
  for (const [name, target] of [
    ['access.log', '/dev/stdout'],
    ['error.log', '/dev/stderr'],
  ] as const)
    await symlink(target, join(root, 'var/log/nginx', name)).catch(() => {})
  await mkdir(join(root, pages), { recursive: true })
  await writeFile(join(root, pages, 'index.html'), '<!doctype html><title>nginx</title><h1>It works</h1>\n')
  return {
    layers: [await tar(root)],
    config: {
      Entrypoint: ['/usr/sbin/nginx'],
      Cmd: ['-g', 'daemon off;'],
      Env: [`PATH=${WEB_PATH}`],
      StopSignal: 'SIGQUIT',
      ExposedPorts: { '80/tcp': {} },
    },
  }
}

/** Debian's packages as they are, without documentation, and busybox for everything that they would need beside. */
export async function unpackPackages(root: string, names: readonly string[]): Promise<void> {
  const packages = join(root, '..', 'packages')
  await mkdir(packages, { recursive: true })
  await mkdir(root, { recursive: true })
  await run('apt-get', ['download', '-q', ...names], { cwd: packages })
  for (const file of await readdir(packages)) await run('dpkg-deb', ['-x', join(packages, file), root])
  await Promise.all(
    ['usr/share/doc', 'usr/share/man', 'usr/share/locale'].map((dir) =>
      rm(join(root, dir), { recursive: true, force: true }),
    ),
  )
  await skeleton(root)
  await addBusybox(join(root, 'usr/local/bin'))
  await symlink('/usr/local/bin/sh', join(root, 'bin/sh')).catch(() => {})
}

function nginxSite(pages: string): string {
  return `server {
  listen 80 default_server;
  root ${pages};
  index index.html;
  location /healthz { return 200 "ok\\n"; }
}
`
}

async function skeleton(root: string): Promise<void> {
  for (const dir of ['bin', 'etc', 'root', 'run', 'var/log', 'var/www/html', 'proc', 'sys', 'dev', 'home'])
    await mkdir(join(root, dir), { recursive: true })
  await mkdir(join(root, 'tmp'), { recursive: true, mode: 0o1777 })
  await run('chmod', ['1777', join(root, 'tmp')])
  await writeFile(join(root, 'etc/passwd'), PASSWD)
  await writeFile(join(root, 'etc/group'), GROUP)
}

async function addBusybox(bin: string): Promise<void> {
  await mkdir(bin, { recursive: true })
  await copyFile('/bin/busybox', join(bin, 'busybox'))
  const { stdout } = await run('/bin/busybox', ['--list'])
  for (const applet of stdout.trim().split('\n'))
    if (applet !== 'busybox') await symlink('busybox', join(bin, applet)).catch(() => {})
}

/** A tar archive that depends on the content only. */
export async function tar(root: string): Promise<Buffer> {
  const { stdout } = await run(
    'tar',
    [
      '--create',
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--directory',
      root,
      '.',
    ],
    { encoding: 'buffer', maxBuffer: TAR_BYTES_MAX },
  )
  return stdout
}
