// Request bodies: JSON, YAML and protobuf become one decoded object; objects become protobuf for who wants that.
export * from './limits.ts'
export { type ParsedJson, parseJson } from './strict-json.ts'
export { parseYaml } from './yaml.ts'
export { type DecodedProtobuf, decodeProtobuf, encodeProtobuf, hasProtobuf } from './protobuf.ts'
export { type BodyHeaders, type DecodedBody, decodeBody, decodePatchBody, mediaType } from './body.ts'
