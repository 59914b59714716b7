import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { object } from '../../controllers.testkit.ts'
import type { CustomResourceDefinition } from '../../kinds.ts'
import { planStatus } from './plan.ts'

const NOW = Date.parse('2026-01-01T00:00:00Z')

function definition(plural: string, names: object = {}, status?: object): CustomResourceDefinition {
  return object<CustomResourceDefinition>(
    'CustomResourceDefinition',
    'apiextensions.k8s.io/v1',
    `${plural}.example.com`,
    {
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural, singular: `${plural}1`, kind: `K${plural}`, listKind: `K${plural}List`, ...names },
        versions: [{ name: 'v1', served: true, storage: true }],
      },
      ...(status ? { status } : {}),
    },
  )
}
const state = ({ conditions = [] }: ReturnType<typeof planStatus>) =>
  conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`)

test('names that nobody has are accepted, and the kind is established', () => {
  const wanted = definition('things', { shortNames: ['th'], categories: ['all'] })
  const status = planStatus(wanted, [wanted], [], NOW)
  assert.deepEqual(state(status), ['NamesAccepted=True NoConflicts', 'Established=True InitialNamesAccepted'])
  assert.deepEqual(status.acceptedNames, wanted.spec.names)
})

test('names of built-in kinds of the group are taken, those of other groups are not', () => {
  const builtIn = {
    group: 'example.com',
    plural: 'things',
    singular: 'thing',
    kind: 'Thing',
    shortNames: ['th'],
  }
  for (const [names, reason] of [
    [{ kind: 'Thing' }, 'KindConflict'],
    [{ listKind: 'ThingList' }, 'ListKindConflict'],
    [{ singular: 'thing' }, 'SingularConflict'],
    [{ shortNames: ['th'] }, 'ShortNamesConflict'],
  ] as const) {
    const wanted = definition('others', names)
    assert.deepEqual(state(planStatus(wanted, [], [builtIn], NOW)), [
      `NamesAccepted=False ${reason}`,
      'Established=False NotAccepted',
    ])
    assert.equal(
      state(planStatus(wanted, [], [{ ...builtIn, group: '' }], NOW))[1],
      'Established=True InitialNamesAccepted',
    )
  }
})

test('a kind that is served stays so, and keeps a name when the new one is taken', () => {
  const first = definition('firsts', { shortNames: ['f'] })
  first.status = planStatus(first, [], [], NOW)
  const second = definition('seconds', { shortNames: ['s'] })
  second.status = planStatus(second, [first], [], NOW)
  const renamed = { ...second, spec: { ...second.spec, names: { ...second.spec.names, shortNames: ['f'] } } }
  const status = planStatus(renamed, [first, renamed], [], NOW + 5_000)
  assert.deepEqual(state(status), [
    'NamesAccepted=False ShortNamesConflict',
    'Established=True InitialNamesAccepted',
  ])
  assert.deepEqual(status.acceptedNames?.shortNames, ['s'])
})

test('in whatever order definitions come, no two get the same name', () => {
  const name = fc.constantFrom('a', 'b', 'c', 'd')
  const wanted = fc.record({
    singular: name,
    shortNames: fc.uniqueArray(name, { maxLength: 2 }),
    kind: name,
    listKind: name,
  })
  fc.assert(
    fc.property(fc.array(wanted, { maxLength: 6 }), (all) => {
      const definitions: CustomResourceDefinition[] = []
      all.forEach((names, index) => {
        const made = definition(`p${index}`, names)
        made.status = planStatus(made, definitions, [], NOW)
        definitions.push(made)
      })
      const kinds = definitions.flatMap(({ status }) => {
        const names = status?.acceptedNames
        // One definition may use a name twice; what matters is that another does not.
        return [...new Set([names?.kind, names?.listKind])].filter(Boolean)
      })
      assert.equal(new Set(kinds).size, kinds.length)
      const resources = definitions.flatMap(({ status }) => {
        const names = status?.acceptedNames
        return [...new Set([names?.plural, names?.singular, ...(names?.shortNames ?? [])])].filter(Boolean)
      })
      assert.equal(new Set(resources).size, resources.length)
    }),
  )
})
