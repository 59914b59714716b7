/** An ordinary pod, as JSON.stringify'd by a client. */
export function samplePod(n: number) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `web-${n}`, labels: { app: 'web', index: String(n) } },
    spec: {
      containers: [
        {
          name: 'web',
          image: 'registry.example/web:1.2',
          env: [{ name: 'MODE', value: 'fast' }],
          ports: [{ name: 'http', containerPort: 8080 }],
          resources: { requests: { cpu: '10m', memory: '32Mi' }, limits: { cpu: '1', memory: '64Mi' } },
        },
      ],
    },
  }
}
