import {
  type CheckRules,
  type CustomResourceDefinition,
  type FieldError,
  type JsonSchema,
  type KindDefinition,
  type KindRegistry,
  type KubeObject,
  conflict,
  createKindRegistry,
  customResourceDefinitionKind,
  defineCustomKinds,
  forbidden,
  invalid,
} from '../api/index.ts'
import type { AdmissionPlugin, ClusterView } from '../policy/index.ts'
import { ruleProblems } from './custom-rules.ts'
import { equalJson } from './json.ts'
import { CUSTOM_DEFINITIONS_BYTES_MAX, CUSTOM_DEFINITIONS_MAX, PROBLEMS_MAX } from './limits.ts'

/**
 * The kinds that this control plane serves: those that are built in, and those of established
 * CustomResourceDefinitions, which it is told about with every write.
 */
export class CustomKinds {
  private readonly base: KindRegistry
  private readonly rulesOf: ((schema: JsonSchema) => CheckRules | undefined) | undefined
  private readonly defined = new Map<
    string,
    { definition: CustomResourceDefinition; kinds: KindDefinition[] }
  >()
  private current: KindRegistry
  /** Size of every definition, served or not. */
  private readonly sizes = new Map<string, number>()

  constructor(base: KindRegistry, rulesOf?: (schema: JsonSchema) => CheckRules | undefined) {
    this.base = base
    this.rulesOf = rulesOf
    this.current = base
  }

  get registry(): KindRegistry {
    return this.current
  }

  /** Requires: the definition is as it is stored. */
  observe(object: KubeObject, deleted = false): void {
    const definition = object as CustomResourceDefinition // what else is stored under that kind
    const { name } = definition.metadata
    if (deleted) this.sizes.delete(name)
    else this.sizes.set(name, sizeOf(object))
    const known = this.defined.get(name)
    if (deleted || !isEstablished(definition)) {
      if (!known) return
      this.defined.delete(name)
    } else {
      // Most writes are of the status; then the kinds stay as they are, and with them what clients have cached.
      if (known && sameKinds(known.definition, definition)) return
      this.defined.set(name, { definition, kinds: this.kindsOf(definition) })
    }
    const names = [...this.defined.keys()].sort()
    this.current = createKindRegistry(
      [...this.base.kinds, ...names.flatMap((each) => this.defined.get(each)?.kinds ?? [])],
      this.base.virtualKinds,
    )
  }

  /** Refuses a definition for which there is no room. */
  readonly plugin: AdmissionPlugin = {
    name: 'CustomResourceDefinitions',
    refuse: ({ group, resource, operation, name, kind, object, old }, cluster) => {
      if (group !== customResourceDefinitionKind.group || resource !== customResourceDefinitionKind.plural)
        return undefined
      if (operation === 'DELETE') return undefined
      const refuse = (tell: string) => forbidden({ group, resource, name }, { tell })
      if (operation === 'CREATE' && cluster.count({ group, resource }) >= CUSTOM_DEFINITIONS_MAX)
        return refuse(`a tenant may have ${CUSTOM_DEFINITIONS_MAX} CustomResourceDefinitions; delete some`)
      const problems = rulesChanged(object, old) ? rulesErrors(object, old) : []
      if (problems.length > 0) return invalid({ group, kind, name }, problems)
      let bytes = sizeOf(object) - (this.sizes.get(name) ?? 0)
      // What becomes no larger fits, whatever is there.
      if (bytes <= 0) return undefined
      for (const size of this.sizes.values()) bytes += size
      for (const creating of cluster.creating({ group, resource })) bytes += sizeOf(creating)
      return bytes > CUSTOM_DEFINITIONS_BYTES_MAX
        ? refuse(
            `all CustomResourceDefinitions of a tenant together may take ${CUSTOM_DEFINITIONS_BYTES_MAX} bytes; delete some, or leave descriptions out`,
          )
        : undefined
    },
  }

  /** What is built in comes first: no definition takes the place of a kind of the platform. */
  private kindsOf(definition: CustomResourceDefinition): KindDefinition[] {
    const { group, names } = definition.spec
    if (this.base.find({ group, resource: names.plural }) || this.base.findKind({ group, kind: names.kind }))
      return []
    return defineCustomKinds(definition, this.rulesOf)
  }

  /** A definition must be without objects when it goes, or they could never be reached again. @throws {ApiError} */
  refuseContent({ spec, metadata: { name } }: KubeObject & { spec?: unknown }, cluster: ClusterView): void {
    const { group, names } = spec as CustomResourceDefinition['spec'] // as it is stored
    if (cluster.count({ group, resource: names.plural }) > 0)
      throw conflict(
        { group: customResourceDefinitionKind.group, resource: customResourceDefinitionKind.plural, name },
        'there are still objects of its kind',
      )
  }
}

function rulesChanged(object: KubeObject, old: KubeObject | undefined): boolean {
  return !old || !equalJson(object['spec'], old['spec'])
}

function rulesErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const versionsOf = (definition: KubeObject) => (definition as CustomResourceDefinition).spec.versions // what is stored under that kind
  const before = new Map(old && versionsOf(old).map(({ name, schema }) => [name, schema]))
  return versionsOf(object)
    .flatMap(({ name, schema }, index) =>
      schema?.openAPIV3Schema
        ? ruleProblems(schema.openAPIV3Schema, `spec.versions[${index}].schema.openAPIV3Schema`, {
            unchanged: equalJson(schema, before.get(name)),
          })
        : [],
    )
    .slice(0, PROBLEMS_MAX)
}

function sizeOf(definition: KubeObject): number {
  return JSON.stringify(definition).length
}

function isEstablished({ status }: CustomResourceDefinition): boolean {
  return (
    status?.conditions?.some(({ type, status: state }) => type === 'Established' && state === 'True') ?? false
  )
}

function sameKinds(a: CustomResourceDefinition, b: CustomResourceDefinition): boolean {
  return (
    a.metadata.uid === b.metadata.uid &&
    a.metadata.generation === b.metadata.generation &&
    a.metadata.deletionTimestamp === b.metadata.deletionTimestamp &&
    JSON.stringify(a.status?.acceptedNames) === JSON.stringify(b.status?.acceptedNames)
  )
}
