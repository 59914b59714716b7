import { ApiError, type KindDefinition, type KubeObject, badRequest, forbidden } from '../api/index.ts'
import { type AccessAttributes, describeDenial } from '../policy/index.ts'
import { StoreUnavailable } from '../store/index.ts'
import { addWarnings, decodeObject, decodePart, decodeRequestBody } from './decode.ts'
import { type Context, objectKey } from './context.ts'
import { deleteCollection, deleteObject } from './delete.ts'
import { evictPod } from './eviction.ts'
import { parseListOptions, parseBoolean, parseWriteOptions } from './options.ts'
import { patchObject } from './patching.ts'
import { getMeasured, listMeasured } from './measurements.ts'
import { passOn } from './pass-on.ts'
import { podLog } from './pod-log.ts'
import { getObject, listObjects } from './read.ts'
import { PASSED_ON_MAX, WATCHES_MAX } from './limits.ts'
import { OpenCount } from './open-count.ts'
import { methodNotAllowed, noSuchResource, unserved } from './refusals.ts'
import type { ApiResult, RequestVerb, ResourceRequest, Shown, Target } from './request.ts'
import { answerReview } from './reviews.ts'
import { getScale, updateScale } from './scaling.ts'
import { nameInFieldSelector } from './selection.ts'
import { requestToken } from './token-request.ts'
import { watchObjects } from './watch.ts'
import { createObject, furtherProblems, updateObject, writerOf } from './write.ts'

/** Sub-resources that carry streams. They take `create`, even when a WebSocket asks with GET. */
export const STREAM_SUBRESOURCES: readonly string[] = ['exec', 'attach', 'portforward']

/** The one path of every request about a resource: authorize, find the kind, carry out the verb. */
export class Dispatcher {
  private readonly context: Context
  private readonly watches = new OpenCount({ max: WATCHES_MAX, what: 'open watches' })
  private readonly passedOn = new OpenCount({ max: PASSED_ON_MAX, what: 'requests to pods on their way' })

  constructor(context: Context) {
    this.context = context
  }

  /** @throws {ApiError} */
  async execute(request: ResourceRequest): Promise<ApiResult> {
    const verb = verbOf(request)
    this.authorize(request, verb)
    const target = this.resolve(request)
    request.requireAcceptable?.()
    try {
      if (target === undefined) return await answerReview(this.context, request)
      return await this.carryOut(request, verb, target)
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error
      throw new ApiError('ServiceUnavailable', 'The control plane cannot reach its store; please try again', {
        cause: error,
        details: { retryAfterSeconds: 1 },
      })
    }
  }

  /** Whether a request that was carried out, and whose answer is still going on, would be allowed now. */
  isAllowed(request: ResourceRequest, verb: string = verbOf(request)): boolean {
    try {
      this.authorize(request, verb)
      return true
    } catch {
      return false
    }
  }

  /** Authorizes an upgrade to a stream and finds what it is about. */
  authorizeStream(request: ResourceRequest): Target {
    this.authorize(request, 'create')
    const target = this.resolve(request)
    if (!target?.subresource || !STREAM_SUBRESOURCES.includes(target.subresource.name))
      throw methodNotAllowed()
    return target
  }

  /** Says no before anything has been looked up, so that a no tells nothing about what is there. */
  private authorize({ path, query, user }: ResourceRequest, verb: string): void {
    const { group, resource, subresource } = path
    const listing = verb === 'list' || verb === 'watch'
    const name = path.name ?? (listing ? nameInFieldSelector(query.get('fieldSelector') ?? '') : undefined)
    // A namespace is in itself, so that a role in it can speak about it.
    const namespace = path.namespace ?? (group === '' && resource === 'namespaces' ? path.name : undefined)
    const attributes: AccessAttributes = {
      kind: 'resource',
      verb,
      group,
      resource,
      subresource,
      namespace,
      name,
    }
    if (this.context.authorizer.authorize(user, attributes).allowed) return
    throw forbidden(
      { group, resource, ...(path.name === undefined ? {} : { name: path.name }) },
      { tell: describeDenial(user, attributes) },
    )
  }

