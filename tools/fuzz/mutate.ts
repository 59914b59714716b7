import { refusedFields } from '../../src/api/index.ts'
import type { Random } from './random.ts'

/** Changes to a document: near misses, confused types, refused fields anywhere, parts in the wrong place. */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
type Place = { parent: Json[] | { [key: string]: Json }; key: string | number }

const REFUSED = Object.entries(refusedFields).flatMap(([schema, fields]) =>
  Object.keys(fields).map((field) => ({ schema: schema.slice(schema.lastIndexOf('.') + 1), field })),
)
/** A field by which an object of a schema can be told in a manifest. */
const TELLING: Readonly<Record<string, string>> = {
  PodSpec: 'containers',
  Container: 'image',
  Volume: 'emptyDir',
  SecurityContext: 'capabilities',
  PodSecurityContext: 'fsGroup',
  VolumeMount: 'mountPath',
}
const REFUSED_OF = new Map(
  Object.entries(TELLING).map(([schema, field]) => [
    field,
    REFUSED.filter((refused) => refused.schema === schema).map((refused) => refused.field),
  ]),
)

const HOSTILE_TEXTS = [
  '',
  ' ',
  '/',
  '..',
  '../../etc',
  '/proc',
  '/proc/1/root',
  '/sys/fs/cgroup',
  '/dev/sda',
  '/dev/shm',
  '//',
  '/a/../b',
  '/etc/hosts',
  '/etc/resolv.conf',
  '/./x',
  'a\u0000b',
  'a\nb',
  '\ud800',
  '\u202e',
  '$(podIP)',
  '$(NAME)',
  '$$(NAME)',
  '$(',
  '$((',
  '=',
  'a=b',
  '-1',
  '0',
  '65535',
  '65536',
  '4294967295',
  '1e9',
  '1Ei',
  '1n',
  '-1Gi',
  '0x10',
  'NaN',
  'true',
  'null',
  'root',
  'nobody:x',
  '0:0',
  'unconfined',
  'Localhost',
  'Unconfined',
  'hostPath',
  'Host',
  'ALL',
  'SYS_ADMIN',
  'CAP_SYS_ADMIN',
  'NET_RAW',
  'Bidirectional',
  'privileged',
  'constructor',
  'toString',
  'hasOwnProperty',
  'x'.repeat(64),
  'x'.repeat(300),
  'é'.repeat(40),
  'run.oci.seccomp_bpf_data',
  'io.kubernetes.cri.container-type',
  'kube-root-ca.crt',
  'metadata.uid',
  "metadata.labels['app']",
  'status.hostIP',
  'spec.nodeName',
  '127.0.0.1',
  '::1',
  '169.254.169.254',
]
const HOSTILE_NUMBERS = [
  0,
  -0,
  1,
  -1,
  2,
  0.5,
  80,
  443,
  511,
  512,
  0o4755,
  1e3,
  65_534,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1e21,
  -(2 ** 31),
  1e-7,
]
const HOSTILE_KEYS = [
  'privileged',
  'hostPID',
  'hostPath',
  'hostNetwork',
  'hostUsers',
  'procMount',
  'devices',
  'runtimeClassName',
  'constructor',
  'prototype',
  'toString',
  '',
  'a.b',
  'linux',
  'mounts',
  'capabilities',
  'id',
  'tenant',
  'runtime',
  'image',
  'nodeName',
]

export function clone<T>(value: T): T {
  if (Array.isArray(value)) return value.map(clone) as T
  if (typeof value !== 'object' || value === null) return value
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) copy[key] = clone((value as Record<string, unknown>)[key])
  return copy as T
}

