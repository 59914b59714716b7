import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Result } from '../../src/attack/index.ts'
import type { Ablation } from './ablations.ts'
import { renderAblations } from './report.ts'
import type { AblationRun } from './run.ts'

const VERSION = { commit: '0123456789ab', machine: 'Linux 6.18, x64' }

function result(id: string, outcome: Result['outcome']): Result {
  return {
    id,
    title: '',
    family: 'kernel',
    vector: 'kernel',
    standards: [],
    attacker: { name: 'a', isolationClass: 'shared' },
    victim: { name: 'b', isolationClass: 'shared' },
    outcome,
    tookMs: 1,
  }
}

function run(ablation: Partial<Ablation> & { off: string }, results: readonly Result[]): AblationRun {
  return { ablation: { how: 'how', edits: [], classes: 'shared,shared', ...ablation }, results }
}

const stopped = (by: string, evidence = 'EPERM') => ({ kind: 'blocked', by, evidence }) as const
const through = { kind: 'escaped', evidence: 'done' } as const

test('the page begins with what stopped the attacks without each layer, and links to how', () => {
  const page = renderAblations(
    [
      run({ off: 'nothing' }, [result('one', stopped('filter')), result('two', stopped('namespace'))]),
      run({ off: "layer A, and B's", accepted: { two: 'because | of <b>' } }, [
        result('one', stopped('namespace')),
        result('two', through),
      ]),
      run({ off: 'both', comesThrough: ['one'] }, [result('one', through), result('two', stopped('x'))]),
    ],
    VERSION,
  )
  assert.match(page, /3 copies of commit `0123456789ab`, 6 attacks, on Linux 6\.18, x64\./)
  const rows = page.split('\n').filter((line) => line.startsWith('|'))
  assert.ok(
    rows.includes("| kernel | [layer A, and B's](#without-layer-a-and-bs) | 2 | 1 | namespace (1) | `two` |"),
    page,
  )
  assert.ok(rows.includes('| kernel | [both](#without-both) | `one` | 1 of 2 |'), page)
  assert.ok(
    rows.includes("| `two` | [layer A, and B's](#without-layer-a-and-bs) | because \\| of &lt;b> |"),
    page,
  )
  assert.ok(rows.includes('| kernel | `one` | filter | namespace | EPERM |'), page)
  assert.ok(page.includes("## Without: layer A, and B's\n"))
})

test('a layer that was not tried, and an escape that nobody accepted, are said in bold', () => {
  const page = renderAblations(
    [
      { ...run({ off: 'A' }, []), problem: 'the platform does not start: |x|' },
      run({ off: 'B' }, [result('one', through)]),
      run({ off: 'C', comesThrough: ['one'] }, [result('one', stopped('D'))]),
    ],
    VERSION,
  )
  assert.match(page, /\[A\]\(#without-a\) \| 0 \| 0 \| \*\*not tried\*\*/)
  assert.match(page, /\*\*Not tried:\*\* the platform does not start: \\\|x\\\|/)
  assert.match(page, /\| `one` \| \[B\]\(#without-b\) \| \*\*it is not\*\* \|/)
  assert.match(page, /\[C\]\(#without-c\) \| \*\*nothing\*\* \| 1 of 1 \|/)
})

test('what one run found and another did not is told by the worse, without names that change', () => {
  const page = renderAblations(
    [
      run({ off: 'A', accepted: { one: 'why' } }, [
        result('one', stopped('x')),
        result('one', { kind: 'escaped', evidence: `canary-0123456789abcdef of t0123456789` }),
      ]),
    ],
    VERSION,
  )
  assert.match(page, /\*\*nobody\*\*: why \| CANARY of NAME \|/)
})