  /** undefined for a kind that is never stored. @throws {ApiError} NotFound when nothing serves the path. */
  private resolve(request: ResourceRequest): Target | undefined {
    const { path } = request
    const { registry } = this.context
    const { group, version, resource, namespace, name, subresource } = path
    const definition = registry.find({ group, version, resource })
    if (definition) {
      if (definition.custom?.deprecation) addWarnings(request.warnings, [definition.custom.deprecation])
      const sub =
        subresource === undefined ? undefined : definition.subresources?.find((s) => s.name === subresource)
      const misplaced = namespace !== undefined && !definition.namespaced
      const homeless = namespace === undefined && definition.namespaced && name !== undefined
      if (misplaced || homeless || (subresource !== undefined && !sub))
        throw unserved(path) ?? noSuchResource()
      return { definition, subresource: sub, namespace, name: name ?? '' }
    }
    const refusal = unserved(path)
    if (refusal) throw refusal
    const virtual = registry.virtualKinds.find(
      (v) => v.group === group && v.version === version && v.plural === resource,
    )
    if (!virtual || name !== undefined || (namespace !== undefined) !== virtual.namespaced)
      throw noSuchResource()
    return undefined
  }

  private async carryOut(request: ResourceRequest, verb: RequestVerb, target: Target): Promise<ApiResult> {
    const { definition, subresource, name } = target
    const allowed: readonly string[] = subresource ? subresource.verbs : definition.verbs
    if (subresource && STREAM_SUBRESOURCES.includes(subresource.name)) {
      // Without an upgrade there is no stream; what is wrong with the pod is said first.
      getObject(this.context, target, new URLSearchParams())
      throw badRequest('Upgrade request required')
    }
    const named = name !== ''
    const fits =
      verb === 'list' || verb === 'deletecollection' || (verb === 'create' && !subresource)
        ? !named
        : named || verb === 'watch'
    const passedOn = subresource?.name === 'proxy' && verb === 'connect'
    if (!fits || !(passedOn || allowed.includes(verb) || (allowed.includes('connect') && verb === 'get')))
      throw methodNotAllowed()
    if (definition.namespaced && target.namespace === undefined && verb !== 'list' && verb !== 'watch')
      throw methodNotAllowed()
    return subresource
      ? this.onSubresource(request, verb, target, subresource.name)
      : this.onObject(request, verb, target)
  }

  private async onObject(request: ResourceRequest, verb: RequestVerb, target: Target): Promise<ApiResult> {
    const { context } = this
    const { definition } = target
    switch (verb) {
      case 'get':
        if (definition.measured)
          return found({ object: await request.cost.waiting(getMeasured(context, target)) }, definition)
        return found(getObject(context, target, request.query), definition)
      case 'list':
        if (definition.measured) {
          const page = await request.cost.waiting(
            listMeasured(context, target, parseListOptions(request.query)),
          )
          return { kind: 'list', definition, ...page }
        }
        return { kind: 'list', definition, ...listObjects(context, target, parseListOptions(request.query)) }
      case 'watch': {
        const options = parseListOptions(request.query)
        return {
          kind: 'watch',
          definition,
          items: watchObjects(context, this.watches, target, options, request.signal),
        }
      }
      case 'create': {
        const options = parseWriteOptions('CreateOptions', request.query)
        const read = await this.readObject(request, target, options.fieldValidation)
        const object = read()
        const created = await createObject(
          context,
          request,
          target,
          object,
          options,
          writerOf(request, options, target),
        )
        return { kind: 'object', code: 201, shown: created, definition }
      }
      case 'update':
        return found(await this.update(request, target), definition)
      case 'patch':
        return patchObject(context, request, target)
      case 'delete':
        return deleteObject(context, request, target)
      case 'deletecollection':
        return deleteCollection(context, request, target)
      case 'connect':
        throw methodNotAllowed()
      default:
        verb satisfies never
        throw methodNotAllowed()
    }
  }

