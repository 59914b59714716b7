/**
 * Undoes, in reverse order, what was registered, unless `release` was called. Register an undo before its step,
 * because a step can fail halfway; every undo must therefore be safe when its step did nothing.
 */
export class UndoStack implements AsyncDisposable {
  private undos: (() => unknown)[] = []

  add(undo: () => unknown): void {
    this.undos.push(undo)
  }

  /** Everything is up: keep it. */
  release(): void {
    this.undos = []
  }

  /** Runs every undo even when some fail, then throws what failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = []
    for (const undo of this.undos.reverse()) {
      try {
        await undo()
      } catch (error) {
        errors.push(error)
      }
    }
    this.undos = []
    if (errors.length > 0) throw new AggregateError(errors, 'Undoing left something behind')
  }
}
