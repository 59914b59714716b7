// The resolver that pods ask for names: a daemon without privilege in the router's network namespace.
export { type Resolver, type ResolverOptions, createResolver } from './resolver.ts'
export { Forwarder, type ForwarderOptions } from './forwarder.ts'
