"""An operator as people write them: elects a leader, watches what it is asked, and writes answers."""

import datetime
import socket
import threading
import time

from kubernetes import client, config, watch
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

ME = socket.gethostname()
NAMESPACE = open("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read()

config.load_incluster_config()
core = client.CoreV1Api()
coordination = client.CoordinationV1Api()


def answer(question):
    name = "answer-" + question.metadata.name
    body = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(
            name=name,
            owner_references=[
                client.V1OwnerReference(
                    api_version="v1", kind="ConfigMap", name=question.metadata.name, uid=question.metadata.uid
                )
            ],
        ),
        data={"by": ME, "text": question.data["text"].upper()},
    )
    try:
        core.create_namespaced_config_map(NAMESPACE, body)
        print("answered", question.metadata.name)
    except client.ApiException as error:
        if error.status != 409:
            raise


def write_lease():
    now = datetime.datetime.now(datetime.timezone.utc)
    spec = client.V1LeaseSpec(holder_identity=ME, lease_duration_seconds=5, renew_time=now)
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="operator"), spec=spec)
    try:
        coordination.create_namespaced_lease(NAMESPACE, lease)
    except client.ApiException as error:
        if error.status != 409:
            raise
        found = coordination.read_namespaced_lease("operator", NAMESPACE)
        found.spec = spec
        coordination.replace_namespaced_lease("operator", NAMESPACE, found)


def lead():
    print("leading", ME)
    write_lease()
    selector = {"label_selector": "kind=question"}
    while True:
        listed = core.list_namespaced_config_map(NAMESPACE, **selector)
        for question in listed.items:
            answer(question)
        events = watch.Watch().stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            resource_version=listed.metadata.resource_version,
            timeout_seconds=300,
            **selector
        )
        for event in events:
            if event["type"] == "ADDED":
                answer(event["object"])


while True:
    election = electionconfig.Config(
        ConfigMapLock("election", NAMESPACE, ME),
        lease_duration=4,
        renew_deadline=3,
        retry_period=1,
        onstarted_leading=lambda: threading.Thread(target=lead, daemon=True).start(),
        onstopped_leading=lambda: print("stopped leading", ME),
    )
    leaderelection.LeaderElection(election).run()
    time.sleep(1)
