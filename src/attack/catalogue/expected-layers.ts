export const EXPECTED_LAYERS: Readonly<Record<string, readonly string[]>> = {}
