import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import { parse } from 'yaml'
import type { Status } from '../api/index.ts'

const ANSWER_TIMEOUT_MS = 60_000

/** What a kubeconfig of ours says: one cluster, one user, one context. */
export type Credentials = { server: string; ca: string; certificate: string; key: string }

/** A refusal of the API, in its own words. */
export class ApiRefusal extends Error {
  readonly status: Status | undefined
  readonly code: number
  constructor(code: number, status: Status | undefined, text: string) {
    super(status?.message ?? `The server answered ${code}: ${text.slice(0, 500)}`)
    this.code = code
    this.status = status
  }
}

type KubeconfigDocument = {
  clusters: { cluster: { server: string; 'certificate-authority-data': string } }[]
  users: { user: { 'client-certificate-data': string; 'client-key-data': string } }[]
}

/** @throws when the file is no kubeconfig that the platform issued. */
export function readKubeconfig(path: string): Credentials {
  const { clusters, users } = parse(readFileSync(path, 'utf8')) as KubeconfigDocument // checked in the next lines
  const cluster = clusters?.[0]?.cluster
  const user = users?.[0]?.user
  if (!cluster?.server || !user?.['client-key-data'])
    throw new Error(`"${path}" is not a kubeconfig that the platform issued`)
  const decode = (base64: string) => Buffer.from(base64, 'base64').toString()
  return {
    server: cluster.server,
    ca: decode(cluster['certificate-authority-data']),
    certificate: decode(user['client-certificate-data']),
    key: decode(user['client-key-data']),
  }
}

/** Talks to one control plane through the gateway, as the holder of a kubeconfig. */
export class ControlPlaneClient implements AsyncDisposable {
  private readonly agent: Agent
  private readonly server: string

  constructor(credentials: Credentials) {
    this.server = credentials.server
    this.agent = new Agent({
      connect: {
        ca: credentials.ca,
        cert: credentials.certificate,
        key: credentials.key,
        minVersion: 'TLSv1.3',
      },
    })
  }

  async get(path: string): Promise<unknown> {
    return this.call('GET', path)
  }

  async post(path: string, body: unknown): Promise<unknown> {
    return this.call('POST', path, 'application/json', body)
  }

  async delete(path: string): Promise<unknown> {
    return this.call('DELETE', path)
  }

  /** Server-side apply under the name of the bulkhead command. */
  async apply(path: string, body: unknown): Promise<unknown> {
    return this.call(
      'PATCH',
      `${path}?fieldManager=bulkhead&force=true&fieldValidation=Strict`,
      'application/apply-patch+yaml',
      body,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.destroy()
  }

  private async call(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    contentType?: string,
    body?: unknown,
  ): Promise<unknown> {
    const options = {
      method,
      dispatcher: this.agent,
      headers: {
        accept: 'application/json',
        'user-agent': 'bulkhead',
        ...(contentType ? { 'content-type': contentType } : {}),
      },
      body: body === undefined ? null : JSON.stringify(body),
      headersTimeout: ANSWER_TIMEOUT_MS,
    }
    const answer = await request(`${this.server}${path}`, options).catch((cause: unknown) => {
      throw new Error(`The platform does not answer at ${this.server}; "bulkhead status" shows what runs`, {
        cause,
      })
    })
    const text = await answer.body.text()
    const document = parseJson(text)
    if (answer.statusCode >= 400)
      throw new ApiRefusal(answer.statusCode, document as Status | undefined, text)
    return document
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
