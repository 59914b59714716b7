import type { DecideIsolation } from '../controllers/index.ts'
import { decideIsolation, type IsolationClass } from '../policy/index.ts'

/** What each class can stand in for: itself and everything that it includes. */
const INCLUDES: Record<IsolationClass, readonly IsolationClass[]> = {
  shared: ['shared'],
  affinity: ['affinity', 'shared'],
  sandboxed: ['sandboxed', 'shared'],
  dedicated: ['dedicated', 'sandboxed', 'affinity', 'shared'],
}

/** The class that follows from a Tenant's description, or the stronger one that its operator asks for. */
export const decideTenantClass: DecideIsolation = (spec) => {
  const decision = decideIsolation({
    trust: spec.trust,
    code: spec.code === 'thirdParty' ? 'unaudited' : spec.code,
    ...(spec.sensitivity === undefined ? {} : { sensitivity: spec.sensitivity }),
    ...(spec.noisy === undefined ? {} : { noisy: spec.noisy }),
  })
  const asked = spec.isolationClass
  if (asked === undefined || decision.class === undefined || asked === decision.class) return decision
  if (!INCLUDES[asked].includes(decision.class))
    return {
      class: undefined,
      reasons: decision.reasons,
      refusal: `spec.isolationClass "${asked}" is weaker than "${decision.class}", which follows from the rest of the spec`,
    }
  return { class: asked, reasons: [...decision.reasons, `The operator asks for "${asked}".`] }
}
