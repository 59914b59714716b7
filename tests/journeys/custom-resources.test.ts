import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../../src/stdx/index.ts'
import { kubectlMissing } from '../conformance/kubectl.ts'
import { PretendTenant } from './pretend-tenant.ts'

const CRONTABS = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status', priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    selectableFields: [{jsonPath: .spec.cronSpec}]
    schema:
      openAPIV3Schema: &schema
        type: object
        description: When something runs.
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: '!has(self.image) || self.image != "forbidden"', messageExpression: '"no " + self.image'}
            - {rule: '!has(oldSelf.fixed) || (has(self.fixed) && self.fixed == oldSelf.fixed)', message: fixed is fixed, fieldPath: .fixed}
            properties:
              cronSpec: {type: string, description: When., pattern: '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$'}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              image: {type: string}
              fixed: {type: string}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, port: {x-kubernetes-int-or-string: true}}
              labels: {type: object, additionalProperties: {type: string}}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties:
              replicas: {type: integer}
              labelSelector: {type: string}
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema:
      openAPIV3Schema: *schema
`

const CRONTAB = (name: string, spec = '{cronSpec: "* * * * */5", image: i}') => `
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: ${name}}
spec: ${spec}
`

describe(
  'kinds of a tenant’s own with the real kubectl, API server and controllers',
  { skip: kubectlMissing && 'kubectl is not installed for this machine' },
  () => {
    let tenant: PretendTenant
    const ok = (args: readonly string[], input = '') => tenant.ok(args, input)
    const refused = (args: readonly string[], input = '') => tenant.refused(args, input)

    before(async () => {
      tenant = await PretendTenant.start('shop')
      await ok(['apply', '-f', '-'], CRONTABS)
      await ok(['wait', '--for=condition=Established', 'crd/crontabs.stable.example.com', '--timeout=20s'])
    })
    after(async () => tenant?.[Symbol.asyncDispose]())

    test('its objects are applied, read, explained and shown like those of built-in kinds', async () => {
      assert.match(await ok(['apply', '-f', '-'], CRONTAB('one')), /crontab.stable.example.com\/one created/)
      assert.match(await ok(['apply', '-f', '-'], CRONTAB('one')), /unchanged/)
      assert.match(await ok(['get', 'ct']), /^NAME +SPEC +REPLICAS +AGE\none +\* \* \* \* \*\/5 +1 +\d+s\n$/)
      assert.match(await ok(['get', 'crontab', '-o', 'wide']), /READY/)
      assert.match(await ok(['get', 'all']), /crontab.stable.example.com\/one/)
      assert.match(
        await ok(['explain', 'crontab.spec']),
        /replicas\t<integer>[\s\S]*What is wanted|What is wanted[\s\S]*replicas\t<integer>/,
      )
      assert.match(
        await ok(['api-resources', '--api-group=stable.example.com']),
        /crontabs +ct +stable.example.com\/v1 +true +CronTab/,
      )
      assert.match(
        await ok(['get', 'ct', '--field-selector', 'spec.cronSpec=* * * * */5', '-o', 'name']),
        /one/,
      )
    })

    test('what the schema forbids is refused in the words of Kubernetes', async () => {
      const said = await refused(['apply', '-f', '-'], CRONTAB('bad', '{cronSpec: "0", replicas: 20}'))
      assert.match(said, /The CronTab "bad" is invalid/)
      assert.match(
        said,
        /spec.replicas: Invalid value: 20: spec.replicas in body should be less than or equal to 10/,
      )
      assert.match(said, /spec.cronSpec: Invalid value: "0": spec.cronSpec in body should match/)
      assert.match(
        await refused(['apply', '-f', '-'], CRONTAB('bad', '{cronSpec: "* * * * *", bogus: 1}')),
        /unknown field "spec.bogus"/,
      )
      assert.match(
        await refused(['create', '-f', '-'], CRONTAB('bad', '{cronSpec: "* * * * *", replicas: x}')),
        /spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"/,
      )
      assert.match(
        await refused(['create', '-f', '-'], CRONTAB('bad', '{}')),
        /spec.cronSpec: Required value/,
      )
    })

    test('rules of the schema are asked, about what is and about what changes', async () => {
      assert.match(
        await refused(['create', '-f', '-'], CRONTAB('bad', '{cronSpec: "* * * * *", image: forbidden}')),
        /spec: Invalid value: "object": no forbidden/,
      )
      await ok(['apply', '-f', '-'], CRONTAB('ruled', '{cronSpec: "* * * * *", fixed: a}'))
      assert.match(
        await refused(['patch', 'ct', 'ruled', '--type=merge', '-p', '{"spec":{"fixed":"b"}}']),
        /spec.fixed: Invalid value: "object": fixed is fixed/,
      )
      await ok(['delete', 'ct', 'ruled'])
      const wrong = CRONTABS.replace('self.image != "forbidden"', 'self.imgae != "x"')
      assert.match(
        await refused(['apply', '-f', '-'], wrong),
        /compilation failed[\s\S]*undefined field 'imgae'/,
      )
    })

    test('it is patched, scaled, labelled, reported on and applied by the server', async () => {
      await ok(['apply', '-f', '-'], CRONTAB('two'))
      await ok(['patch', 'ct', 'two', '--type=merge', '-p', '{"spec":{"image":"new"}}'])
      await ok([
        'patch',
        'ct',
        'two',
        '--type=json',
        '-p',
        '[{"op":"replace","path":"/spec/image","value":"json"}]',
      ])
      assert.match(
        await refused(['patch', 'ct', 'two', '-p', '{"spec":{"image":"x"}}']),
        /unknown format|not supported/i,
      )
      await ok(['scale', 'crontab/two', '--replicas=3'])
      assert.equal(
        await ok([
          'get',
          'ct',
          'two',
          '-o',
          'jsonpath={.spec.replicas} {.spec.image} {.metadata.generation}',
        ]),
        '3 json 4',
      )
      await ok(['label', 'ct', 'two', 'a=b'])
      await ok([
        'patch',
        'ct',
        'two',
        '--subresource=status',
        '--type=merge',
        '-p',
        '{"status":{"replicas":3},"spec":{"image":"no"}}',
      ])
      assert.equal(
        await ok([
          'get',
          'ct',
          'two',
          '-o',
          'jsonpath={.status.replicas} {.spec.image} {.metadata.generation}',
        ]),
        '3 json 4',
      )
      const applied = (ports: string) => CRONTAB('three', `{cronSpec: "* * * * *", ports: ${ports}}`)
      await ok(['apply', '--server-side', '--field-manager=one', '-f', '-'], applied('[{name: a, port: 1}]'))
      await ok(
        ['apply', '--server-side', '--field-manager=two', '-f', '-'],
        applied('[{name: b, port: http}]'),
      )
      assert.equal(await ok(['get', 'ct', 'three', '-o', 'jsonpath={.spec.ports[*].name}']), 'a b')
      assert.match(
        await refused(
          ['apply', '--server-side', '--field-manager=two', '-f', '-'],
          applied('[{name: a, port: 2}, {name: b, port: http}]'),
        ),
        /conflict with "one": \.spec\.ports\[name="a"\]\.port/,
      )
    })

    test('every version shows the same objects, and an old one says so', async () => {
      await ok(['apply', '-f', '-'], CRONTAB('four'))
      const answer = await tenant.kubectl.run([
        '-n',
        'shop',
        'get',
        'crontabs.v1beta1.stable.example.com',
        'four',
        '-o',
        'jsonpath={.apiVersion}',
      ])
      assert.equal(answer.stdout, 'stable.example.com/v1beta1')
      assert.match(
        answer.stderr,
        /stable.example.com\/v1beta1 CronTab is deprecated; use stable.example.com\/v1 CronTab/,
      )
    })

    test('owners and quotas reach over kinds', async () => {
      await ok(['create', 'quota', 'few', '--hard=count/crontabs.stable.example.com=6'])
      await ok(['apply', '-f', '-'], CRONTAB('owner'))
      const uid = await ok(['get', 'ct', 'owner', '-o', 'jsonpath={.metadata.uid}'])
      await ok(
        ['create', '-f', '-'],
        `
