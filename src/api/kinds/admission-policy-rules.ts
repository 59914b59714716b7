import {
  AUDIT_ANNOTATIONS_MAX,
  MATCH_CONDITIONS_MAX,
  POLICY_EXPRESSION_CHARS_MAX,
  POLICY_MESSAGE_CHARS_MAX,
  POLICY_RULE_ITEMS_MAX,
  POLICY_RULES_MAX,
  POLICY_VALIDATIONS_MAX,
  POLICY_VARIABLES_MAX,
} from '../limits.ts'
import type { FieldError } from '../status.ts'
import type {
  MatchResources,
  NamedRule,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingAdmissionPolicySpec,
} from './admission-policy.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  tooLong,
  tooMany,
  unsupportedValue,
} from './field-errors.ts'
import { dnsSubdomainProblem, qualifiedNameProblem } from './names.ts'
import { labelSelectorErrors } from './rules.ts'

const REASONS = ['Forbidden', 'Invalid', 'RequestEntityTooLarge', 'Unauthorized']
const IDENTIFIER = /^[a-zA-Z_][a-zA-Z0-9_]{0,63}$/
/** Such as `pods`, `pods/status` or a star in place of either part. */
const RESOURCE = /^(?:\*|[a-z0-9][a-z0-9.-]{0,252})(?:\/(?:\*|[a-z0-9][a-z0-9.-]{0,62}))?$/

/** What the schema cannot say. Whether expressions are CEL is looked at by admission, which knows the language. */
export function validateAdmissionPolicy({ spec, metadata }: ValidatingAdmissionPolicy): FieldError[] {
  if (!spec) return [requiredValue('spec')]
  const { validations = [], auditAnnotations = [], matchConditions = [], variables = [], paramKind } = spec
  const errors: FieldError[] = []
  for (const [field, list, max] of [
    ['validations', validations, POLICY_VALIDATIONS_MAX],
    ['auditAnnotations', auditAnnotations, AUDIT_ANNOTATIONS_MAX],
    ['matchConditions', matchConditions, MATCH_CONDITIONS_MAX],
    ['variables', variables, POLICY_VARIABLES_MAX],
  ] as const)
    if (list.length > max) errors.push(tooMany(`spec.${field}`, list.length, max))
  if (expressionChars(spec) > POLICY_EXPRESSION_CHARS_MAX)
    errors.push(
      invalidValue(
        'spec',
        metadata.name,
        `its expressions together have more than ${POLICY_EXPRESSION_CHARS_MAX} characters`,
      ),
    )
  // A list far too long is not looked at.
  if (errors.length > 0) return errors
  if (validations.length === 0 && auditAnnotations.length === 0)
    errors.push(requiredValue('spec.validations', 'validations or auditAnnotations must be non-empty'))
  errors.push(...matchErrors(spec.matchConstraints, 'spec.matchConstraints', true))
  if (paramKind) {
    if (!paramKind.apiVersion) errors.push(requiredValue('spec.paramKind.apiVersion'))
    if (!paramKind.kind) errors.push(requiredValue('spec.paramKind.kind'))
  }
  validations.forEach(({ expression, message, messageExpression, reason }, index) => {
    const at = `spec.validations[${index}]`
    if (expression.trim() === '')
      errors.push(requiredValue(`${at}.expression`, 'expression is not specified'))
    if (message !== undefined) {
      if (message.trim() === '')
        errors.push(invalidValue(`${at}.message`, message, 'message must be non-empty if specified'))
      else if (message.length > POLICY_MESSAGE_CHARS_MAX)
        errors.push(tooLong(`${at}.message`, POLICY_MESSAGE_CHARS_MAX))
      else if (/[\r\n]/.test(message))
        errors.push(invalidValue(`${at}.message`, message, 'message must not contain line breaks'))
    } else if (/[\r\n]/.test(expression.trim()) && messageExpression === undefined)
      errors.push(
        requiredValue(`${at}.message`, 'message must be specified if expression contains line breaks'),
      )
    if (messageExpression !== undefined && messageExpression.trim() === '')
      errors.push(
        invalidValue(`${at}.messageExpression`, messageExpression, 'must be non-empty if specified'),
      )
    if (reason !== undefined && !REASONS.includes(reason))
      errors.push(unsupportedValue(`${at}.reason`, reason, REASONS))
  })
  auditAnnotations.forEach(({ key, valueExpression }, index) => {
    const at = `spec.auditAnnotations[${index}]`
    const problem = qualifiedNameProblem(`${metadata.name}/${key}`)
    if (key === '') errors.push(requiredValue(`${at}.key`))
    else if (problem) errors.push(invalidValue(`${at}.key`, key, problem))
    if (valueExpression.trim() === '') errors.push(requiredValue(`${at}.valueExpression`))
  })
  matchConditions.forEach(({ name, expression }, index) => {
    const at = `spec.matchConditions[${index}]`
    const problem = qualifiedNameProblem(name)
    if (problem) errors.push(invalidValue(`${at}.name`, name, problem))
    if (expression.trim() === '') errors.push(requiredValue(`${at}.expression`))
  })
  variables.forEach(({ name, expression }, index) => {
    const at = `spec.variables[${index}]`
    if (!IDENTIFIER.test(name))
      errors.push(invalidValue(`${at}.name`, name, 'name is not a valid CEL identifier'))
    if (variables.findIndex((other) => other.name === name) !== index)
      errors.push(duplicateValue(`${at}.name`, name))
    if (expression.trim() === '') errors.push(requiredValue(`${at}.expression`))
  })
  return errors
}

