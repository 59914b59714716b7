import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ContainerError } from './container-error.ts'
import { renderArgs, renderCwd, renderEnvironment } from './process.ts'
import { container, image, input } from './sample-input.testkit.ts'

const { addresses } = input
const bare = { ...container, env: [], args: [], command: [] }

test('command and args replace entrypoint and cmd as in the Pod API', () => {
  assert.deepEqual(renderArgs(bare, image, addresses), ['/docker-entrypoint.sh', 'serve'])
  assert.deepEqual(renderArgs({ ...bare, args: ['a'] }, image, addresses), ['/docker-entrypoint.sh', 'a'])
  assert.deepEqual(renderArgs({ ...bare, command: ['c'] }, image, addresses), ['c'])
  assert.deepEqual(renderArgs({ ...bare, command: ['c'], args: ['a'] }, image, addresses), ['c', 'a'])
  assert.throws(() => renderArgs(bare, { ...image, entrypoint: [], cmd: [] }, addresses), ContainerError)
})

test('addresses are put into values and arguments, and never into what the image says', () => {
  assert.deepEqual(
    renderArgs(
      { ...bare, args: ['$(podIP)', '$$(podIP)'] },
      { ...image, entrypoint: ['$(podIP)'] },
      addresses,
    ),
    ['$(podIP)', '10.64.0.9', '$(podIP)'],
  )
  const env = renderEnvironment(
    {
      ...bare,
      env: [
        { name: 'LITERAL', value: '$$(podIP)' },
        { name: 'IP', fromPod: 'podIP' },
        { name: 'URL', value: 'http://$(podIP)/' },
      ],
    },
    { ...image, env: [...image.env, 'RAW=$(podIP)'] },
    { hostname: 'h', user: input.user, addresses },
  )
  assert.deepEqual(Object.fromEntries(env), {
    PATH: '/usr/bin:/bin',
    HOSTNAME: 'h',
    HOME: '/home/app',
    FROM_IMAGE: '1',
    NAME: 'image',
    RAW: '$(podIP)',
    LITERAL: '$(podIP)',
    IP: '10.64.0.9',
    URL: 'http://10.64.0.9/',
  })
})

test('the working directory is absolute and never climbs', () => {
  assert.equal(renderCwd({ ...bare, workingDir: '/a//b/./c/' }, image), '/a/b/c')
  assert.equal(renderCwd(bare, { ...image, workingDir: 'relative' }), '/relative')
  assert.equal(renderCwd(bare, { ...image, workingDir: '' }), '/')
  for (const workingDir of ['/a/../..', '..', '/\0'])
    assert.throws(() => renderCwd({ ...bare, workingDir }, image), ContainerError)
})
