"""A Hugging Face hub on loopback: just enough of its HTTP interface for the real client to list and fetch files."""

import hashlib
import http.server
import json
import threading

COMMIT = "c0ffee" + "0" * 34


class LoopbackHub:
    """Serves repositories given as {repository: {path: bytes}}; knows the branch main and one commit."""

    def __init__(self, repositories):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments):
                pass

        self.repositories = repositories
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        path = request.path.split("?")[0].removeprefix("/api").removeprefix("/datasets/")
        owner, name, kind, revision, rest = [*path.split("/", 4), "", "", ""][:5]
        files = self.repositories.get(f"{owner}/{name}")
        if files is None:
            send(request, 404, headers={"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            send(request, 404, headers={"X-Error-Code": "RevisionNotFound"})
        elif kind == "revision":
            listing = [{"rfilename": file} for file in files]
            send_json(request, {"_id": "1", "id": f"{owner}/{name}", "sha": COMMIT, "siblings": listing})
        elif kind == "tree":
            send_json(request, tree(files, f"{rest}/" if rest else ""))
        elif rest in files:
            send(request, 200, files[rest], {"ETag": f'"{sha1(files[rest])}"', "X-Repo-Commit": COMMIT})
        else:
            send(request, 404, headers={"X-Error-Code": "EntryNotFound"})


def tree(files, folder):
    """The files and folders that stand directly in a folder."""
    inside = {path[len(folder) :]: content for path, content in files.items() if path.startswith(folder)}
    folders = sorted({path.split("/")[0] for path in inside if "/" in path})
    return [
        *({"type": "directory", "path": folder + name, "size": 0, "oid": sha1(name.encode())} for name in folders),
        *(
            {"type": "file", "path": folder + path, "size": len(content), "oid": sha1(content)}
            for path, content in inside.items()
            if "/" not in path
        ),
    ]


def sha1(content):
    return hashlib.sha1(content).hexdigest()


def send_json(request, value):
    send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def send(request, code, body=b"", headers=()):
    request.send_response(code)
    for name, value in dict(headers).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