  private async onSubresource(
    request: ResourceRequest,
    verb: RequestVerb,
    target: Target,
    name: string,
  ): Promise<ApiResult> {
    const { context } = this
    const { definition } = target
    switch (name) {
      case 'status':
      case 'finalize':
        if (verb === 'get') return found(getObject(context, target, request.query), definition)
        if (verb === 'update') return found(await this.update(request, target), definition)
        if (verb === 'patch') return patchObject(context, request, target)
        throw methodNotAllowed()
      case 'scale':
        return verb === 'get'
          ? getScale(context, target, request.query)
          : updateScale(context, request, target, verb)
      case 'token':
        return requestToken(context, request, target)
      case 'eviction':
        return evictPod(context, request, target)
      case 'log':
        return podLog(context, request, target)
      case 'proxy':
        return passOn(context, this.passedOn, request, target)
      default:
        return this.onForeignSubresource(request, verb, target)
    }
  }

  private async onForeignSubresource(
    request: ResourceRequest,
    verb: RequestVerb,
    target: Target,
  ): Promise<ApiResult> {
    const { definition, subresource } = target
    const path = `${definition.plural}.${definition.group}/${subresource?.name}`
    const { subresources } = this.context
    const handler = Object.hasOwn(subresources, path) ? subresources[path] : undefined
    if (!handler || !subresource?.schema || !subresource.kind || verb !== 'create') throw noSuchResource()
    const { dryRun, fieldValidation } = parseWriteOptions('CreateOptions', request.query)
    const body = decodePart({
      schema: subresource.schema,
      kind: subresource.kind.kind,
      version: subresource.kind.version,
      decoded: decodeRequestBody(await request.readBody(), subresource.kind.kind),
      fieldValidation,
      warnings: request.warnings,
    }) as KubeObject
    const { object } = getObject(this.context, target, new URLSearchParams())
    const answer = await handler({ user: request.user, object, body, dryRun })
    return { kind: 'object', code: 201, shown: { object: answer } }
  }

  private async update(request: ResourceRequest, target: Target): Promise<Shown> {
    const options = parseWriteOptions('UpdateOptions', request.query)
    const read = await this.readObject(request, target, options.fieldValidation)
    const object = read()
    if (object.metadata.name !== target.name)
      throw badRequest(
        object.metadata.name
          ? `the name of the object (${object.metadata.name}) does not match the name on the URL (${target.name})`
          : 'the name of the object must be given, as on the URL',
      )
    const writer = writerOf(request, options, target)
    // Whoever updates changes what it is given, so a second try needs another.
    let next: KubeObject | undefined = object
    return updateObject(this.context, request, target, options, () => {
      const wanted = next ?? read()
      next = undefined
      return { object: wanted, writer }
    })
  }

  /** What makes the object of the body, a fresh one each time. */
  private async readObject(
    request: ResourceRequest,
    target: Target,
    fieldValidation: 'Strict' | 'Warn' | 'Ignore',
  ): Promise<() => KubeObject> {
    const body = await request.readBody()
    const { definition } = target
    const decoded = decodeRequestBody(body, definition.kind)
    const { store } = this.context
    const old = target.name && store.get(objectKey(definition, target.namespace, target.name))?.object
    const also = furtherProblems(this.context, request, target, old || undefined)
    const { warnings } = request
    return () => decodeObject({ definition, decoded, fieldValidation, target, warnings, also })
  }
}

function found(shown: Shown, definition: KindDefinition): ApiResult {
  return { kind: 'object', code: 200, shown, definition }
}

/** The verb of RBAC that a method and a path mean. */
export function verbOf({
  method,
  path,
  query,
}: Pick<ResourceRequest, 'method' | 'path' | 'query'>): RequestVerb {
  if (path.subresource !== undefined && STREAM_SUBRESOURCES.includes(path.subresource)) return 'create'
  switch (method) {
    case 'OPTIONS':
      // No verb of RBAC means it, so that only who may do everything there may ask, as upstream.
      return 'connect'
    case 'HEAD':
    case 'GET':
      if (parseBoolean(query.get('watch')) && path.subresource === undefined) return 'watch'
      return path.name === undefined ? 'list' : 'get'
    case 'POST':
      return 'create'
    case 'PUT':
      return 'update'
    case 'PATCH':
      return 'patch'
    case 'DELETE':
      return path.name === undefined ? 'deletecollection' : 'delete'
    default:
      method satisfies never
      throw methodNotAllowed()
  }
}
