import { parseLayout } from '../api/index.ts'
import { runCli } from '../cli/index.ts'
import { attack } from './attack.ts'
import { demo } from './demo.ts'
import { down, type MachineContext, reset, status, tenantEgress, up } from './machine.ts'
import { requireRoot } from './preflight.ts'
import { runVerify } from './verify.ts'
import { watchCommands } from './watch-commands.ts'

const VERSION = '0.1.0'

const print = (text: string) => void process.stdout.write(`${text}\n`)
const printError = (text: string) => void process.stderr.write(`${text}\n`)

// Whoever reads us may have seen enough (`bulkhead status | head -1`).
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })

function contextOf(): MachineContext {
  return { layout: parseLayout(process.env), print, progress: (text) => printError(`  … ${text}`) }
}

// Timers of our clock do not keep a process alive, and a command must live until it is done.
const alive = setInterval(() => {}, 1 << 30)
try {
  const context = contextOf()
  process.exitCode = await runCli(process.argv.slice(2), {
    layout: context.layout,
    machine: {
      up: () => up(context),
      down: () => down(context),
      reset: () => reset(context),
      status: () => status(context),
      demo: (options) => demo(context, options),
      egress: (tenant) => {
        requireRoot('bulkhead egress')
        return tenantEgress(context, tenant)
      },
      watch: watchCommands(context.layout),
      verify: (options) => {
        // A report can be checked by everybody; its key's public half is no secret.
        if (!('check' in options)) requireRoot('bulkhead verify')
        return runVerify(context, options)
      },
      attack: (options) => attack(context, options),
    },
    print,
    printError,
    version: VERSION,
    // https://no-color.org
    colour: process.stdout.isTTY && !process.env['NO_COLOR'],
  })
} catch (error) {
  printError(`bulkhead: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 2
} finally {
  clearInterval(alive)
}
