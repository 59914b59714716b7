import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { busyboxImage, tar, unpackPackages, webImage } from '../../../samples/images/build.ts'
import { type ImageSource, pushImage } from '../../../samples/images/push.ts'

/**
 * The images that upstream's tests name. Upstream's own programs come from its sources; what its images take
 * from other distributions comes from Debian's packages.
 */

/** What is in the folder with `e2e.test`, of upstream's `test/images`. */
export const IMAGE_PROGRAMS: readonly string[] = [
  'agnhost',
  'localhost.crt',
  'localhost.key',
  'nnp',
  'consumer',
  'consume-cpu',
  'regression-issue-74839',
]

/** What tests call in agnhost's image besides itself: curl, dig, nc, ip, getent, iperf, bash. */
const USERLAND =
  `libc6 libc-bin bash coreutils libtinfo6 libacl1 libattr1 libselinux1 libpcre2-8-0 libgmp10 libgcc-s1 libstdc++6
  curl libcurl4 libnghttp2-14 libidn2-0 librtmp1 libssh2-1 libpsl5 libssl3 libgssapi-krb5-2 libkrb5-3 libk5crypto3
  libkrb5support0 libcom-err2 libkeyutils1 libldap-2.5-0 libsasl2-2 libzstd1 libbrotli1 zlib1g libunistring2
  libgnutls30 libhogweed6 libnettle8 libp11-kit0 libffi8 libtasn1-6 bind9-dnsutils bind9-host bind9-libs libuv1
  libjson-c5 libjemalloc2 libfstrm0 libprotobuf-c1 libmaxminddb0 liblmdb0 libxml2 libicu72 liblzma5 libedit2 libbsd0 libmd0
  netcat-openbsd iproute2 libelf1 libbpf1 libmnl0 libcap2 libtirpc3 libdb5.3 libxtables12 hostname iperf`.split(
    /\s+/,
  )

const BASH = ['bash', 'libc6', 'libtinfo6']

/** With the user of agnhost's image that tests of groups look for. */
const PASSWD = `root:x:0:0:root:/root:/bin/sh
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
`
const GROUP = `root:x:0:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
`

/** Debian's programs before busybox's of the same name. */
const AGNHOST_PATH = '/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/'

/** Builds and pushes all of them. Requires: `programs` holds IMAGE_PROGRAMS. */
export async function pushUpstreamImages(registry: string, programs: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-upstream-images-'))
  const layer = async (name: string, files: Readonly<Record<string, string>>): Promise<Buffer> => {
    const root = join(work, name)
    for (const [path, program] of Object.entries(files)) {
      await mkdir(join(root, path, '..'), { recursive: true })
      await copyFile(join(programs, program), join(root, path))
      await chmod(join(root, path), path.endsWith('/nnp') ? 0o6755 : 0o755)
    }
    if (name === 'agnhost') {
      await mkdir(join(root, 'uploads'))
      await mkdir(join(root, 'etc'))
      await writeFile(join(root, 'etc/passwd'), PASSWD)
      await writeFile(join(root, 'etc/group'), GROUP)
      await symlink('agnhost', join(root, 'agnhost-2'))
    }
    return tar(root)
  }
  try {
    const userland = join(work, 'userland', 'root')
    await unpackPackages(userland, USERLAND)
    // Busybox's shell would take its own programs before those of the same name on the PATH.
    await rm(join(userland, 'bin/sh'), { force: true })
    await symlink('bash', join(userland, 'bin/sh'))
    // What Debian's alternatives would do.
    await symlink('nc.openbsd', join(userland, 'bin/nc'))
    const base = await tar(userland)
    const agnhost = await layer('agnhost', {
      agnhost: 'agnhost',
      'localhost.crt': 'localhost.crt',
      'localhost.key': 'localhost.key',
    })
    const env = [`PATH=${AGNHOST_PATH}`]
    const pet = {
      layers: [base, agnhost],
      config: { Entrypoint: ['/agnhost'], Cmd: ['test-webserver'], Env: env },
    }
    const agnhostImage = {
      ...pet,
      config: { ...pet.config, Cmd: ['pause'], ExposedPorts: ports(80, 5000, 8080, 8081, 9376) },
    }
    const applets = await busyboxImage(join(work, 'busybox'))
    const [shell = Buffer.alloc(0)] = applets.layers
    const bash = join(work, 'bash', 'root')
    await unpackPackages(bash, BASH)
    // Debian's busybox drops variables with names such as `a-b`, which tests look for with a `sh` of the PATH. Those that ask for
    // /bin/sh look for its words.
    for (const path of ['bin/sh', 'usr/local/bin/sh']) await rm(join(bash, path), { force: true })
    await symlink('/bin/bash', join(bash, 'usr/local/bin/sh'))
    const busybox = { ...applets, layers: [shell, await tar(bash)] }
    const web = await webImage(join(work, 'web', 'root'), '/usr/share/nginx/html')
    const resourceConsumer = await layer('consumer', { consumer: 'consumer', 'consume-cpu': 'consume-cpu' })
    const images: readonly (readonly [string, string, ImageSource])[] = [
      ['agnhost', '2.55', agnhostImage],
      ['agnhost', '2.63.0', agnhostImage],
      ['kitten', '1.8', await withData(join(work, 'kitten'), pet)],
      ['nautilus', '1.8', await withData(join(work, 'nautilus'), pet)],
      ['glibc-dns-testing', '2.0.0', { layers: [base], config: { Cmd: ['/bin/bash'], Env: env } }],
      ['pause', '3.10.2', { layers: [agnhost], config: { Entrypoint: ['/agnhost', 'pause'] } }],
      ['busybox', '1.37.0-1', busybox],
      ['nonroot', '1.5', { ...busybox, config: { ...busybox.config, User: '1234' } }],
      [
        'nonewprivs',
        '1.4',
        {
          layers: [shell, await layer('nnp', { 'usr/local/bin/nnp': 'nnp' })],
          config: { Cmd: ['nnp'], Env: busybox.config.Env ?? [] },
        },
      ],
      [
        'resource-consumer',
        '1.14',
        { layers: [shell, resourceConsumer], config: { Entrypoint: ['/consumer'] } },
      ],
      [
        'regression-issue-74839',
        '1.4',
        {
          layers: [await layer('regression', { 'regression-issue-74839': 'regression-issue-74839' })],
          config: { Entrypoint: ['/regression-issue-74839'] },
        },
      ],
      ['nginx', '1.15-4', web],
      ['nginx', '1.27-0', web],
    ]
    for (const [repository, tag, image] of images) await pushImage(registry, repository, tag, image)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** What tells the two versions of a rolling update apart. */
async function withData(root: string, image: ImageSource): Promise<ImageSource> {
  await mkdir(root, { recursive: true })
  const picture = `${root.slice(root.lastIndexOf('/') + 1)}.jpg`
  await writeFile(join(root, 'data.json'), `{\n"image": "${picture}"\n}\n`)
  await writeFile(join(root, picture), '')
  return { ...image, layers: [...image.layers, await tar(root)] }
}

function ports(...numbers: readonly number[]): Record<string, object> {
  return Object.fromEntries(numbers.map((port) => [`${port}/tcp`, {}]))
}