/** One change somewhere in the document. */
export function mutate(root: Json, random: Random): void {
  const place = placeIn(root, random)
  if (!place) return
  const value = at(place)
  switch (random.below(12)) {
    case 0:
      set(place, hostileValue(random))
      break
    case 1:
      if (Array.isArray(place.parent)) place.parent.splice(Number(place.key), 1)
      else delete place.parent[place.key]
      break
    case 2:
      // Another part of the same document in this place.
      set(place, clone(at(placeIn(root, random) ?? place)))
      break
    case 3:
      if (Array.isArray(place.parent)) place.parent.push(clone(value))
      else if (Array.isArray(value)) value.push(clone(value[0] ?? hostileValue(random)))
      break
    case 4:
      set(place, random.once(2) ? [value] : { [random.pick(HOSTILE_KEYS)]: value })
      break
    case 5:
    case 6:
      insertRefused(root, random)
      break
    case 7: {
      const object = isObject(value) ? value : Array.isArray(place.parent) ? undefined : place.parent
      if (object) object[random.pick(HOSTILE_KEYS)] = hostileValue(random)
      break
    }
    default:
      set(place, near(value, random))
  }
}

/** A refused field where it belongs, or anywhere. */
function insertRefused(root: Json, random: Random): void {
  for (let tries = 0; tries < 12; tries++) {
    const place = placeIn(root, random)
    const value = place && at(place)
    const object = isObject(value) ? value : undefined
    if (!object) continue
    const telling = Object.keys(object).find((key) => REFUSED_OF.has(key))
    const fitting = telling === undefined ? [] : (REFUSED_OF.get(telling) ?? [])
    if (fitting.length === 0 && !random.once(4)) continue
    const field = fitting.length > 0 ? random.pick(fitting) : random.pick(REFUSED).field
    object[field] = hostileValue(random)
    return
  }
}

/** What somebody might have meant: most of it is still valid. */
function near(value: Json, random: Random): Json {
  if (typeof value === 'boolean') return !value
  if (typeof value === 'number')
    return random.once(3) ? random.pick(HOSTILE_NUMBERS) : value + random.below(7) - 3
  if (typeof value === 'string') {
    if (random.once(4)) return random.pick(HOSTILE_TEXTS)
    const cut = random.below(value.length + 1)
    switch (random.below(5)) {
      case 0:
        return value.slice(0, cut)
      case 1:
        return `${value.slice(0, cut)}${random.pick(HOSTILE_TEXTS)}${value.slice(cut)}`
      case 2:
        return `${value}${random.below(100)}`
      case 3:
        return `${value.slice(0, cut)}${String.fromCodePoint(33 + random.below(94))}${value.slice(cut + 1)}`
      default:
        return `${value}-${random.pick(['a', 'b', 'x1'])}`
    }
  }
  if (Array.isArray(value))
    return random.once(2) ? value.toReversed() : value.slice(random.below(value.length + 1))
  return isObject(value) ? { ...value, ...(random.once(2) ? { name: 'near' } : {}) } : hostileValue(random)
}

function hostileValue(random: Random): Json {
  switch (random.below(9)) {
    case 0:
      return null
    case 1:
    case 2:
      return random.once(2)
    case 3:
      return random.pick(HOSTILE_NUMBERS)
    case 4:
    case 5:
      return random.pick(HOSTILE_TEXTS)
    case 6:
      return random.once(2) ? [] : [hostileValue(random)]
    case 7:
      return { path: random.pick(HOSTILE_TEXTS), type: 'Directory' }
    default:
      return random.once(2) ? {} : { [random.pick(HOSTILE_KEYS)]: hostileValue(random) }
  }
}

/** A place at any depth, found by going down at random. */
function placeIn(root: Json, random: Random): Place | undefined {
  let place: Place | undefined
  let value = root
  for (;;) {
    if (typeof value !== 'object' || value === null) return place
    const keys = Array.isArray(value) ? value.length : Object.keys(value)
    const count = typeof keys === 'number' ? keys : keys.length
    if (count === 0) return place
    const index = random.below(count)
    const key = typeof keys === 'number' ? index : (keys[index] ?? '')
    place = { parent: value as Place['parent'], key }
    if (random.once(6)) return place
    value = at(place)
  }
}

function at({ parent, key }: Place): Json {
  return (parent as Record<string | number, Json>)[key] ?? null
}

function set({ parent, key }: Place, value: Json): void {
  ;(parent as Record<string | number, Json>)[key] = value
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
