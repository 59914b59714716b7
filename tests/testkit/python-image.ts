import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { PYTHON_PACKAGES, tar, unpackPackages } from '../../samples/images/build.ts'
import type { ImageSource } from '../../samples/images/push.ts'

/** Debian's Kubernetes client for Python with all that it imports. */
const PACKAGES = [
  ...PYTHON_PACKAGES,
  'python3-kubernetes',
  'python3-certifi',
  'python3-dateutil',
  'python3-google-auth',
  'python3-cachetools',
  'python3-pyasn1',
  'python3-pyasn1-modules',
  'python3-rsa',
  'python3-requests',
  'python3-chardet',
  'python3-charset-normalizer',
  'python3-idna',
  'python3-urllib3',
  'python3-six',
  'python3-requests-oauthlib',
  'python3-oauthlib',
  'python3-websocket',
  'python3-yaml',
  'libyaml-0-2',
]

/** Makes a root directory in which `/usr/bin/python3` finds the client. */
export async function unpackPythonClient(root: string): Promise<void> {
  await unpackPackages(root, PACKAGES)
  await symlink('python3.11', join(root, 'usr/bin/python3'))
}

/** What runs in a pod as a program of a tenant that speaks with its API. */
export async function pythonImage(root: string): Promise<ImageSource> {
  await unpackPythonClient(root)
  return {
    layers: [await tar(root)],
    config: {
      Cmd: ['/usr/bin/python3'],
      Env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'PYTHONUNBUFFERED=1',
        'PYTHONDONTWRITEBYTECODE=1',
      ],
    },
  }
}
