/**
 * A container that cannot be started as written. `reason` is the kubelet's, for the container's waiting or terminated
 * state, and `message` is fit for the tenant; what only the operator may know is in `cause`.
 */
export class ContainerError extends Error {
  readonly reason:
    | 'CreateContainerConfigError'
    | 'CreateContainerError'
    | 'RunContainerError'
    | 'CreatePodSandboxError'

  constructor(reason: ContainerError['reason'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ContainerError'
    this.reason = reason
  }
}
