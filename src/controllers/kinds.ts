// The kinds that controllers work with, in one place.
export * from '../api/kinds/index.ts'
