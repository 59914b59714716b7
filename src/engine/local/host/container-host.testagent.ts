import { json } from 'node:stream/consumers'
import type { Layout } from '../../../api/index.ts'
import type { ContainerSpec } from '../parts.ts'
import { openHost } from './container-host.testkit.ts'
import type { Tool } from './places.ts'

/** A second agent for tests: starts what it is told to start, says its id, and stays until it is killed. */
const { layout, tools, spec } = (await json(process.stdin)) as {
  layout: Layout
  tools: Tool[]
  spec: ContainerSpec
}
setInterval(() => {}, 60_000)
const { containerID } = await openHost(layout, tools).start(spec, AbortSignal.timeout(60_000))
process.stdout.write(`${containerID}\n`)
