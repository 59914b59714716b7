import { Forwarder } from '../../src/engine/local/index.ts'

// The forwarder as the node agent starts it: in the machine's namespace, as a user without privilege.
const [socketPath = '', uid = '', server = ''] = process.argv.slice(2)
process.setgroups?.([])
process.setgid?.(Number(uid))
process.setuid?.(Number(uid))
await new Forwarder({ socketPath, servers: [server] }).listen()
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
