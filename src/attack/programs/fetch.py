# Fetches each URL of the input, and says what came or why nothing did.
import json, sys, urllib.request

SECONDS = 2


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return {"url": url, "body": answer.read(4096).decode("utf-8", "replace")}
    except OSError as error:
        return {"url": url, "error": str(getattr(error, "reason", error))}


print(json.dumps([fetch(url) for url in json.loads(sys.argv[1])["urls"]]))
