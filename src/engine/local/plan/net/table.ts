/** The only table that we make in the router's network namespace. */
export const TABLE = 'bulkhead'

/** One element of one set or map, as nft prints and reads it. */
export type Element = { set: string; text: string }

/** One command for each set. */
export function renderElements(verb: 'add' | 'delete', elements: readonly Element[]): string {
  return [...Map.groupBy(elements, (e) => e.set)]
    .map(([set, items]) => `${verb} element inet ${TABLE} ${set} { ${items.map((e) => e.text).join(', ')} }`)
    .join('\n')
}
