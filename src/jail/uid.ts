/** Lower-case RFC 9562 text: the only form in which a control plane's names become part of a path or a name on a machine. */
const UID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** A pod's uid. */
export type JailId = string & { readonly __brand: 'JailId' }

/** A PersistentVolumeClaim's uid. With the channel's tenant it names one volume of a machine. */
export type ClaimId = string & { readonly __brand: 'ClaimId' }

export function isJailId(value: string): value is JailId {
  return UID.test(value)
}

export function isClaimId(value: string): value is ClaimId {
  return UID.test(value)
}
