import type { WriteContext } from '../kind.ts'
import { DATA_BYTES_MAX } from '../limits.ts'
import type { FieldError } from '../status.ts'
import type { ConfigMap, Secret } from './config.ts'
import { forbiddenField, invalidValue, requiredValue, tooLong } from './field-errors.ts'
import { configKeyProblem } from './names.ts'
import { equalField } from './rules.ts'

const IMMUTABLE = 'field is immutable when `immutable` is set'

export function validateConfigMap(map: ConfigMap, _context: WriteContext, old?: ConfigMap): FieldError[] {
  const errors: FieldError[] = []
  let bytes = 0
  for (const [key, value] of Object.entries(map.data ?? {})) {
    keyErrors(key, `data[${key}]`, errors)
    if (map.binaryData && Object.hasOwn(map.binaryData, key))
      errors.push(invalidValue(`data[${key}]`, key, 'duplicate of key present in binaryData'))
    bytes += Buffer.byteLength(value)
  }
  for (const [key, value] of Object.entries(map.binaryData ?? {})) {
    keyErrors(key, `binaryData[${key}]`, errors)
    bytes += decodedLength(value)
  }
  if (bytes > DATA_BYTES_MAX) errors.push(tooLong('', DATA_BYTES_MAX))
  if (old?.immutable) {
    if (map.immutable !== true) errors.push(forbiddenField('immutable', IMMUTABLE))
    if (!equalField(map.data ?? {}, old.data ?? {})) errors.push(forbiddenField('data', IMMUTABLE))
    if (!equalField(map.binaryData ?? {}, old.binaryData ?? {}))
      errors.push(forbiddenField('binaryData', IMMUTABLE))
  }
  return errors
}

/** `stringData` is only a way to write: it goes into `data`. */
export function applySecretDefaults(secret: Secret): Secret {
  const { stringData } = secret
  if (!stringData) return secret
  const data = { ...secret.data }
  for (const [key, value] of Object.entries(stringData)) data[key] = Buffer.from(value).toString('base64')
  secret.data = data
  delete secret.stringData
  return secret
}

/** Keys that a type promises to its readers. */
const KEYS_OF_TYPE: ReadonlyMap<string, readonly string[]> = new Map([
  ['kubernetes.io/dockercfg', ['.dockercfg']],
  ['kubernetes.io/dockerconfigjson', ['.dockerconfigjson']],
  ['kubernetes.io/ssh-auth', ['ssh-privatekey']],
  ['kubernetes.io/tls', ['tls.crt', 'tls.key']],
])
const SERVICE_ACCOUNT_TOKEN = 'kubernetes.io/service-account-token'

export function validateSecret(secret: Secret, _context: WriteContext, old?: Secret): FieldError[] {
  const errors: FieldError[] = []
  const data = secret.data ?? {}
  let bytes = 0
  for (const [key, value] of Object.entries(data)) {
    keyErrors(key, `data[${key}]`, errors)
    bytes += decodedLength(value)
  }
  if (bytes > DATA_BYTES_MAX) errors.push(tooLong('data', DATA_BYTES_MAX))
  const type = secret.type ?? ''
  for (const key of KEYS_OF_TYPE.get(type) ?? []) {
    if (!Object.hasOwn(data, key)) errors.push(requiredValue(`data[${key}]`))
    else if (key.startsWith('.docker') && !isJsonObject(data[key]))
      errors.push(invalidValue(`data[${key}]`, '<secret contents redacted>', 'must be a JSON object'))
  }
  if (
    type === 'kubernetes.io/basic-auth' &&
    !Object.hasOwn(data, 'username') &&
    !Object.hasOwn(data, 'password')
  ) {
    errors.push(requiredValue('data[username]'), requiredValue('data[password]'))
  }
  // A token that never ends, readable by whoever can read the secret.
  if (type === SERVICE_ACCOUNT_TOKEN && !old)
    errors.push(
      forbiddenField(
        'type',
        `tokens that never end are not made here; use \`kubectl create token\` or a projected serviceAccountToken volume`,
      ),
    )
  if (old) {
    if (type !== old.type) errors.push(invalidValue('type', type, 'field is immutable'))
    if (old.immutable) {
      if (secret.immutable !== true) errors.push(forbiddenField('immutable', IMMUTABLE))
      if (!equalField(data, old.data ?? {})) errors.push(forbiddenField('data', IMMUTABLE))
    }
  }
  return errors
}

function keyErrors(key: string, path: string, errors: FieldError[]): void {
  const problem = configKeyProblem(key)
  if (problem) errors.push(invalidValue(path, key, problem))
}

function decodedLength(base64: string): number {
  const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0
  return (base64.length / 4) * 3 - padding
}

function isJsonObject(base64: string | undefined): boolean {
  try {
    const value: unknown = JSON.parse(Buffer.from(base64 ?? '', 'base64').toString())
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
