/** Files below `pki/`; each key is readable by the one user who needs it. */
export const PKI_FILES = {
  clientCa: 'client-ca.pem',
  clientCaKey: 'client-ca.key',
  serverCa: 'server-ca.pem',
  serverCaKey: 'server-ca.key',
  gateway: 'gateway.pem',
  gatewayKey: 'gateway.key',
  podGateway: 'pod-gateway.pem',
  podGatewayKey: 'pod-gateway.key',
} as const
