"""A Hugging Face Hub on this machine: its HTTP API, as far as huggingface_hub uses it to upload and download models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

LARGE = (".safetensors", ".pth")


class FakeHub(ThreadingHTTPServer):
    """Repositories in memory: for each a list of commits, each a dict of files.

    Attributes:
        repos: Commits, oldest first, by ``owner/name``: ``(commit id, {path: bytes})``.
        objects: Uploaded LFS files by their SHA-256.
        refuse: Uploads of LFS files to refuse before the next is accepted.
        requests: Method and path of every request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.objects: dict[str, bytes] = {}
        self.refuse = 0
        self.requests: list[str] = []

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos.setdefault(repo, [])
        known = commits[-1][1] if commits else {}
        name = hashlib.sha1(f"{repo}{len(commits)}".encode()).hexdigest()
        commits.append((name, {**known, **files}))
        return name

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(repo, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path = unquote(self.path.partition("?")[0])
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([^/]+))?", path):
            state = self.server.at(found[1], found[2] or "main")
            if state is not None:
                files = [{"rfilename": name} for name in state[1]]
                return self.answer({"id": found[1], "modelId": found[1], "sha": state[0], "siblings": files})
        return self.answer(b"", 404, X_Error_Code="RepoNotFound")

    def resolve(self, repo: str, revision: str, name: str) -> None:
        state = self.server.at(repo, revision)
        if state is None or name not in state[1]:
            code = "EntryNotFound" if repo in self.server.repos else "RepoNotFound"
            return self.answer(b"", 404, X_Error_Code=code)
        content = state[1][name]
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
        else:
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        headers = {"X_Repo_Commit": state[0], "ETag": f'"{digest}"', "X_Linked_ETag": f'"{digest}"'}
        return self.answer(content, X_Linked_Size=str(len(content)), **headers)

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        body, path = self.body(), unquote(self.path.partition("?")[0])
        if path == "/api/repos/create":
            facts = json.loads(body)
            repo = f"{facts.get('organization') or 'me'}/{facts['name']}"
            status = 409 if repo in self.server.repos else 200
            self.server.repos.setdefault(repo, [])
            return self.answer({"url": f"{self.server.url}/{repo}", "id": repo}, status)
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/paths-info/(\w+)", path):
            state, facts = self.server.at(found[1], found[2]), parse_qs(body.decode())
            files = state[1] if state else {}
            return self.answer([self.info(name, files[name]) for name in facts["paths"] if name in files])
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/preupload/(\w+)", path):
            state = self.server.at(found[1], "main")
            return self.answer({"files": [self.mode(file["path"], state) for file in json.loads(body)["files"]]})
        if path.endswith("/info/lfs/objects/batch"):
            return self.answer({"transfer": "basic", "objects": [self.upload(o) for o in json.loads(body)["objects"]]})
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/commit/(\w+)", path):
            return self.take_commit(found[1], [json.loads(line) for line in body.splitlines() if line.strip()])
        return self.answer({"error": path}, 404)

    def info(self, path: str, content: bytes) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        facts = {"type": "file", "path": path, "size": len(content), "oid": git}
        if path.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            facts["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
        return facts

    def mode(self, path: str, state: tuple[str, dict[str, bytes]] | None) -> dict[str, Any]:
        large = path.endswith(LARGE)
        content = state[1].get(path) if state else None
        if content is None:
            oid = None
        elif large:
            oid = hashlib.sha256(content).hexdigest()
        else:
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def upload(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.server.objects:
            return item
        return {**item, "actions": {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}}

    def take_commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        name = self.server.commit(repo, files)
        self.answer({"success": True, "commitOid": name, "commitUrl": f"{self.server.url}/{repo}/commit/{name}"})

    def do_PUT(self) -> None:
        self.server.requests.append(f"PUT {self.path}")
        data = self.body()
        if self.server.refuse:
            self.server.refuse -= 1
            return self.answer({"error": "busy"}, 403)
        digest = hashlib.sha256(data).hexdigest()
        assert self.path == f"/lfs/{digest}"
        self.server.objects[digest] = data
        return self.answer()
