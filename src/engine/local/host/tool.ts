import { execFile } from 'node:child_process'
import { TOOL_OUTPUT_BYTES_MAX, TOOL_TIMEOUT_MS } from './limits.ts'

/**
 * Runs one of the machine's programs to its end. `mayComplain`: it exits with an error when something vanished under it,
 * and what it wrote is good all the same.
 * @throws with what it wrote when it fails.
 */
export function runTool(
  command: readonly string[],
  { timeoutMs = TOOL_TIMEOUT_MS, mayComplain = false } = {},
): Promise<string> {
  const [program = '', ...args] = command
  const done = Promise.withResolvers<string>()
  execFile(
    program,
    args,
    { timeout: timeoutMs, maxBuffer: TOOL_OUTPUT_BYTES_MAX, killSignal: 'SIGKILL', encoding: 'utf8' },
    (error, stdout, stderr) => {
      if (error && !(mayComplain && typeof error.code === 'number'))
        done.reject(
          new Error(`"${[program, ...args].join(' ')}" failed: ${stderr.trim() || error.message}`, {
            cause: error,
          }),
        )
      else done.resolve(stdout)
    },
  )
  return done.promise
}
