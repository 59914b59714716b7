// Request bodies: JSON, YAML and protobuf become one decoded object; answers become protobuf for who wants that.
export * from './limits.ts'
export { type ParsedJson, parseJson } from './strict-json.ts'
export { parseYaml } from './yaml.ts'
export { type DecodedProtobuf, decodeProtobuf } from './protobuf.ts'
export { type MessageRow, hasProtobuf, linkMessages } from './protobuf-messages.ts'
export { dropZeros } from './zeros.ts'
export { encodeMessage, encodeProtobuf, encodeProtobufList, frameWatchEvent } from './render-protobuf.ts'
export { type BodyHeaders, type DecodedBody, decodeBody, decodePatchBody, mediaType } from './body.ts'
