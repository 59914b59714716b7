import { execFile } from 'node:child_process'
import { chmod, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type ImageSource, pushImage } from '../../samples/images/push.ts'

/**
 * Images of servers as their makers usually publish them, built from Debian's packages: they start as root, hand
 * directories to a user with a fixed number and drop to it, each in the way that is customary for it.
 */

const run = promisify(execFile)
const TAR_BYTES_MAX = 512 * 1024 * 1024
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const POSTGRES_BIN = '/usr/lib/postgresql/15/bin'

/** What every image has below it: a C library, a shell and the usual tools. */
const USERLAND =
  words(`libc6 libc-bin libcrypt1 libgcc-s1 dash bash coreutils findutils grep sed util-linux gosu
  base-passwd libacl1 libattr1 libselinux1 libpcre2-8-0 libtinfo6 libgmp10 libcap-ng0 libuuid1 libblkid1 libmount1
  libsmartcols1 libsystemd0 libcap2 libzstd1 liblz4-1 liblzma5 zlib1g libssl3 libgcrypt20 libgpg-error0`)
const NGINX = words('nginx nginx-common')
const REDIS = words(
  `redis-server redis-tools libjemalloc2 liblzf1 liblua5.1-0 lua-cjson lua-bitop libatomic1 libhiredis0.14
   libstdc++6`,
)
const POSTGRES = words(
  `postgresql-15 postgresql-client-15 libpq5 libreadline8 libldap-2.5-0 libsasl2-2 libgssapi-krb5-2 libkrb5-3
   libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1 libpam0g libaudit1 libxml2 libicu72 libstdc++6 libxslt1.1
   libdb5.3 libgnutls30 libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 libffi8 tzdata`,
)

/** Users as the images' makers number them, beside those of Debian. */
const USERS = `nginx:x:101:101:nginx:/nonexistent:/usr/sbin/nologin
redis:x:999:999:redis:/data:/usr/sbin/nologin
postgres:x:70:70:postgres:/var/lib/postgresql:/bin/bash
`
const GROUPS = 'nginx:x:101:\nredis:x:999:\npostgres:x:70:\nshared:x:3000:redis\n'

const NGINX_SITE = `server {
  listen 80 default_server;
  root /usr/share/nginx/html;
  location /who { return 200 "$hostname\\n"; }
}
`

/** The master process stays root, workers become the user that the configuration names. */
const NGINX_ENTRYPOINT = `#!/bin/sh
set -e
echo "built at start by $(id -u)" > /usr/share/nginx/html/index.html
exec "$@"
`

/** Hands its directory over, then becomes redis by setpriv. */
const REDIS_ENTRYPOINT = `#!/bin/sh
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis {} +
  exec setpriv --reuid=redis --regid=redis --init-groups -- "$0" "$@"
fi
umask 0077
exec "$@"
`

/** Hands its directory over, becomes postgres by gosu, makes a database with a temporary server, then serves. */
const POSTGRES_ENTRYPOINT = `#!/usr/bin/env bash
set -Eeuo pipefail
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 00700 "$PGDATA"
  chmod 03775 /var/run/postgresql
  find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres {} +
  exec gosu postgres "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb -D "$PGDATA" --username=postgres --auth-host=scram-sha-256 --pwfile=<(printf '%s\\n' "$POSTGRES_PASSWORD")
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
  psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres -c 'CREATE DATABASE app'
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@" -c listen_addresses='*'
`

