import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { HELM, platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'

const widgets = (field: string) => `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Value, type: string, jsonPath: .spec.${field}}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations: [{rule: 'self.${field}.startsWith("a")', message: must begin with a}]
            required: [${field}]
            properties: {${field}: {type: string, pattern: '^[a-z]+$'}}
`
const widget = (field: string, value: string) => `
apiVersion: example.com/v1
kind: Widget
metadata: {name: one}
spec: {${field}: ${value}}
`

/** A chart that brings its own kind, and an object of it. */
async function writeChart(directory: string): Promise<string> {
  const chart = join(directory, 'widget-chart')
  await mkdir(join(chart, 'crds'), { recursive: true })
  await mkdir(join(chart, 'templates'))
  await writeFile(join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: widget-chart\nversion: 0.1.0\n')
  await writeFile(join(chart, 'values.yaml'), 'value: abc\n')
  await writeFile(join(chart, 'crds/widgets.yaml'), widgets('blue'))
  await writeFile(join(chart, 'templates/widget.yaml'), widget('blue', '{{ .Values.value }}'))
  return chart
}

describe('kinds of tenants on a real platform', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let directory: string

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bulkhead-own-kinds-'))
    platform = await TestPlatform.start({
      instance: 'crk',
      slot: 26,
      tenants: [{ name: 'red' }, { name: 'blue', trust: 'untrusted' }],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })

  test('a chart with crds/ installs, upgrades and is refused by the schema that it brought', async () => {
    const chart = await writeChart(directory)
    const helm = (...args: string[]) => {
      const home = { HOME: directory, PATH: '/usr/bin:/bin', KUBECONFIG: platform.kubeconfig('blue') }
      const { status, stdout, stderr } = spawnSync(HELM[3], args, {
        env: home,
        encoding: 'utf8',
        timeout: 90_000,
      })
      return { status, said: stdout + stderr }
    }
    const installed = helm('install', 'w', chart, '--wait')
    assert.equal(installed.status, 0, installed.said)
    assert.match(await platform.mustKubectl('blue', 'get', 'wd'), /NAME +VALUE\none +abc\n/)
    const upgraded = helm('upgrade', 'w', chart, '--set', 'value=abd')
    assert.equal(upgraded.status, 0, upgraded.said)
    assert.match(await platform.mustKubectl('blue', 'get', 'wd'), /one +abd\n/)
    const refused = helm('upgrade', 'w', chart, '--set', 'value=xyz')
    assert.notEqual(refused.status, 0)
    assert.match(refused.said, /must begin with a/)
    assert.match(await platform.mustKubectl('blue', 'explain', 'widget.spec.blue'), /FIELD: blue <string>/)
  })

  test('two tenants call different things by the same name, and neither sees the other’s', async () => {
    assert.match(
      (await platform.kubectl('red', 'get', 'widgets')).stderr,
      /the server doesn't have a resource type "widgets"/,
    )
    await platform.apply('red', widgets('red'))
    await platform.mustKubectl(
      'red',
      'wait',
      '--for=condition=Established',
      'crd/widgets.example.com',
      '--timeout=20s',
    )
    await platform.apply('red', widget('red', 'abc'))
    const wrong = await platform.runKubectl('red', ['apply', '-f', '-'], { input: widget('blue', 'abc') })
    assert.match(wrong.stderr, /spec\.blue: Unknown field/)
    assert.match(
      await platform.mustKubectl('red', 'get', 'wd', '-A', '-o', 'name'),
      /^widget.example.com\/one\n$/,
    )
    // One tenant's definition goes with its objects, and the other's stays.
    await platform.mustKubectl('red', 'delete', 'crd', 'widgets.example.com', '--timeout=30s')
    await until(
      async () => (await platform.kubectl('red', 'get', '--raw', '/apis/example.com/v1')).code !== 0,
    )
    assert.match(await platform.mustKubectl('blue', 'get', 'wd'), /one +abd\n/)
  })
})
