import type { JailId } from './uid.ts'

/** What the containers of a jail have used by now, as the kernel counts it. */
export type JailUsage = {
  id: JailId
  /** When it was read, in milliseconds of the machine's clock. */
  atMs: number
  containers: readonly ContainerUsage[]
}

export type ContainerUsage = {
  name: string
  /** Two readings belong together when this is the same in both: a restarted container counts from zero. */
  run: string
  /** Since the container started. */
  cpuNanos: number
  /** Without what the kernel can take back at once, as the kubelet counts it. */
  workingSetBytes: number
}
