import type { KubeObject } from '../api/index.ts'
import type { StoredObject, StoreEvent, StoreKey } from './store.ts'

/** An object with what it counts for in the partition's size. */
export type Stored = StoredObject & { readonly bytes: number }

/** One durable write: `current` is undefined for a deletion. */
export type Change = {
  revision: number
  key: StoreKey
  current: Stored | undefined
  previous: Stored | undefined
  event: StoreEvent | undefined
}

/** The text that an object was parsed from. Objects of the store are frozen, so it stays theirs. */
const texts = new WeakMap<KubeObject, string>()

/** An object of a store as JSON, or undefined when it is none: whoever answers with one need not render it again. */
export function storedText(object: KubeObject): string | undefined {
  return texts.get(object)
}

export function stored(key: StoreKey, revision: number, json: string, bytes: number): Stored {
  return new StoredText(key, revision, json, bytes)
}

const BEFORE_METADATA = '"metadata":'

/** Parsed when first asked for, because most objects of an idle tenant never are, and answers need only the text. */
class StoredText implements Stored {
  readonly key: StoreKey
  readonly revision: number
  readonly bytes: number
  private readonly text: string
  private parsed: KubeObject | undefined
  /** Length of the metadata in the text. */
  private metadataChars: number | undefined

  constructor(key: StoreKey, revision: number, text: string, bytes: number) {
    this.key = key
    this.revision = revision
    this.text = text
    this.bytes = bytes
  }

  get object(): KubeObject {
    if (this.parsed) return this.parsed
    const parsed = (this.parsed = freezeDeep(JSON.parse(this.text) as KubeObject))
    texts.set(parsed, this.text)
    return parsed
  }

  json(): string {
    return this.text
  }

  metadataJson(): string {
    const { text, metadataChars } = this
    const from = text.indexOf(BEFORE_METADATA) + BEFORE_METADATA.length
    if (metadataChars !== undefined) return text.slice(from, from + metadataChars)
    const rendered = JSON.stringify(this.object.metadata)
    // Wherever the same text stands, it says the same.
    if (text.startsWith(rendered, from)) this.metadataChars = rendered.length
    return rendered
  }
}

/** The event of a change, made once for all watchers. */
export function eventOf(change: Change): StoreEvent {
  return (change.event ??= renderEvent(change))
}

function renderEvent({ revision, key, current, previous }: Change): StoreEvent {
  if (current)
    return {
      type: 'PUT',
      key,
      revision,
      get object() {
        return current.object
      },
      get previous() {
        return previous?.object
      },
      json: () => current.json(),
    }
  return {
    type: 'DELETE',
    key,
    revision,
    get previous() {
      return previous!.object // only what exists is deleted
    },
  }
}

function freezeDeep(root: KubeObject): KubeObject {
  // A list instead of recursion: a tenant decides how deep an object is.
  const open: object[] = [root]
  const visit = (child: unknown) => {
    if (typeof child === 'object' && child !== null) open.push(child)
  }
  for (let value = open.pop(); value; value = open.pop()) {
    // The fastest way through each of the two.
    if (Array.isArray(value)) for (let at = 0; at < value.length; at++) visit(value[at])
    else for (const key in value) visit((value as Record<string, unknown>)[key])
    Object.freeze(value)
  }
  return root
}

/** The newest changes, without gaps: a watch or a paged list that began at a revision in here can go on. */
export class History {
  private changes: Change[] = []
  private bytes = 0
  /** Changes up to and including this revision are forgotten. */
  start: number

  constructor(start: number) {
    this.start = start
  }

  get length(): number {
    return this.changes.length
  }

  add(change: Change): void {
    this.changes.push(change)
    this.bytes += costOf(change)
  }

  /** The change at `revision`; undefined beyond the newest. Requires: `revision > start`. */
  at(revision: number): Change | undefined {
    return this.changes[revision - this.start - 1]
  }

  /** Where the history has to start to be within the limits; its present start when it is not `slack` above them. */
  planStart({ eventsMax, bytesMax, slack }: { eventsMax: number; bytesMax: number; slack: number }): number {
    if (this.changes.length <= eventsMax * (1 + slack) && this.bytes <= bytesMax * (1 + slack))
      return this.start
    let { bytes } = this
    let count = 0
    for (const change of this.changes) {
      if (this.changes.length - count <= eventsMax && bytes <= bytesMax) break
      bytes -= costOf(change)
      count++
    }
    return this.start + count
  }

  /** Rows that nobody needs once the history starts at `start`: what these changes replaced, and their tombstones. */
  rowsBefore(start: number): number[] {
    const rows: number[] = []
    for (let i = 0; i < start - this.start; i++) {
      const change = this.changes[i]! // start is at most the newest revision
      if (change.previous) rows.push(change.previous.revision)
      if (!change.current) rows.push(change.revision)
    }
    return rows
  }

  trim(start: number): void {
    const gone = this.changes.splice(0, start - this.start)
    for (const change of gone) this.bytes -= costOf(change)
    this.start = start
  }

  /** Each key under `prefix` that changed after `revision`, with what it was then. */
  statesAt(revision: number, prefix: string): Map<StoreKey, Stored | undefined> {
    const states = new Map<StoreKey, Stored | undefined>()
    for (let i = revision - this.start; i < this.changes.length; i++) {
      const { key, previous } = this.changes[i]! // within bounds
      if (key.startsWith(prefix) && !states.has(key)) states.set(key, previous)
    }
    return states
  }
}

/** A fixed part for the record itself, so that many deletions count as well. */
const CHANGE_BYTES = 128

function costOf({ key, current }: Change): number {
  return CHANGE_BYTES + (current ? current.bytes : key.length)
}
