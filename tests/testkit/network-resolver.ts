import { createResolver } from '../../src/engine/local/index.ts'

// The resolver as the node agent starts it: inside the router's namespace, as a user without privilege.
const [socketPath = '', uid = '', outsideSocket] = process.argv.slice(2)
process.setgroups?.([])
process.setgid?.(Number(uid))
process.setuid?.(Number(uid))
await createResolver({
  socketPath,
  listenAddress: '169.254.1.1',
  port: 53,
  ...(outsideSocket === undefined ? {} : { outsideSocket }),
}).listen()
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
