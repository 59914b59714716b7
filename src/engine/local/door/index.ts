// What the outside reaches: the front door that listens, and the connector that reaches pods for it.
export { AccessLog } from './access-log.ts'
export { Connector, type ConnectorOptions, type ConnectorView } from './connector.ts'
export { FrontDoor, type FrontDoorOptions } from './front-door.ts'
export type { DoorView } from './sites.ts'
