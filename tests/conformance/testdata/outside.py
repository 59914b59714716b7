"""Everyday work from outside, with a kubeconfig; prints what it saw as one line of JSON."""

import json
import sys

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.stream import stream

config.load_kube_config(sys.argv[1])
api = client.ApiClient()
core = client.CoreV1Api(api)
seen = {}

utils.create_from_dict(
    api,
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "made-by-python", "labels": {"by": "python"}},
        "data": {"a": "1"},
    },
)
core.patch_namespaced_config_map("made-by-python", "default", {"data": {"b": "2"}})
seen["data"] = core.read_namespaced_config_map("made-by-python", "default").data

core.delete_namespaced_config_map("made-by-python", "default")
first = core.list_namespaced_config_map("default", label_selector="by=python")
for name in ["one", "two"]:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="python-" + name, labels={"by": "python"}))
    core.create_namespaced_config_map("default", body)
events = watch.Watch().stream(
    core.list_namespaced_config_map,
    "default",
    label_selector="by=python",
    resource_version=first.metadata.resource_version,
    timeout_seconds=3,
)
seen["events"] = []
for event in events:
    seen["events"].append([event["type"], event["object"].metadata.name])
    if len(seen["events"]) == 2:
        break

resources = dynamic.DynamicClient(api).resources
deployments = resources.get(api_version="apps/v1", kind="Deployment")
seen["deployments"] = sorted(d.metadata.name for d in deployments.get(namespace="default").items)

pod = sys.argv[2]
seen["exec"] = stream(
    core.connect_get_namespaced_pod_exec,
    pod,
    "default",
    command=["sh", "-c", "echo out; echo err >&2"],
    stderr=True,
    stdin=False,
    stdout=True,
    tty=False,
)
seen["log"] = core.read_namespaced_pod_log(pod, "default", tail_lines=1)
try:
    core.read_namespaced_secret("nothing-of-this-name", "default")
except client.ApiException as error:
    seen["missing"] = [error.status, json.loads(error.body)["reason"]]
print(json.dumps(seen))
