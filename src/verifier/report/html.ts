import { createHash } from 'node:crypto'
import type { PairGroup, VectorReport, VectorState } from '../proof.ts'
import { STANDARDS } from '../standards.ts'
import { LAYERS, VECTOR_NAMES, VECTORS } from '../vectors.ts'
import type { Report } from '../verify.ts'
import { ATTACKS } from '../attacks.ts'
import { grantText, NAMES_SHOWN, pairText, waiverText } from './words.ts'

const WORDS: Record<VectorState, string> = {
  holds: 'proven',
  fails: 'a layer is missing',
  open: 'known to have fewer',
  absent: 'none here',
}
const MARKS: Record<VectorState, string> = { holds: '', fails: '!', open: '~', absent: '·' }

const STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#16202b;--dim:#5a6773;--line:#d5dbe1;--holds:#d9f2e0;--holds-fg:#0d5527;--fails:#c4162a;--fails-fg:#fff;--open:#fff0c2;--open-fg:#624600;--absent:#eef1f4}
@media (prefers-color-scheme:dark){:root{--bg:#11171d;--fg:#e4eaf0;--dim:#9aa7b4;--line:#2d3945;--holds:#123d22;--holds-fg:#b5f0c8;--fails:#c4162a;--fails-fg:#fff;--open:#4a3a08;--open-fg:#ffe49a;--absent:#1c252e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem;max-width:76rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.25rem 0}.dim{color:var(--dim)}code,.mono{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
.verdict{padding:.6rem .9rem;border-radius:.4rem;margin:1rem 0;font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:.25rem .5rem;text-align:left;vertical-align:top}
.heat th.v{height:11rem;vertical-align:bottom;padding:.25rem;font-weight:500}.heat th.v span{writing-mode:vertical-rl;transform:rotate(180deg);white-space:nowrap}
.heat td{text-align:center;padding:0;min-width:2.1rem}.heat td a{display:block;padding:.35rem .2rem;color:inherit;text-decoration:none;font-weight:600}
.heat th[scope=row],.heat thead th:first-child{position:sticky;left:0;background:var(--bg)}
a:focus-visible,summary:focus-visible{outline:3px solid currentColor;outline-offset:-3px}
.holds{background:var(--holds);color:var(--holds-fg)}.fails{background:var(--fails);color:var(--fails-fg)}.open{background:var(--open);color:var(--open-fg)}.absent{background:var(--absent);color:var(--dim)}
details{border:1px solid var(--line);border-radius:.4rem;margin:.35rem 0}summary{cursor:pointer;padding:.4rem .7rem;display:flex;gap:.6rem;flex-wrap:wrap;align-items:baseline}
summary::before{content:'▸';color:var(--dim)}details[open]>summary::before{content:'▾'}
.badge{border-radius:.3rem;padding:0 .45rem;font-size:.85rem;font-weight:600;white-space:nowrap}
.body{padding:.2rem .9rem .8rem}ul{margin:.25rem 0;padding-left:1.3rem}li{margin:.15rem 0}
.body:target{outline:3px solid var(--fg);outline-offset:-3px}
@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#999;--holds:#fff;--holds-fg:#000;--open:#eee;--open-fg:#000;--fails:#fff;--fails-fg:#000;--absent:#fff}body{padding:0;font-size:11px;max-width:none}details::details-content{content-visibility:visible;height:auto}details{break-inside:avoid}.fails{font-weight:800;text-decoration:underline}.scroll{overflow:visible}}
`

/**
 * One page that needs nothing else: no script, no link outside, and a policy that forbids both. Names and evidence come
 * from tenants' programs, so every text is escaped.
 */
export function renderHtml(report: Report, signature: string): string {
  const hash = createHash('sha256').update(STYLE).digest('base64')
  const failing = states(report).filter(({ state }) => state === 'fails').length
  const open = [
    ...new Set(
      states(report)
        .filter(({ state }) => state === 'open')
        .map(({ vector }) => vector),
    ),
  ]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Bulkhead: how tenants are kept apart</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>How tenants are kept apart</h1>
<p class="dim">Observed on the machine at ${esc(report.observedAt)}: ${report.tenants.length} tenants, ${report.groups.reduce((sum, { pairs }) => sum + pairs, 0)} pairs, ${VECTOR_NAMES.length} vectors.</p>
<p class="verdict ${report.ok ? 'holds' : 'fails'}" role="status">${
    report.ok
      ? `Every vector has at least two independent layers${open.length === 0 ? '' : `, but for those known to be open: ${esc(open.join(', '))}`}.`
      : `Not proven: ${failing} vectors lack a layer, ${report.findings.length} findings.`
  }</p>
</header>
<main>
${list('Findings', report.findings)}
<h2 id="matrix">Independent layers between tenants</h2>
<p class="dim">${(['holds', 'open', 'fails', 'absent'] as const).map((state) => `<span class="badge ${state}">${MARKS[state]}${state === 'absent' ? '' : 'n'}</span> ${WORDS[state]}`).join(' &nbsp; ')}</p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="matrix">
<table class="heat">
<thead><tr><th scope="col">Attacker → victim</th>${VECTOR_NAMES.map((name) => `<th scope="col" class="v"><span>${esc(name)}</span></th>`).join('')}</tr></thead>
<tbody>
${report.groups.map(row).join('\n')}
</tbody>
</table>
</div>
${list('Opened on purpose', report.grants.map(grantText))}
${list('Waived', report.waivers.map(waiverText))}
${list('Shared between tenants', report.shared)}
<h2>Tenants</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Tenants"><table><thead><tr><th scope="col">Tenant</th><th scope="col">Class</th><th scope="col">Pods</th><th scope="col">Processes</th></tr></thead><tbody>
${report.tenants.map(({ name, isolationClass, pods, processes }) => `<tr><td>${esc(name)}</td><td>${esc(isolationClass)}</td><td>${pods}</td><td>${processes}</td></tr>`).join('\n')}
</tbody></table></div>
<h2>Evidence</h2>
${report.groups.map(evidence).join('\n')}
</main>
<footer><p class="dim mono">${esc(signature)}</p></footer>
</body>
</html>
`
}

function states(report: Report): VectorReport[] {
  return report.groups.flatMap(({ vectors }) => vectors)
}

function row(group: PairGroup, at: number): string {
  const cells = group.vectors.map(({ vector, state, independent }, column) => {
    const words = `${vector}: ${state === 'absent' ? WORDS.absent : `${independent} independent layers, ${WORDS[state]}`}`
    return `<td class="${state}"><a href="#e${at}-${column}" title="${esc(words)}" aria-label="${esc(words)}">${MARKS[state]}${state === 'absent' ? '' : independent}</a></td>`
  })
  return `<tr><th scope="row">${esc(pairText(group))}</th>${cells.join('')}</tr>`
}

function evidence(group: PairGroup, at: number): string {
  const { attacker, victim } = group.example
  return `<h3>${esc(pairText(group))}</h3>
<p class="dim">${group.pairs} ${group.pairs === 1 ? 'pair' : `pairs; seen from ${esc(attacker)} to ${esc(victim)}`}</p>
${everybody(group)}
${group.vectors
  .map(
    (
      { vector, state, independent, note, layers, waiver },
      column,
    ) => `<details${state === 'fails' ? ' open' : ''}><summary><span class="badge ${state}">${state === 'absent' ? WORDS.absent : `${MARKS[state]}${independent}`}</span><strong>${esc(vector)}</strong><span class="dim">${esc(VECTORS[vector].threat)}</span></summary><div class="body" id="e${at}-${column}">
${note === undefined ? '' : `<p>${esc(note)}</p>`}${waiver === undefined ? '' : `<p><strong>Waived:</strong> ${esc(waiver)}</p>`}
<ul>${layers.map(layerItem).join('')}</ul>
${ATTACKS[vector].length === 0 ? '' : `<p class="dim">Tried by <code>bulkhead attack</code>: ${ATTACKS[vector].map(esc).join(', ')}</p>`}
${VECTORS[vector].standards.length === 0 ? '' : `<p class="dim">${VECTORS[vector].standards.map((id) => `<span title="${esc(STANDARDS[id])}">${esc(id)}</span>`).join(', ')}</p>`}
</div></details>`,
  )
  .join('\n')}`
}

/** Who is meant, where the heading says only how many. */
function everybody({ attackers, victims }: PairGroup): string {
  const names = (some: readonly string[]) => some.map(esc).join(', ')
  return attackers.length <= NAMES_SHOWN && victims.length <= NAMES_SHOWN
    ? ''
    : `<details><summary>Which tenants</summary><div class="body"><p>Attackers: ${names(attackers)}</p><p>Victims, each but itself: ${names(victims)}</p></div></details>`
}

function layerItem({ layer, holds, evidence: lines }: VectorReport['layers'][number]): string {
  const { domain, description, observedIn } = LAYERS[layer]
  return `<li><span class="badge ${holds ? 'holds' : 'fails'}">${holds ? 'holds' : 'missing'}</span> <strong>${esc(layer)}</strong> <span class="dim">(${esc(domain)})</span>: ${esc(description)}.<br><span class="dim">Seen in ${esc(observedIn)}:</span> <span class="mono">${lines.map(esc).join('<br>')}</span></li>`
}

function list(title: string, lines: readonly string[]): string {
  return lines.length === 0
    ? ''
    : `<h2>${esc(title)}</h2><ul>${lines.map((line) => `<li>${esc(line)}</li>`).join('')}</ul>`
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
}

/** For text and for attributes in quotes. Control and formatting characters, which can turn text around, are shown as `?`. */
function esc(text: string): string {
  return text
    .replaceAll(/[^\P{C}\n]/gu, '?')
    .replaceAll(/[&<>"'`]/g, (character) => ENTITIES[character] ?? '')
}