/** What compiling a policy costs grows with this. */
export function expressionChars({
  validations = [],
  auditAnnotations = [],
  matchConditions = [],
  variables = [],
}: ValidatingAdmissionPolicySpec): number {
  const texts = [
    ...validations.flatMap(({ expression, messageExpression = '' }) => [expression, messageExpression]),
    ...auditAnnotations.map(({ valueExpression }) => valueExpression),
    ...[...matchConditions, ...variables].map(({ expression }) => expression),
  ]
  return texts.reduce((sum, { length }) => sum + length, 0)
}

export function validateAdmissionPolicyBinding({ spec }: ValidatingAdmissionPolicyBinding): FieldError[] {
  const { policyName, validationActions, paramRef, matchResources, tenantSelector } = spec
  const errors: FieldError[] = []
  const problem = policyName === '' ? undefined : dnsSubdomainProblem(policyName)
  if (policyName === '') errors.push(requiredValue('spec.policyName'))
  else if (problem) errors.push(invalidValue('spec.policyName', policyName, problem))
  if (validationActions.length === 0)
    errors.push(requiredValue('spec.validationActions', 'at least one validation action is required'))
  if (validationActions.includes('Deny') && validationActions.includes('Warn'))
    errors.push(
      invalidValue(
        'spec.validationActions',
        validationActions,
        'must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)',
      ),
    )
  if (paramRef) {
    const { name, selector, parameterNotFoundAction } = paramRef
    if (tenantSelector && !paramRef.namespace)
      errors.push(
        requiredValue('spec.paramRef.namespace', 'the parameters of rules for tenants are the platform’s'),
      )
    if (name && selector)
      errors.push(forbiddenField('spec.paramRef.name', 'name and selector are mutually exclusive'))
    if (!name && !selector)
      errors.push(requiredValue('spec.paramRef', 'one of name or selector must be specified'))
    if (!parameterNotFoundAction) errors.push(requiredValue('spec.paramRef.parameterNotFoundAction'))
    else if (!['Allow', 'Deny'].includes(parameterNotFoundAction))
      errors.push(
        unsupportedValue('spec.paramRef.parameterNotFoundAction', parameterNotFoundAction, ['Allow', 'Deny']),
      )
    errors.push(...labelSelectorErrors(selector, 'spec.paramRef.selector'))
  }
  errors.push(...labelSelectorErrors(tenantSelector, 'spec.tenantSelector'))
  if (matchResources) errors.push(...matchErrors(matchResources, 'spec.matchResources', false))
  return errors
}

export function matchErrors(
  match: MatchResources | undefined,
  path: string,
  needsRules: boolean,
): FieldError[] {
  if (!match) return [requiredValue(path)]
  const { resourceRules = [], excludeResourceRules = [], namespaceSelector, objectSelector } = match
  const errors: FieldError[] = []
  for (const [field, rules] of Object.entries({ resourceRules, excludeResourceRules })) {
    if (rules.length > POLICY_RULES_MAX) return [tooMany(`${path}.${field}`, rules.length, POLICY_RULES_MAX)]
    rules.forEach((rule, index) => errors.push(...ruleErrors(rule, `${path}.${field}[${index}]`)))
  }
  if (needsRules && resourceRules.length === 0) errors.push(requiredValue(`${path}.resourceRules`))
  errors.push(...labelSelectorErrors(namespaceSelector, `${path}.namespaceSelector`))
  errors.push(...labelSelectorErrors(objectSelector, `${path}.objectSelector`))
  return errors
}

function ruleErrors(
  { apiGroups = [], apiVersions = [], operations = [], resources = [], resourceNames = [] }: NamedRule,
  path: string,
): FieldError[] {
  const errors: FieldError[] = []
  for (const [field, list] of Object.entries({ apiGroups, apiVersions, operations, resources })) {
    if (list.length > POLICY_RULE_ITEMS_MAX)
      return [tooMany(`${path}.${field}`, list.length, POLICY_RULE_ITEMS_MAX)]
    if (list.length === 0) errors.push(requiredValue(`${path}.${field}`))
    if (list.length > 1 && list.some((item) => item === '*'))
      errors.push(
        invalidValue(`${path}.${field}`, list, "if '*' is present, must not specify other " + field),
      )
  }
  apiVersions.forEach((version, index) => {
    if (version === '') errors.push(requiredValue(`${path}.apiVersions[${index}]`))
  })
  resources.forEach((resource, index) => {
    if (!RESOURCE.test(resource))
      errors.push(
        invalidValue(
          `${path}.resources[${index}]`,
          resource,
          'must be a resource, resource/subresource or *',
        ),
      )
  })
  if (resourceNames.length > POLICY_RULE_ITEMS_MAX)
    return [tooMany(`${path}.resourceNames`, resourceNames.length, POLICY_RULE_ITEMS_MAX)]
  resourceNames.forEach((name, index) => {
    if (resourceNames.indexOf(name) !== index)
      errors.push(duplicateValue(`${path}.resourceNames[${index}]`, name))
  })
  return errors
}
