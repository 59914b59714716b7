/** A constant message and fields, so that a log can be searched. Tenants' bytes go only into fields. */
export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
  with(fields: Record<string, unknown>): Logger
}

const FIELD_CHARS_MAX = 4_096
const LEVELS = ['debug', 'info', 'warn', 'error'] as const

/** Writes one JSON document per line. JSON escapes line breaks and control bytes, so no field can forge a line. */
export function createLogger(
  component: string,
  {
    write = (line: string) => void process.stderr.write(line),
    level = 'info' as (typeof LEVELS)[number],
  } = {},
): Logger {
  const emit = (at: (typeof LEVELS)[number], message: string, fields: Record<string, unknown>) => {
    if (LEVELS.indexOf(at) < LEVELS.indexOf(level)) return
    write(
      JSON.stringify(
        { time: new Date().toISOString(), level: at, component, message, ...fields },
        printable,
      ) + '\n',
    )
  }
  const bind = (bound: Record<string, unknown>): Logger => ({
    debug: (message, fields) => emit('debug', message, { ...bound, ...fields }),
    info: (message, fields) => emit('info', message, { ...bound, ...fields }),
    warn: (message, fields) => emit('warn', message, { ...bound, ...fields }),
    error: (message, fields) => emit('error', message, { ...bound, ...fields }),
    with: (fields) => bind({ ...bound, ...fields }),
  })
  return bind({})
}

export const silentLogger: Logger = createLogger('silent', { write: () => {} })

function printable(_key: string, value: unknown): unknown {
  if (value instanceof Error)
    return {
      error: value.message,
      stack: value.stack,
      ...(value.cause === undefined ? {} : { cause: value.cause }),
    }
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'string' && value.length > FIELD_CHARS_MAX)
    return `${value.slice(0, FIELD_CHARS_MAX)}…`
  return value
}
