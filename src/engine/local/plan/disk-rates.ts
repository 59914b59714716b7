import type { DiskRates } from '../../../jail/index.ts'
import { MiB } from '../../../stdx/index.ts'

/** What a tenant's pods may do to the disk in a second when the operator says nothing: nobody is without a limit. */
const DEFAULTS: Required<DiskRates> = {
  readBytes: 256 * MiB,
  writeBytes: 256 * MiB,
  readOperations: 20_000,
  writeOperations: 20_000,
}
/** The least that lets a container start at all. */
const BYTES_MIN = 1 * MiB
const OPERATIONS_MIN = 50
/** The kernel counts operations in 32 bits in version 1. */
const OPERATIONS_MAX = 2 ** 31

export function diskRatesOf(rates: DiskRates | undefined): Required<DiskRates> {
  const bytes = (wanted: number | undefined, usual: number) => Math.max(BYTES_MIN, wanted ?? usual)
  const operations = (wanted: number | undefined, usual: number) =>
    Math.min(OPERATIONS_MAX, Math.max(OPERATIONS_MIN, wanted ?? usual))
  return {
    readBytes: bytes(rates?.readBytes, DEFAULTS.readBytes),
    writeBytes: bytes(rates?.writeBytes, DEFAULTS.writeBytes),
    readOperations: operations(rates?.readOperations, DEFAULTS.readOperations),
    writeOperations: operations(rates?.writeOperations, DEFAULTS.writeOperations),
  }
}
