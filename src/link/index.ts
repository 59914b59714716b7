// How requests and their answers travel between a gateway and a control plane.
export {
  AnsweringEnd,
  type Answering,
  type Asked,
  type LinkAnswer,
  type LinkRequest,
} from './answering-end.ts'
export { type AnswerListener, AskingEnd, type Asking } from './asking-end.ts'
export { askedOverHttp } from './asked-over-http.ts'
export { LinkBroken } from './frames.ts'
export { EXCHANGES_MAX, LINK_HEAD_BYTES_MAX } from './limits.ts'

/** The protocol that a gateway asks for, in HTTP/1.1 on a control plane's socket, before it sends frames. */
export const LINK_PROTOCOL = 'bulkhead-link'
