import assert from 'node:assert/strict'
import type { Report } from '../../src/verifier/index.ts'
import type { TestPlatform } from './platform.ts'

/** What `bulkhead verify` finds on the machine now, and how it ends. */
export async function verify(platform: TestPlatform): Promise<Report & { code: number }> {
  const { code, stdout, stderr } = await platform.cli('verify', '-o', 'json')
  assert.ok(stdout.startsWith('{'), `verify printed no JSON, but ended with ${code}: ${stderr}${stdout}`)
  return { code, ...(JSON.parse(stdout) as Report) }
}

type VectorReport = Report['groups'][number]['vectors'][number]

/** Every vector of every pair of tenants. */
export function vectorsOf({ groups }: Report): ({ attacker: string; victim: string } & VectorReport)[] {
  return groups.flatMap(({ attackers, victims, vectors }) =>
    attackers.flatMap((attacker) =>
      victims
        .filter((victim) => victim !== attacker)
        .flatMap((victim) => vectors.map((vector) => ({ attacker, victim, ...vector }))),
    ),
  )
}
