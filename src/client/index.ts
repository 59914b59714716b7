// How a part of the platform talks to a control plane: typed client, informer, work queue.
export * from './api-client.ts'