/** Builds and pushes `nginx:1`, `redis:1`, `redis:user` (with a USER of the image's own) and `postgres:1`. */
export async function buildStockImages(registry: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'bulkhead-stock-'))
  try {
    const packages = join(work, 'packages')
    await mkdir(packages)
    const wanted = [...new Set([...USERLAND, ...NGINX, ...REDIS, ...POSTGRES])]
    await run('apt-get', ['download', '-q', ...wanted], { cwd: packages })
    const files = await readdir(packages)
    const unpack = async (name: string, list: readonly string[]) => {
      const root = join(work, name)
      await mkdir(root)
      for (const each of list) {
        const file = files.find((f) => f.startsWith(`${each}_`))
        if (file === undefined) throw new Error(`Debian has no package "${each}"`)
        await run('dpkg-deb', ['-x', join(packages, file), root])
      }
      for (const dir of ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/info'])
        await rm(join(root, dir), { recursive: true, force: true })
      return root
    }

    const base = await unpack('base', USERLAND)
    await skeleton(base)
    const userland = await tar(base)
    const push = (repository: string, tag: string, layer: Buffer, config: ImageSource['config']) =>
      pushImage(registry, repository, tag, { layers: [userland, layer], config })

    const nginx = await unpack('nginx', NGINX)
    await entrypoint(nginx, NGINX_ENTRYPOINT)
    const settings = join(nginx, 'etc/nginx/nginx.conf')
    await writeFile(settings, (await readFile(settings, 'utf8')).replace('user www-data;', 'user nginx;'))
    await writeFile(join(nginx, 'etc/nginx/sites-enabled/default'), NGINX_SITE)
    await mkdir(join(nginx, 'usr/share/nginx/html'), { recursive: true })
    await logsToOutput(nginx)
    await push('nginx', '1', await tar(nginx), {
      Entrypoint: ['/docker-entrypoint.sh'],
      Cmd: ['nginx', '-g', 'daemon off;'],
      Env: [`PATH=${PATH}`],
      StopSignal: 'SIGQUIT',
      ExposedPorts: { '80/tcp': {} },
    })

    const redis = await unpack('redis', REDIS)
    await entrypoint(redis, REDIS_ENTRYPOINT)
    await mkdir(join(redis, 'data'))
    await chown(join(redis, 'data'), 999, 999)
    // Somebody's leftover: it makes whoever runs it root, where the kernel lets it.
    await copyFile(join(base, 'usr/bin/id'), join(redis, 'usr/bin/id-as-root'))
    await chmod(join(redis, 'usr/bin/id-as-root'), 0o4755)
    const redisLayer = await tar(redis)
    const redisConfig = {
      Entrypoint: ['/docker-entrypoint.sh'],
      Cmd: ['redis-server', '--protected-mode', 'no'],
      Env: [`PATH=${PATH}`],
      WorkingDir: '/data',
    }
    await push('redis', '1', redisLayer, redisConfig)
    await push('redis', 'user', redisLayer, { ...redisConfig, User: 'redis:shared' })
    await push('redis', 'stranger', redisLayer, { ...redisConfig, User: 'nobody-there' })

    const postgres = await unpack('postgres', POSTGRES)
    // Code for a compiler that is not there; the server does without.
    await rm(join(postgres, 'usr/lib/postgresql/15/lib/bitcode'), { recursive: true, force: true })
    await entrypoint(postgres, POSTGRES_ENTRYPOINT)
    await push('postgres', '1', await tar(postgres), {
      Entrypoint: ['/docker-entrypoint.sh'],
      Cmd: ['postgres'],
      Env: [`PATH=${POSTGRES_BIN}:${PATH}`, 'PGDATA=/var/lib/postgresql/data', 'LANG=C.UTF-8'],
      StopSignal: 'SIGINT',
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function skeleton(root: string): Promise<void> {
  for (const dir of words('bin etc root run usr/bin var/run var/log proc sys dev home'))
    await mkdir(join(root, dir), { recursive: true })
  await mkdir(join(root, 'tmp'), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  const master = (file: string) => readFile(join(root, 'usr/share/base-passwd', file), 'utf8')
  await writeFile(join(root, 'etc/passwd'), `${await master('passwd.master')}${USERS}`)
  await writeFile(join(root, 'etc/group'), `${await master('group.master')}${GROUPS}`)
  await writeFile(join(root, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n')
}

async function entrypoint(root: string, script: string): Promise<void> {
  await writeFile(join(root, 'docker-entrypoint.sh'), script)
  await chmod(join(root, 'docker-entrypoint.sh'), 0o755)
}

async function logsToOutput(root: string): Promise<void> {
  const dir = join(root, 'var/log/nginx')
  await mkdir(dir, { recursive: true })
  await run('ln', ['-sf', '/dev/stdout', join(dir, 'access.log')])
  await run('ln', ['-sf', '/dev/stderr', join(dir, 'error.log')])
}

/** With owners and set-id bits as they are. */
async function tar(root: string): Promise<Buffer> {
  const { stdout } = await run(
    'tar',
    ['--create', '--sort=name', '--mtime=@0', '--numeric-owner', '--directory', root, '.'],
    { encoding: 'buffer', maxBuffer: TAR_BYTES_MAX },
  )
  return stdout
}

function words(text: string): readonly string[] {
  return text.split(/\s+/)
}
