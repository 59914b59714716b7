/** A table as kubectl prints it: columns as wide as their widest cell, three spaces apart. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
      .join('   ')
      .trimEnd()
  return [header, ...rows].map(line).join('\n')
}

// oxlint-disable-next-line no-control-regex -- finding them is the point
const UNPRINTABLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

/** Text of a tenant for a terminal: control bytes cannot move the cursor or forge a line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, '\ufffd')
}

const COLUMNS_MAX = 100

/** `text` in lines that fit a terminal beside `indentChars` of something else; a longer word stays whole. */
export function wrapped(text: string, indentChars: number, columnsMax = COLUMNS_MAX): string[] {
  const lines: string[] = []
  for (const word of printable(text).split(/\s+/)) {
    const last = lines.at(-1)
    if (last !== undefined && indentChars + last.length + 1 + word.length <= columnsMax)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}
