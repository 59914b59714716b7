import type { KubeObject } from '../../api/index.ts'
import type { ApiClient, KindRef } from '../../client/index.ts'
import type { Clock } from '../../stdx/index.ts'
import { serviceAccountKind } from '../kinds.ts'
import { TOKEN_RENEW_FRACTION } from '../limits.ts'
import { tokenKey, type TokenRequest } from './plan-jail.ts'

/** Signs a token of a pod's service account that dies with the pod. */
export type IssueToken = (
  request: TokenRequest & { namespace: string; serviceAccount: string; pod: { name: string; uid: string } },
) => Promise<{ token: string; expiresAtMs: number }>

type Issued = { token: string; renewAtMs: number }

/** The tokens of running pods, in memory only. */
export class TokenCache {
  private readonly issue: IssueToken
  private readonly clock: Clock
  private readonly pods = new Map<string, Map<string, Issued>>()

  constructor({ issue, clock }: { issue: IssueToken; clock: Clock }) {
    this.issue = issue
    this.clock = clock
  }

  get(uid: string, request: TokenRequest): string | undefined {
    return this.pods.get(uid)?.get(tokenKey(request))?.token
  }

  forget(uid: string): void {
    this.pods.delete(uid)
  }

  /** Makes every token be there and fresh. Resolves with when to come back, if there are any. */
  async ensure(
    pod: { name: string; uid: string; namespace: string; serviceAccount: string },
    requests: readonly TokenRequest[],
  ): Promise<number | undefined> {
    if (requests.length === 0) return undefined
    const { uid, name, namespace, serviceAccount } = pod
    let tokens = this.pods.get(uid)
    if (!tokens) this.pods.set(uid, (tokens = new Map()))
    let renewInMs = Infinity
    for (const request of requests) {
      const nowMs = this.clock.nowMs()
      let issued = tokens.get(tokenKey(request))
      if (!issued || issued.renewAtMs <= nowMs) {
        const { token, expiresAtMs } = await this.issue({
          ...request,
          namespace,
          serviceAccount,
          pod: { name, uid },
        })
        issued = { token, renewAtMs: nowMs + (expiresAtMs - nowMs) * TOKEN_RENEW_FRACTION }
        tokens.set(tokenKey(request), issued)
      }
      renewInMs = Math.min(renewInMs, issued.renewAtMs - nowMs)
    }
    return Math.max(renewInMs, 1_000)
  }
}

/** Tokens from the control plane's own API, as anybody could ask for them with `serviceaccounts/token`. */
export function issueTokensThrough(client: ApiClient): IssueToken {
  return async ({ audience, expirationSeconds, namespace, serviceAccount, pod }) => {
    const answer: KubeObject = await client.create(
      serviceAccountKind as KindRef,
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        metadata: { name: serviceAccount, namespace },
        spec: {
          audiences: audience === undefined ? [] : [audience],
          expirationSeconds,
          boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...pod },
        },
      },
      { subresource: 'token', ref: { namespace, name: serviceAccount } },
    )
    const { token, expirationTimestamp } = answer['status'] as { token: string; expirationTimestamp: string }
    return { token, expiresAtMs: Date.parse(expirationTimestamp) }
  }
}
