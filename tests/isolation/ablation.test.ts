import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SHARE } from '../ablation/ablations.ts'
import { problemsOf, runAblation } from '../ablation/run.ts'
import { platformMissing } from '../testkit/machine.ts'

/** A share of what tools/ablation does; all of it takes a quarter of an hour. */

for (const ablation of SHARE) {
  const name =
    ablation.comesThrough === undefined
      ? `without ${ablation.off}, the other layer stops every attack`
      : `without ${ablation.off}, attacks come through, so it is they who stop them`
  test(name, { skip: platformMissing }, async () => {
    const ran = await runAblation(ablation, { instance: 'abc', slot: 97, progress: () => {} })
    assert.deepEqual(problemsOf(ran), [])
    const untried = ran.results.filter(({ outcome }) => outcome.kind === 'untried')
    assert.deepEqual(
      untried.map(({ id, outcome }) => ({ id, outcome })),
      [],
    )
  })
}
