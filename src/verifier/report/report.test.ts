import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { prove } from '../proof.ts'
import { syntheticWorld } from '../synthetic-world.testkit.ts'
import type { Report } from '../verify.ts'
import { renderHtml } from './html.ts'
import { renderSarif } from './sarif.ts'
import { checkReport, signaturePlace, signReport } from './signature.ts'
import { renderReport } from './text.ts'

const NOW_MS = Date.parse('2026-11-21T12:00:00.000Z')
const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const signer = { name: 'bulkhead-main@host', key: privateKey }
const place = signaturePlace(signer, NOW_MS)

/** Two tenants that are apart, one whose root is the machine's, and hostile words wherever a tenant chooses them. */
function report(hostile = ''): Report {
  const groups = prove(syntheticWorld([{}, { sandboxed: true }, { mapsMachine: true }]))
  for (const { vectors } of groups)
    for (const { layers } of vectors)
      for (const layer of layers) layer.evidence = [...layer.evidence, hostile]
  return {
    observedAt: new Date(NOW_MS).toISOString(),
    tenants: [{ name: 't0', uid: 'u0', isolationClass: 'shared', pods: 1, processes: 1 }],
    groups,
    findings: [`process 7 (${hostile}) is where nothing should be`],
    grants: [
      {
        tenant: 't0',
        kind: 'egress',
        what: 'example.org port 443',
        until: '2027-01-01T00:00:00Z',
        reason: hostile,
      },
    ],
    waivers: [
      {
        id: 'w1',
        vector: 'kernel',
        tenant: 't2',
        until: '2027-01-01T00:00:00Z',
        by: hostile,
        reason: hostile,
      },
    ],
    shared: ['gateway'],
    ok: false,
  }
}

const formats: Record<string, (r: Report) => string> = {
  text: (r) => `${renderReport(r, { colours: false })}\n${place}\n`,
  json: (r) => JSON.stringify({ ...r, signature: place }),
  sarif: (r) => renderSarif(r, place),
  html: (r) => renderHtml(r, place),
}

test('a signed report of every format is valid, and says who signed it and when', () => {
  for (const [format, render] of Object.entries(formats)) {
    const checked = checkReport(Buffer.from(signReport(render(report()), signer)), publicKey)
    assert.deepEqual(
      { ...checked, keyId: '' },
      { valid: true, signer: 'bulkhead-main@host', keyId: '', signedAt: '2026-11-21T12:00:00.000Z' },
      format,
    )
  }
})

test('no byte of a report can be changed, added or left out, in any format', () => {
  for (const [format, render] of Object.entries(formats)) {
    const signed = Buffer.from(signReport(render(report()), signer))
    fc.assert(
      fc.property(fc.nat(signed.length - 1), fc.integer({ min: 1, max: 255 }), fc.nat(2), (at, xor, how) => {
        const changed =
          how === 0
            ? Buffer.from(signed.map((byte, index) => (index === at ? byte ^ xor : byte)))
            : how === 1
              ? Buffer.concat([signed.subarray(0, at), signed.subarray(at + 1)])
              : Buffer.concat([signed.subarray(0, at), Buffer.from([xor]), signed.subarray(at)])
        assert.equal(checkReport(changed, publicKey).valid, changed.equals(signed), `${format} at ${at}`)
      }),
      { numRuns: 60 },
    )
  }
})

test('another key, a second signature and a report without one are not valid', () => {
  const signed = signReport(formats['text']?.(report()) ?? '', signer)
  const other = generateKeyPairSync('ed25519')
  assert.equal(checkReport(Buffer.from(signed), other.publicKey).valid, false)
  assert.equal(checkReport(Buffer.from(`${signed}${place}\n`), publicKey).valid, false)
  assert.equal(checkReport(Buffer.from('nothing'), publicKey).valid, false)
  assert.throws(() => signReport('nothing', signer), /0 places/)
  // Evidence that looks like a signature cannot take the place of ours.
  assert.throws(() => signReport(formats['text']?.(report(place)) ?? '', signer), /places/)
})

const HOSTILE = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  "' onmouseover='alert(1)",
  '</style><script>',
  '\u001b[2J\u001b]0;owned\u0007',
  '\u202Egnp.exe',
  '&lt;b&gt;',
  '--><svg/onload=1>',
]

