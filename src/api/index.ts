// The vocabulary: kinds, their schemas, refused fields with reasons, defaults, and the words of a Status.
export * from './meta.ts'
export * from './status.ts'
export * from './schema.ts'
export * from './kind.ts'
export * from './names.ts'
export * from './user-info.ts'
export * from './layout.ts'
