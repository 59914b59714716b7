import { createHash } from 'node:crypto'
import { STANDARDS, type StandardId } from '../standards.ts'
import { LAYERS, VECTOR_NAMES, VECTORS } from '../vectors.ts'
import type { Report } from '../verify.ts'
import { ATTACKS } from '../attacks.ts'
import { pairText } from './words.ts'

const VERSION = '2.1.0'
const SCHEMA = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json'
const TAXONOMY = 'container-standards'

/**
 * Static Analysis Results Interchange Format 2.1.0: a rule for each vector, a result for each vector of each kind of
 * pair, and one for each finding. https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
 */
export function renderSarif(report: Report, signature: string): string {
  const standards = Object.keys(STANDARDS) as StandardId[] // the keys of the table
  const rules = [
    ...VECTOR_NAMES.map((vector) => {
      const { threat, layers, standards: answered } = VECTORS[vector]
      return {
        id: vector,
        shortDescription: { text: threat },
        fullDescription: {
          text: layers.map((layer) => `${layer}: ${LAYERS[layer].description}`).join('. ') || threat,
        },
        relationships: answered.map((id) => ({
          target: { id, index: standards.indexOf(id), toolComponent: { name: TAXONOMY, index: 0 } },
          kinds: ['relevant'],
        })),
        properties: { attacks: ATTACKS[vector] },
      }
    }),
    {
      id: 'finding',
      shortDescription: { text: 'something is where nothing should be' },
      fullDescription: { text: 'something is where nothing should be' },
      relationships: [],
    },
  ]
  const results = report.groups.flatMap((group) =>
    group.vectors.map(({ vector, state, independent, note, layers, waiver }) => {
      const missing = layers.filter(({ holds }) => !holds)
      const pair = pairText(group)
      return {
        ruleId: vector,
        ruleIndex: VECTOR_NAMES.indexOf(vector),
        // Anything but a failure has no level (3.27.10).
        kind: ({ holds: 'pass', fails: 'fail', open: 'open', absent: 'notApplicable' } as const)[state],
        level: state === 'fails' ? 'error' : 'none',
        message: {
          text: `${pair}: ${independent} independent ${independent === 1 ? 'layer' : 'layers'}${note === undefined ? '' : ` (${note})`}${missing.length === 0 ? '' : `; missing: ${missing.map(({ layer, evidence }) => `${layer}: ${evidence.join('; ')}`).join('. ')}`}`,
        },
        locations: group.attackers.slice(0, 100).map((name) => ({
          logicalLocations: [{ name, fullyQualifiedName: `tenants/${name}`, kind: 'resource' }],
        })),
        partialFingerprints: { pairAndVector: digest(`${group.attackers} ${group.victims} ${vector}`) },
        ...(waiver === undefined
          ? {}
          : { suppressions: [{ kind: 'external', status: 'accepted', justification: waiver }] }),
        properties: { layers: layers.map(({ layer, holds, evidence }) => ({ layer, holds, evidence })) },
      }
    }),
  )
  const findings = report.findings.map((text) => ({
    ruleId: 'finding',
    ruleIndex: VECTOR_NAMES.length,
    kind: 'fail',
    level: 'error',
    message: { text },
    locations: [],
    partialFingerprints: { pairAndVector: digest(text) },
  }))
  return `${JSON.stringify(
    {
      $schema: SCHEMA,
      version: VERSION,
      runs: [
        {
          tool: { driver: { name: 'bulkhead verify', rules } },
          taxonomies: [
            {
              name: TAXONOMY,
              shortDescription: { text: 'What others ask of a platform for many tenants' },
              taxa: standards.map((id) => ({ id, shortDescription: { text: STANDARDS[id] } })),
            },
          ],
          invocations: [{ executionSuccessful: true, endTimeUtc: report.observedAt }],
          columnKind: 'utf16CodeUnits',
          results: [...results, ...findings],
          properties: { signature, shared: report.shared, grants: report.grants, waivers: report.waivers },
        },
      ],
    },
    undefined,
    1,
  )}\n`
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