test("a tenant's words reach no page as markup and no terminal as commands", () => {
  for (const hostile of HOSTILE) {
    const html = renderHtml(report(hostile), place)
    const tags = [...html.matchAll(/<\/?([a-z0-9!]+)/g)].map(([, tag]) => tag)
    assert.deepEqual(
      [...new Set(tags)].filter((tag) =>
        ['script', 'img', 'svg', 'iframe', 'object', 'link'].includes(tag ?? ''),
      ),
      [],
      hostile,
    )
    // Attributes, once the quoted values are out of the way.
    const bare = [...html.matchAll(/<[a-z][^>]*>/g)].map(([tag]) => tag.replaceAll(/"[^"]*"/g, '""'))
    assert.deepEqual(
      bare.filter((tag) => /\son|['`]/.test(tag)),
      [],
      hostile,
    )
    const text = renderReport(report(hostile), { colours: false })
    // oxlint-disable-next-line no-control-regex -- that is what is looked for
    assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(text), hostile)
    assert.doesNotThrow(() => JSON.parse(renderSarif(report(hostile), place)) as unknown)
  }
})

test('the page loads nothing and runs nothing', () => {
  const html = renderHtml(report(), place)
  assert.match(html, /Content-Security-Policy" content="default-src 'none'; style-src 'sha256-[^']+'; /)
  assert.ok(!/\b(?:src|href)="(?!#)/.test(html))
  assert.ok(!/url\(|@import/.test(html))
  assert.ok(!/ style=/.test(html), 'the policy refuses styles of elements')
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
  assert.equal(new Set(ids).size, ids.length)
  for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) assert.ok(ids.includes(target), target)
})

/** What the schema of SARIF 2.1.0 allows of the objects that we write: properties, and of these the required ones. */
const SARIF: Record<string, { allowed: string; required: string }> = {
  log: { allowed: '$schema version runs inlineExternalProperties properties', required: 'version runs' },
  run: {
    allowed: 'tool invocations results taxonomies columnKind properties',
    required: 'tool',
  },
  component: { allowed: 'name rules taxa shortDescription', required: 'name' },
  descriptor: { allowed: 'id shortDescription fullDescription relationships properties', required: 'id' },
  relationship: { allowed: 'target kinds description properties', required: 'target' },
  reference: { allowed: 'id index guid toolComponent', required: '' },
  result: {
    allowed: 'ruleId ruleIndex kind level message locations partialFingerprints suppressions properties',
    required: 'message',
  },
  location: { allowed: 'id message logicalLocations physicalLocation properties', required: '' },
  logicalLocation: {
    allowed: 'name index fullyQualifiedName decoratedName parentIndex kind properties',
    required: '',
  },
  message: { allowed: 'text markdown id arguments properties', required: 'text' },
  suppression: { allowed: 'kind status justification guid location properties', required: 'kind' },
  invocation: { allowed: 'executionSuccessful endTimeUtc', required: 'executionSuccessful' },
}

type Json = Record<string, unknown>

test('the SARIF document follows the rules of its schema', () => {
  const log = JSON.parse(renderSarif(report(), place)) as {
    version: string
    runs: {
      tool: { driver: Json & { rules: (Json & { id: string; relationships: Json[] })[] } }
      taxonomies: (Json & { taxa: Json[] })[]
      invocations: Json[]
      results: (Json & { suppressions?: Json[]; locations: { logicalLocations: Json[] }[] })[]
    }[]
  }
  const check = (kind: string, object: object) => {
    const { allowed = '', required = '' } = SARIF[kind] ?? {}
    const names = Object.keys(object)
    assert.deepEqual(
      names.filter((name) => !allowed.split(' ').includes(name)),
      [],
      kind,
    )
    for (const name of required.split(' ').filter(Boolean)) assert.ok(names.includes(name), `${kind}.${name}`)
  }
  check('log', log)
  assert.equal(log.version, '2.1.0')
  const [run] = log.runs
  assert.ok(run)
  check('run', run)
  check('component', run.tool.driver)
  for (const invocation of run.invocations) {
    check('invocation', invocation)
    assert.match(String(invocation['endTimeUtc']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/)
  }
  const taxa = run.taxonomies.flatMap((taxonomy) => (check('component', taxonomy), taxonomy.taxa))
  for (const taxon of taxa) check('descriptor', taxon)
  for (const rule of run.tool.driver.rules) {
    check('descriptor', rule)
    for (const text of ['shortDescription', 'fullDescription']) check('message', rule[text] as Json)
    assert.equal(
      new Set(rule.relationships.map((each) => JSON.stringify(each))).size,
      rule.relationships.length,
    )
    for (const relationship of rule.relationships) {
      check('relationship', relationship)
      const target = relationship['target'] as { id: string; index: number }
      check('reference', target)
      assert.equal(taxa[target.index]?.['id'], target.id)
    }
  }
  const ids = run.tool.driver.rules.map(({ id }) => id)
  assert.equal(new Set(ids).size, ids.length)
  assert.ok(run.results.length > 0)
  for (const result of run.results) {
    check('result', result)
    assert.equal(ids[Number(result['ruleIndex'])], result['ruleId'])
    assert.ok(
      ['pass', 'open', 'informational', 'notApplicable', 'review', 'fail'].includes(String(result['kind'])),
    )
    // 3.27.10: a level other than none is for what failed.
    assert.equal(result['level'], result['kind'] === 'fail' ? 'error' : 'none')
    check('message', result['message'] as Json)
    assert.equal(typeof (result['message'] as Json)['text'], 'string')
    for (const location of result.locations) {
      check('location', location)
      for (const place of location.logicalLocations) check('logicalLocation', place)
    }
    for (const suppression of result.suppressions ?? []) {
      check('suppression', suppression)
      assert.ok(['inSource', 'external'].includes(String(suppression['kind'])))
    }
  }
})
