import { type SchemaOptions, stringify } from 'yaml'

/** The 1.1 form takes a single dot, which stands in every managedFields, for a number; a number has a digit. */
const withoutLoneDot: NonNullable<SchemaOptions['customTags']> = (tags) =>
  tags.map((tag) =>
    typeof tag === 'object' && tag.tag === 'tag:yaml.org,2002:float' && 'test' in tag && tag.test?.test('.')
      ? { ...tag, test: /^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)$/ }
      : tag,
  )

/**
 * YAML as Kubernetes writes it: sorted keys, and in quotes whatever a YAML 1.1 reader would take for something else
 * than text, such as `no` or a time.
 */
export function renderYaml(value: unknown): string {
  return stringify(value, {
    sortMapEntries: true,
    version: '1.1',
    indentSeq: false,
    lineWidth: 0,
    aliasDuplicateObjects: false,
    customTags: withoutLoneDot,
  })
}
