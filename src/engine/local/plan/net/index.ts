// What the pods' network should be: addresses, rules, services and names, all computed without touching the machine.
export * from './addresses.ts'
export * from './link-filter.ts'
export * from './names.ts'
export * from './ruleset.ts'
export * from './services.ts'
export * from './router-diff.ts'
export * as netLimits from './limits.ts'
