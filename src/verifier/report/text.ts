import { styleText } from 'node:util'
import type { Report, VectorReport } from '../verify.ts'

/** The report for a terminal. Says everything in words, so that it reads the same without colours. */
export function renderReport(report: Report, { colours }: { colours: boolean }): string {
  const paint = (format: Parameters<typeof styleText>[0], text: string) =>
    colours ? styleText(format, text, { validateStream: false }) : text
  const lines: string[] = [`Observed at ${report.observedAt}`]
  for (const tenant of report.tenants)
    lines.push(
      `  tenant ${tenant.name}: class ${tenant.isolationClass}, ${tenant.pods} pods, ${tenant.processes} processes`,
    )
  for (const [pair, vectors] of byPair(report.vectors)) {
    lines.push('', paint('bold', pair))
    for (const vector of vectors) {
      const mark = {
        holds: paint('green', 'ok    '),
        fails: paint(['red', 'bold'], 'FAIL  '),
        open: paint('yellow', 'open  '),
        absent: 'absent',
      }[vector.state]
      lines.push(
        `  ${mark} ${vector.vector}: ${vector.independent} independent ${vector.independent === 1 ? 'layer' : 'layers'}${vector.note === undefined ? '' : ` (${vector.note})`}`,
      )
      for (const layer of vector.layers)
        lines.push(
          `         ${layer.holds ? '+' : paint('red', '-')} ${layer.layer}: ${layer.evidence.join('; ')}`,
        )
    }
  }
  lines.push(
    '',
    paint('bold', 'Shared between tenants'),
    ...report.shared.map((component) => `  ${component}`),
  )
  if (report.findings.length > 0)
    lines.push('', paint(['red', 'bold'], 'Findings'), ...report.findings.map((finding) => `  ${finding}`))
  const missing = report.vectors.filter(({ state }) => state === 'fails').length
  const open = new Set(report.vectors.filter(({ state }) => state === 'open').map(({ vector }) => vector))
  lines.push(
    '',
    report.ok
      ? paint(
          'green',
          `Every vector has at least two independent layers${open.size === 0 ? '' : `, but for those that are known to be open: ${[...open].join(', ')}`}.`,
        )
      : paint(
          ['red', 'bold'],
          `NOT PROVEN: ${missing} vectors lack a layer, ${report.findings.length} findings.`,
        ),
  )
  return lines.join('\n')
}

function byPair(vectors: readonly VectorReport[]): Map<string, VectorReport[]> {
  const pairs = new Map<string, VectorReport[]>()
  for (const vector of vectors) {
    const pair = `${vector.attacker} → ${vector.victim}`
    pairs.set(pair, [...(pairs.get(pair) ?? []), vector])
  }
  return pairs
}
