import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ContainerError } from './container-error.ts'
import { expandAddresses, renderArgs, renderCwd, renderEnvironment } from './process.ts'
import { container, image, input } from './sample-input.testkit.ts'

const none = new Map<string, string>()
const bare = { ...container, env: [], args: [], command: [] }

test('command and args replace entrypoint and cmd as in the Pod API', () => {
  assert.deepEqual(renderArgs(bare, image, none), ['/docker-entrypoint.sh', 'serve'])
  assert.deepEqual(renderArgs({ ...bare, args: ['a'] }, image, none), ['/docker-entrypoint.sh', 'a'])
  assert.deepEqual(renderArgs({ ...bare, command: ['c'] }, image, none), ['c'])
  assert.deepEqual(renderArgs({ ...bare, command: ['c'], args: ['a'] }, image, none), ['c', 'a'])
  assert.throws(() => renderArgs(bare, { ...image, entrypoint: [], cmd: [] }, none), ContainerError)
})

test('only references to the pod’s addresses are replaced, and only after they are known', () => {
  const variables = new Map([['IP', '10.0.0.1']])
  assert.equal(expandAddresses('a $(IP) $(OTHER) $$(IP) $(', variables), 'a 10.0.0.1 $(OTHER) $10.0.0.1 $(')
  assert.equal(expandAddresses('$('.repeat(100_000), variables).length, 200_000)
  const env = renderEnvironment(
    {
      ...bare,
      env: [
        { name: 'EARLY', value: '$(IP)' },
        { name: 'IP', fromPod: 'podIP' },
        { name: 'LATE', value: '$(IP)' },
      ],
    },
    image,
    { hostname: 'h', user: input.user, addresses: input.addresses },
  )
  assert.deepEqual(Object.fromEntries(env), {
    PATH: '/usr/bin:/bin',
    HOSTNAME: 'h',
    HOME: '/home/app',
    FROM_IMAGE: '1',
    NAME: 'image',
    EARLY: '$(IP)',
    IP: '10.64.0.9',
    LATE: '10.64.0.9',
  })
})

test('the working directory is absolute and never climbs', () => {
  assert.equal(renderCwd({ ...bare, workingDir: '/a//b/./c/' }, image), '/a/b/c')
  assert.equal(renderCwd(bare, { ...image, workingDir: 'relative' }), '/relative')
  assert.equal(renderCwd(bare, { ...image, workingDir: '' }), '/')
  for (const workingDir of ['/a/../..', '..', '/\0'])
    assert.throws(() => renderCwd({ ...bare, workingDir }, image), ContainerError)
})
