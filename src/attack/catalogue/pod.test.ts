import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { judge, type PodTrial } from './pod-program.ts'
import { podAttacks } from './pod.ts'

const trial = (change: Partial<PodTrial>): PodTrial => ({
  controls: [{ what: 'works', works: true }],
  tried: [],
  escapes: [],
  unable: [],
  filtered: false,
  gvisor: false,
  ...change,
})
const seenBy = 'mount view'

test('the program has every attack of the catalogue, and the catalogue every one of the program', () => {
  const program = readFileSync(new URL('../programs/pod.py', import.meta.url), 'utf8')
  const written = [...program.matchAll(/^(?:@attack|try_unshare)\("([^"]+)"/gm)].map(([, id]) => id)
  assert.deepEqual(written.toSorted(), podAttacks.map(({ id }) => id).toSorted())
})

test('the layer follows from what was answered', () => {
  const by = (answer: string, change: Partial<PodTrial> = {}) => {
    const outcome = judge(trial({ tried: [{ what: 'x', answer }], ...change }), { seenBy })
    return outcome.kind === 'blocked' ? outcome.by : outcome.kind
  }
  assert.deepEqual(
    {
      readOnly: by('EROFS'),
      absent: by('ENOENT'),
      unknownCall: by('ENOSYS'),
      filtered: by('EPERM', { filtered: true }),
      either: by('EPERM'),
      foreign: by('EACCES'),
      gvisor: by('EPERM', { gvisor: true }),
      words: by('12 read'),
    },
    {
      readOnly: 'mount view',
      absent: 'mount view',
      unknownCall: 'system call filter',
      filtered: 'system call filter',
      either: 'system call filter or user namespace',
      foreign: 'user namespace',
      gvisor: 'application kernel',
      words: 'mount view',
    },
  )
})

test('one escape outweighs everything that was blocked, but for what only gVisor’s own kernel did', () => {
  const tried = [{ what: 'x', answer: 'EPERM' }]
  const done = { tried, escapes: ['it worked'] }
  assert.equal(judge(trial(done), { seenBy }).kind, 'escaped')
  assert.equal(judge(trial(done), { seenBy, ofKernel: true }).kind, 'escaped')
  assert.equal(judge(trial({ ...done, gvisor: true }), { seenBy }).kind, 'escaped')
  assert.deepEqual(judge(trial({ ...done, gvisor: true }), { seenBy, ofKernel: true }), {
    kind: 'blocked',
    by: 'application kernel',
    evidence: 'gVisor did it in its own kernel: it worked',
  })
})

test('what could not be tried, or tried nothing, does not count as blocked', () => {
  assert.equal(
    judge(trial({ unable: ['no pty'], tried: [{ what: 'x', answer: 'EPERM' }] }), { seenBy }).kind,
    'untried',
  )
  assert.equal(judge(trial({}), { seenBy }).kind, 'untried')
})
