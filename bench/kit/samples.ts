import { cpus, release, totalmem } from 'node:os'
import { readFileSync } from 'node:fs'
import { renderTable } from '../../src/cli/index.ts'

/** The value below which `share` of the sorted values lie, by the nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const value = sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]
  if (value === undefined) throw new Error('There are no values to take a percentile of')
  return value
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

/** One measured thing: `values` are in `unit`; `against` is what it is divided by, by median. */
export type Row = { what: string; values: readonly number[]; against?: { what: string; goalMax?: number } }

/** Prints a table of everything measured in one run, with each ratio beside its reference and its goal. */
export function printRows(title: string, unit: string, rows: readonly Row[]): void {
  const medians = new Map(rows.map((row) => [row.what, row.values.length > 0 ? median(row.values) : NaN]))
  const number = (value: number) => (Number.isNaN(value) ? '-' : value.toFixed(value < 10 ? 2 : 1))
  console.log(`\n${title} (${unit})`)
  console.log(
    renderTable(
      ['WHAT', 'N', 'MIN', 'P50', 'P99', 'MAX', 'RATIO', 'GOAL'],
      rows.map(({ what, values, against }) => {
        const of = (share: number) => (values.length > 0 ? number(percentile(values, share)) : '-')
        const reference = against && medians.get(against.what)
        const ratio = reference === undefined ? NaN : medians.get(what)! / reference
        return [
          what,
          String(values.length),
          of(0),
          of(0.5),
          of(0.99),
          of(1),
          against && !Number.isNaN(ratio) ? `${ratio.toFixed(2)} x ${against.what}` : '',
          against?.goalMax === undefined || Number.isNaN(ratio)
            ? ''
            : `<= ${against.goalMax} ${ratio <= against.goalMax ? 'met' : 'MISSED'}`,
        ]
      }),
    ),
  )
}

/** One line about the machine, so that a number is never read without it. */
export function machineFacts(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')
  return `${cpus().length} x ${model}, ${(totalmem() / 2 ** 30).toFixed(1)} GiB, Linux ${release()}, Node ${process.version}, load ${load}`
}
