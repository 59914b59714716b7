// The documents by which clients learn what a control plane serves: discovery and OpenAPI.
export { type Document, isUnchanged, renderDocument } from './document.ts'
export {
  renderAggregatedDiscovery,
  renderApiGroup,
  renderApiGroupList,
  renderApiResourceList,
  renderApiVersions,
} from './resources.ts'
export { renderOpenApiIndex, renderOpenApiV2, renderOpenApiV3 } from './openapi.ts'
