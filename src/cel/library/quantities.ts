import { parseQuantity } from '../../api/index.ts'
import type { Meter } from '../meter.ts'
import { Fault, isInt, OpaqueValue, type Value } from '../values.ts'
import { free, method, type Overload } from './overload.ts'

const NANO = 1_000_000_000n
/** What sums may reach; parsed quantities stay far below. */
const NANOS_MAX = 2n ** 200n

class Quantity extends OpaqueValue {
  override readonly typeName = 'kubernetes.Quantity'
  readonly nanos: bigint
  constructor(nanos: bigint) {
    super()
    this.nanos = nanos
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof Quantity && other.nanos === this.nanos
  }
}

function parsed(meter: Meter, text: string): Quantity | undefined {
  meter.read(text.length)
  try {
    return new Quantity(parseQuantity(text).nanos)
  } catch {
    return undefined
  }
}
const made = (nanos: bigint): Value | Fault =>
  nanos > NANOS_MAX || nanos < -NANOS_MAX ? new Fault('quantity overflow') : new Quantity(nanos)
const whole = ({ nanos }: Quantity) => nanos % NANO === 0n && isInt(nanos / NANO)
const order = (a: bigint, b: bigint) => (a < b ? -1n : a > b ? 1n : 0n)
const Q = 'kubernetes.Quantity'

export const quantities: readonly Overload[] = [
  free('isQuantity', 'string', 'bool', (meter, text: string) => parsed(meter, text) !== undefined),
  free(
    'quantity',
    'string',
    Q,
    (meter, text: string) =>
      parsed(meter, text) ??
      new Fault(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
      ),
  ),
  method('isInteger', Q, 'bool', (_meter, value: Quantity) => whole(value)),
  method('asInteger', Q, 'int', (_meter, value: Quantity) =>
    whole(value) ? value.nanos / NANO : new Fault('cannot convert value to integer'),
  ),
  method('asApproximateFloat', Q, 'double', (_meter, { nanos }: Quantity) => Number(nanos) / 1e9),
  method('sign', Q, 'int', (_meter, { nanos }: Quantity) => order(nanos, 0n)),
  method('add', `${Q}, ${Q}`, Q, (_meter, a: Quantity, b: Quantity) => made(a.nanos + b.nanos)),
  method('add', `${Q}, int`, Q, (_meter, a: Quantity, b: bigint) => made(a.nanos + b * NANO)),
  method('sub', `${Q}, ${Q}`, Q, (_meter, a: Quantity, b: Quantity) => made(a.nanos - b.nanos)),
  method('sub', `${Q}, int`, Q, (_meter, a: Quantity, b: bigint) => made(a.nanos - b * NANO)),
  method('isGreaterThan', `${Q}, ${Q}`, 'bool', (_meter, a: Quantity, b: Quantity) => a.nanos > b.nanos),
  method('isLessThan', `${Q}, ${Q}`, 'bool', (_meter, a: Quantity, b: Quantity) => a.nanos < b.nanos),
  method('compareTo', `${Q}, ${Q}`, 'int', (_meter, a: Quantity, b: Quantity) => order(a.nanos, b.nanos)),
]
