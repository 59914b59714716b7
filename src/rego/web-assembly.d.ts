/** What this room uses of WebAssembly: the compiler's library for Node does not describe it. */
declare namespace WebAssembly {
  type ImportExportKind = 'function' | 'global' | 'memory' | 'table' | 'tag'
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>)
    static imports(module: Module): { module: string; name: string; kind: ImportExportKind }[]
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, unknown>>)
    readonly exports: Record<string, unknown>
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number })
    readonly buffer: ArrayBuffer
  }
  class Global {
    readonly value: unknown
  }
  type MemoryDescriptor = { initial: number; maximum?: number }
  type WebAssemblyInstantiatedSource = { module: Module; instance: Instance }
}
