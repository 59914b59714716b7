import { request } from 'node:http'

// Runs in the network namespace of a pod: asks another one over HTTP, again and again, and prints what came of it.

const [host = '', port = ''] = process.argv.slice(2)
const EVERY_MS = 100
const TIMEOUT_MS = 5_000

function ask(): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const req = request({ host, port: Number(port), path: '/', agent: false, timeout: TIMEOUT_MS }, (res) => {
    let text = ''
    res.setEncoding('utf8').on('data', (chunk: string) => (text = (text + chunk).slice(0, 100)))
    res.on('end', () => resolve(res.statusCode === 200 && text === 'well\n'))
    res.on('error', () => resolve(false))
  })
  req.on('timeout', () => req.destroy(new Error('too late')))
  req.on('error', () => resolve(false))
  req.end()
  return promise
}

for (;;) {
  const began = performance.now()
  const ok = await ask()
  console.log(JSON.stringify({ ms: performance.now() - began, ok }))
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
}
