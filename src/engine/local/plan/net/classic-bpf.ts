/** One instruction of classic BPF: https://docs.kernel.org/networking/filter.html */
export type FilterInstruction = { code: number; jt: number; jf: number; k: number }

export const LOAD_WORD = 0x20
export const LOAD_HALF = 0x28
export const LOAD_LENGTH = 0x80
export const AND = 0x54
export const OR = 0x44
export const ADD = 0x04
export const IF_EQUAL = 0x15
export const IF_AT_LEAST = 0x35
export const RETURN = 0x06
export const RETURN_A = 0x16
/** In place of where to load from: the mark that rules have given the packet (SKF_AD_MARK). */
export const LOAD_MARK = 0xffff_f014

export const TC_ACT_OK = 0
/** Let the next filter say. */
export const TC_ACT_UNSPEC = 0xffff_ffff
export const TC_ACT_SHOT = 2

// Where things are in a frame: the Ethernet header, then one of IPv4 without looking at its options.
export const SENDER_MAC_AT = 6
export const TYPE_AT = 12
export const SOURCE_AT = 26
export const TARGET_AT = 30
export const HEADERS_BYTES = 34
export const TYPE_IPV4 = 0x0800
