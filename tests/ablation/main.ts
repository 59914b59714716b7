import { writeFileSync } from 'node:fs'
import { arch, release } from 'node:os'
import { parseArgs } from 'node:util'
import { ABLATIONS, type Ablation } from './ablations.ts'
import { Kept, observeVersion } from './kept.ts'
import { renderAblations } from './report.ts'
import { type AblationRun, problemsOf, runAblation } from './run.ts'

/** More would only wait for each other on a small machine. */
const LANES_MAX = 4

const USAGE = `Attacks copies of the platform that lack one layer each, on this machine. Needs root.

tools/ablation [--off LAYER]... [--output FILE] [--again] [--lanes NUMBER] [--instance NAME] [--slot NUMBER] [--list]

  --off LAYER     only without this layer, as --list names it
  --output FILE   writes the page (docs/ablation.md) there
  --again         does not take what an earlier run over the same sources has found
  --lanes NUMBER  platforms at the same time, each with an instance and a slot of its own`

const { values } = parseArgs({
  options: {
    off: { type: 'string', multiple: true, default: [] },
    output: { type: 'string', default: '' },
    again: { type: 'boolean', default: false },
    lanes: { type: 'string', default: '2' },
    instance: { type: 'string', default: 'abl' },
    slot: { type: 'string', default: '126' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
process.exitCode = await main()

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  if (values.list) {
    for (const { off, how } of ABLATIONS) console.log(`${off}\n    ${how}`)
    return 0
  }
  const unknown = values.off.find((off) => !ABLATIONS.some((ablation) => ablation.off === off))
  const lanes = Number(values.lanes)
  if (unknown !== undefined) return wrong(`"${unknown}" is none of the layers that --list names`)
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > LANES_MAX)
    return wrong(`--lanes is a number from 1 to ${LANES_MAX}`)
  if (!/^[a-z][a-z0-9]{0,2}$/.test(values.instance))
    return wrong('--instance is one to three letters and digits; each lane adds a digit')
  if (process.getuid?.() !== 0) return wrong('It starts platforms, which needs root')

  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.on(name, () => {
      if (!interrupt.signal.aborted) console.error('interrupted: ending what runs, and removing it')
      interrupt.abort(new Error('interrupted'))
    })
  const version = observeVersion()
  const chosen = ABLATIONS.filter(({ off }) => values.off.length === 0 || values.off.includes(off))
  const runs = await runAll(chosen, lanes, new Kept(version), interrupt.signal)
  if (interrupt.signal.aborted) {
    console.error(`${runs.size} of ${chosen.length} are done; the same command goes on with the others`)
    return 130
  }
  const inOrder = chosen.flatMap((ablation) => runs.get(ablation) ?? [])
  const { commit } = version
  const page = renderAblations(inOrder, { commit, machine: `Linux ${release()}, ${arch()}` })
  if (values.output === '') console.log(page)
  else writeFileSync(values.output, page)
  const problems = inOrder.flatMap(problemsOf)
  for (const problem of problems) console.error(problem)
  return problems.length === 0 ? 0 : 1
}

function wrong(what: string): number {
  console.error(`${what}.\n\n${USAGE}`)
  return 2
}

async function runAll(
  ablations: readonly Ablation[],
  lanes: number,
  kept: Kept,
  signal: AbortSignal,
): Promise<Map<Ablation, AblationRun>> {
  const runs = new Map<Ablation, AblationRun>()
  if (!values.again)
    for (const ablation of ablations) {
      const found = kept.find(ablation)
      // What was found is of these attacks on these sources; how it is judged may have changed since.
      if (found) runs.set(ablation, { ...found, ablation })
    }
  if (runs.size > 0) console.error(`${runs.size} of ${ablations.length} are known from before`)
  const left = ablations.filter((ablation) => !runs.has(ablation))
  let next = 0
  const lane = async (number: number) => {
    while (next < left.length && !signal.aborted) {
      const ablation = left[next++]
      if (!ablation) return
      try {
        const ran = await runAblation(ablation, {
          instance: `${values.instance}${number}`,
          slot: Number(values.slot) + number,
          progress: () => {},
          signal,
        })
        runs.set(ablation, ran)
        // What could not be tried is tried again the next time.
        if (ran.problem === undefined) kept.keep(ran)
        console.error(`${runs.size}/${ablations.length} ${summaryOf(ran)}`)
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)))
  return runs
}

function summaryOf(ran: AblationRun): string {
  const problems = problemsOf(ran)
  const tried = new Set(ran.results.map(({ id }) => id)).size
  return `without ${ran.ablation.off}: ${tried} attacks, ${problems.length === 0 ? 'as expected' : problems.join('; ')}`
}
