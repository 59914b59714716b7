import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ContainerError } from './container-error.ts'
import { resolveUser, type UserWish } from './user.ts'

const PASSWD =
  'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nhuge:x:70000:1::/:/bin/sh\nbad line\n'
const GROUP = 'root:x:0:\napp:x:1001:\nextra:x:1002:app,other\n'
const wish: UserWish = { imageUser: '', runAsNonRoot: false, supplementalGroups: [] }

test('an image without a user runs as root of the pod', () => {
  assert.deepEqual(resolveUser(wish, '', ''), { uid: 0, gid: 0, additionalGids: [], home: '/' })
})

test('a name is looked up in the image, with its groups and home', () => {
  assert.deepEqual(
    resolveUser({ ...wish, imageUser: 'app', fsGroup: 3000, supplementalGroups: [5, 1001] }, PASSWD, GROUP),
    {
      uid: 1000,
      gid: 1001,
      additionalGids: [5, 1002, 3000],
      home: '/home/app',
    },
  )
})

test('a uid without an entry has the group 0', () => {
  assert.deepEqual(resolveUser({ ...wish, imageUser: '42' }, PASSWD, GROUP), {
    uid: 42,
    gid: 0,
    additionalGids: [],
    home: '/',
  })
})

test('runAsUser wins over the image, and takes the group of its own entry', () => {
  assert.deepEqual(resolveUser({ ...wish, imageUser: 'nobody:root', runAsUser: 1000 }, PASSWD, GROUP), {
    uid: 1000,
    gid: 1001,
    additionalGids: [1002],
    home: '/home/app',
  })
})

test('user and group of the image may both be names or numbers', () => {
  assert.equal(resolveUser({ ...wish, imageUser: 'app:extra' }, PASSWD, GROUP).gid, 1002)
  assert.equal(resolveUser({ ...wish, imageUser: '7:8' }, PASSWD, GROUP).gid, 8)
})

for (const [imageUser, why] of [
  ['nobody', 'unable to find user'],
  ['app:nogroup', 'unable to find group'],
  ['huge', 'unable to find user'],
  ['70000', 'unable to find user'],
  ['-1', 'unable to find user'],
] as const)
  test(`the image user "${imageUser}" is refused`, () => {
    assert.throws(() => resolveUser({ ...wish, imageUser }, PASSWD, GROUP), { message: new RegExp(why) })
  })

test('runAsNonRoot refuses root, however it is written', () => {
  for (const imageUser of ['', '0', 'root', '00'])
    assert.throws(
      () => resolveUser({ ...wish, imageUser, runAsNonRoot: true }, PASSWD, GROUP),
      /runAsNonRoot/,
    )
  assert.throws(
    () => resolveUser({ ...wish, runAsUser: 0, runAsNonRoot: true }, PASSWD, GROUP),
    /runAsNonRoot/,
  )
  assert.equal(resolveUser({ ...wish, imageUser: 'app', runAsNonRoot: true }, PASSWD, GROUP).uid, 1000)
})

test('whatever is in the image, every id is within the range of the tenant', () => {
  const line = fc.tuple(
    fc.constantFrom('a', 'b', '', '__proto__'),
    fc.oneof(fc.string(), fc.integer().map(String)),
    fc.integer().map(String),
  )
  const file = fc.oneof(
    fc.string(),
    fc.array(line.map(([name, id, gid]) => `${name}:x:${id}:${gid}::/h:/s`)).map((l) => l.join('\n')),
  )
  fc.assert(
    fc.property(
      file,
      file,
      fc.oneof(fc.string(), fc.constantFrom('a', 'b:a', '__proto__', '1:b')),
      (passwd, group, imageUser) => {
        try {
          const { uid, gid, additionalGids } = resolveUser({ ...wish, imageUser }, passwd, group)
          for (const id of [uid, gid, ...additionalGids])
            assert.ok(Number.isInteger(id) && id >= 0 && id <= 65_535)
          assert.ok(additionalGids.length <= 128)
        } catch (error) {
          assert.ok(error instanceof ContainerError, String(error))
        }
      },
    ),
  )
})
