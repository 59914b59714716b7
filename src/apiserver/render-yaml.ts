import { stringify } from 'yaml'

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
  })
}
