// Who somebody is: certificates, tokens and the names in them.
export {
  type ClientCsr,
  createAuthority,
  createCsr,
  createKeyPair,
  CsrRefused,
  issueServerCertificate,
  type KeyedCertificate,
  parseAndSignCsr,
  renderPrivateKey,
} from './authority.ts'
export { parseClientCertificate, tenantUidOf } from './client-certificate.ts'
export {
  AUDIT_NOTE_HEADER,
  COST_HEADER,
  IDENTITY_HEADER,
  JWKS_PATH,
  type OutsideUser,
  parseIdentity,
  KnownIdentities,
  parseRequestIdentity,
  renderIdentity,
} from './identity-header.ts'
export {
  CLIENT_CERTIFICATE_TTL_SECONDS_DEFAULT,
  IDENTITY_HEADER_CHARS_MAX,
  TOKEN_CHARS_MAX,
  TOKEN_TTL_SECONDS_MAX,
  TOKEN_TTL_SECONDS_MIN,
} from './limits.ts'
export { IdentityRefused, parseGroups, parseUserName } from './names.ts'
export { type CertificateHolder, parseSpiffeId, renderSpiffeId } from './spiffe-id.ts'
export {
  createTokenKey,
  type Jwks,
  parseUnverifiedToken,
  type PublicTokenKey,
  API_SERVER_AUDIENCE,
  inToken,
  audienceOf,
  TOKEN_ISSUER,
  TokenIssuer,
  type TokenKey,
  TokenVerifier,
  type VerifiedToken,
} from './service-account-token.ts'
