import { integer, object, optional, Problems } from './shape.ts'

/** What all pods of a tenant may read from and write to the disk in a second; the platform's limit where absent. */
export type DiskRates = {
  readBytes?: number
  writeBytes?: number
  readOperations?: number
  writeOperations?: number
}

const rate = integer(1, 2 ** 50)
const shape = object<DiskRates>({
  readBytes: optional(rate),
  writeBytes: optional(rate),
  readOperations: optional(rate),
  writeOperations: optional(rate),
})

/** @throws {TypeError} that names the first problem. */
export function parseDiskRates(value: unknown): DiskRates {
  const problems = new Problems()
  const rates = shape(value, 'diskRates', problems)
  const [first] = problems.list
  if (!rates || first)
    throw new TypeError(`"${first?.field ?? 'diskRates'}" ${first?.message ?? 'is not valid'}`)
  return rates
}