apiVersion: v1
kind: ConfigMap
metadata:
  name: owned
  ownerReferences: [{apiVersion: stable.example.com/v1, kind: CronTab, name: owner, uid: ${uid}}]
`,
      )
      await until(async () =>
        (await ok(['get', 'quota', 'few', '-o', 'jsonpath={.status.used}'])).includes('"5"'),
      )
      await ok(['apply', '-f', '-'], CRONTAB('last'))
      assert.match(await refused(['create', '-f', '-'], CRONTAB('many')), /exceeded quota: few/)
      await ok(['delete', 'ct', 'owner', 'last'])
      await until(async () => (await ok(['get', 'configmap', '-o', 'name'])).includes('owned') === false)
    })

    test('a name belongs to who had it first, until it is free', async () => {
      const rival = (plural: string) => `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ${plural}.names.example.com}
spec:
  group: names.example.com
  scope: Cluster
  names: {plural: ${plural}, kind: Same, singular: ${plural}x}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`
      await ok(['apply', '-f', '-'], rival('firsts'))
      await ok(['wait', '--for=condition=Established', 'crd/firsts.names.example.com', '--timeout=20s'])
      await ok(['apply', '-f', '-'], rival('seconds'))
      await ok([
        'wait',
        '--for=condition=NamesAccepted=false',
        'crd/seconds.names.example.com',
        '--timeout=20s',
      ])
      const conditions = await ok([
        'get',
        'crd',
        'seconds.names.example.com',
        '-o',
        'jsonpath={range .status.conditions[*]}{.type}={.status} {.reason} {.message};{end}',
      ])
      assert.match(conditions, /NamesAccepted=False \w+Conflict "Same(List)?" is already in use;/)
      assert.match(conditions, /Established=False NotAccepted not all names are accepted;/)
      assert.match(await refused(['get', '--raw', '/apis/names.example.com/v1/seconds']), /could not find/)
      await ok(['delete', 'crd', 'firsts.names.example.com', '--timeout=30s'])
      await ok(['wait', '--for=condition=Established', 'crd/seconds.names.example.com', '--timeout=20s'])
      await ok(['get', '--raw', '/apis/names.example.com/v1/seconds'])
      await ok(['delete', 'crd', 'seconds.names.example.com', '--timeout=30s'])
    })

    test('a namespace and a definition take their objects with them', async () => {
      await ok(['create', 'namespace', 'other'])
      await ok(['-n', 'other', 'apply', '-f', '-'], CRONTAB('there'))
      await ok(['delete', 'namespace', 'other', '--timeout=30s'])
      await ok(['delete', 'crd', 'crontabs.stable.example.com', '--timeout=30s'])
      assert.match(
        await refused(['get', 'ct']),
        /could not find the requested resource|doesn't have a resource type/,
      )
      await ok(['apply', '-f', '-'], CRONTABS)
      await ok(['wait', '--for=condition=Established', 'crd/crontabs.stable.example.com', '--timeout=20s'])
      assert.equal(await ok(['get', 'ct', '-A', '-o', 'name']), '')
    })
  },
)
