import { RENDERED_BYTES_MAX, RENDERED_OBJECTS_MAX } from './limits.ts'

/**
 * Events as they were sent to one watcher, because others are told of the same ones: who wants the same form gets the very
 * same buffer, which a link sends once for all of them.
 */
export class RenderedEvents {
  /** By what they tell of, longest unchanged first; then by form. */
  private readonly known = new Map<object, Map<string, Buffer>>()
  private bytes = 0

  find(object: object, form: string): Buffer | undefined {
    return this.known.get(object)?.get(form)
  }

  keep(object: object, form: string, event: Buffer): Buffer {
    const forms = this.known.get(object)
    if (forms) forms.set(form, event)
    else this.known.set(object, new Map([[form, event]]))
    this.bytes += event.length
    for (const [oldest, itsForms] of this.known) {
      if (this.known.size <= RENDERED_OBJECTS_MAX && this.bytes <= RENDERED_BYTES_MAX) break
      this.known.delete(oldest)
      for (const { length } of itsForms.values()) this.bytes -= length
    }
    return event
  }
}
