// Policies in Rego, compiled to WebAssembly: asked in threads that can be ended.
export { type PolicyBundle, RegoThreads, type RegoAnswer, type RegoQuestion } from './threads.ts'
export { BUNDLE_BYTES_MAX } from './limits.ts'
