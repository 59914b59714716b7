import type {
  KindDefinition,
  KindRegistry,
  ValidatingAdmissionPolicySpec,
  ValidatingAdmissionPolicyStatus,
} from '../../../api/index.ts'
import { DYN, typeOfSchema } from '../../../cel/index.ts'
import { TYPE_CHECKED_KINDS_MAX } from '../../limits.ts'
import { compilePolicy } from './compile-policy.ts'
import { paramDefinition } from './params.ts'

const LOOK_UPS_MAX = 10_000

type TypeChecking = NonNullable<ValidatingAdmissionPolicyStatus['typeChecking']>

/** What does not fit the schemas of the kinds that the policy names. It is advice: objects are looked at as they are. */
export function typeCheck(spec: ValidatingAdmissionPolicySpec, registry: KindRegistry): TypeChecking {
  const paramKind = spec.paramKind && paramDefinition(spec.paramKind, registry)
  const params = paramKind ? typeOfSchema(paramKind.schema) : DYN
  const untyped = new Set(compilePolicy(spec).problems.map(({ field }) => field))
  const warnings = new Map<string, string[]>()
  for (const definition of kindsNamed(spec, registry)) {
    const { group, version, kind } = definition
    const object = typeOfSchema(definition.schema)
    for (const { field, message } of compilePolicy(spec, { object, params }).problems) {
      if (untyped.has(field)) continue
      const of = `${group === '' ? version : `${group}/${version}`}, Kind=${kind}`
      warnings.set(field, [...(warnings.get(field) ?? []), `${of}: ${message}`])
    }
  }
  if (warnings.size === 0) return {}
  return {
    expressionWarnings: [...warnings].map(([fieldRef, texts]) => ({ fieldRef, warning: texts.join('\n') })),
  }
}

/** Kinds that the rules name one by one; a star could be anything. */
function kindsNamed(
  { matchConstraints }: ValidatingAdmissionPolicySpec,
  registry: KindRegistry,
): KindDefinition[] {
  const found = new Set<KindDefinition>()
  let looked = 0
  for (const { apiGroups = [], apiVersions = [], resources = [] } of matchConstraints?.resourceRules ?? [])
    for (const group of apiGroups)
      for (const version of apiVersions)
        for (const resource of resources) {
          // Before the lists have been validated they can be of any length.
          if (++looked > LOOK_UPS_MAX) return [...found]
          const definition = registry.find({ group, version, resource })
          if (definition) found.add(definition)
          if (found.size >= TYPE_CHECKED_KINDS_MAX) return [...found]
        }
  return [...found]
}
