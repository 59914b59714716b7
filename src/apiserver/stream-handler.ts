import type { IncomingMessage } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import type { KubeObject, UserInfo } from '../api/index.ts'
import type { Engine, JailId } from '../jail/index.ts'

/** An upgrade to exec, attach or port-forward that has been authorized; the pod is there and has a machine. */
export type StreamRequest = {
  request: IncomingMessage
  socket: Duplex
  /** Bytes that came after the request's head. */
  head: Buffer
  user: UserInfo
  subresource: 'exec' | 'attach' | 'portforward'
  pod: KubeObject
  jail: JailId
  /** Checked to be one of the pod's containers; "" for portforward. */
  container: string
  query: URLSearchParams
  /** Lines for the head of the answer, besides those that switch protocols; without line ends. */
  headerLines: readonly string[]
  engine: Engine
}

/** Carries the streams of exec, attach, port-forward and logs. Owns `socket` from then on, also when it fails. */
export interface StreamHandler {
  handle(stream: StreamRequest): Promise<void>
  /** Sends what `text` holds over a WebSocket. */
  handleText(upgrade: Pick<StreamRequest, 'request' | 'socket' | 'head'>, text: Readable): Promise<void>
}
