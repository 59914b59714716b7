import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ensureIfbModule } from './ifb-module.ts'

const root = mkdtempSync(join(tmpdir(), 'ifb-module-'))
after(() => rmSync(root, { recursive: true }))

function loadsOn(
  machine: { modules?: boolean; loaded?: boolean; modprobe?: string },
  run?: () => void,
): string[] {
  const [proc, sys] = [join(root, 'proc'), join(root, 'sys')]
  rmSync(root, { recursive: true })
  mkdirSync(`${proc}/sys/kernel`, { recursive: true })
  mkdirSync(`${sys}/module${machine.loaded ? '/ifb' : ''}`, { recursive: true })
  if (machine.modules) writeFileSync(`${proc}/modules`, '')
  if (machine.modprobe !== undefined) writeFileSync(`${proc}/sys/kernel/modprobe`, `${machine.modprobe}\n`)
  const loads: string[] = []
  ensureIfbModule({
    proc,
    sys,
    run: (program, args) => {
      loads.push([program, ...args].join(' '))
      run?.()
    },
  })
  return loads
}

test('the module is loaded without links of its own, and only where it is one and not there yet', () => {
  const modprobe = '/sbin/modprobe'
  assert.deepEqual(loadsOn({ modules: true, modprobe }), ['/sbin/modprobe -q ifb numifbs=0'])
  assert.deepEqual(loadsOn({ modules: true, loaded: true, modprobe }), [])
  assert.deepEqual(loadsOn({ modprobe }), [], 'a kernel without modules')
  assert.deepEqual(loadsOn({ modules: true }), [], 'a kernel that loads none by itself')
  assert.deepEqual(loadsOn({ modules: true, modprobe: '' }), [], 'a machine that forbids it')
})

test('a module that cannot be loaded is no error here', () => {
  const fail = () => {
    throw new Error('no such module')
  }
  assert.equal(loadsOn({ modules: true, modprobe: '/sbin/modprobe' }, fail).length, 1)
})
