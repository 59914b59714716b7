import { forbidden } from '../../api/index.ts'
import { type Authorizer, RBAC_GROUP } from '../rbac.ts'
import type { AdmissionPlugin } from './admission.ts'

/** Nobody gives away more than they have, unless they may `escalate` or `bind`. */
export function rbacEscalation(authorizer: Authorizer): AdmissionPlugin {
  return {
    name: 'RBACEscalation',
    refuse({ operation, group, resource, name, user, object, old }) {
      if (operation === 'DELETE' || group !== RBAC_GROUP) return undefined
      const why = authorizer.escalation(user, object, old)
      return why === undefined ? undefined : forbidden({ group, resource, name }, { tell: why })
    },
  }
}
