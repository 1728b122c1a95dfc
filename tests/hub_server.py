"""A stand-in for the Hugging Face hub on the loopback interface: just what `snapshot_download` asks for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _handler(repositories: dict[str, dict[str, bytes]], lies: dict[str, str], asked: list[str]) -> type:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            for prefix in ("/api/models/", "/api/datasets/"):
                if path.startswith(prefix):
                    return self.api(path.removeprefix(prefix).split("/"))
            parts = path.strip("/").removeprefix("datasets/").split("/")
            identifier, name = "/".join(parts[:2]), "/".join(parts[4:])
            content = repositories[identifier][name]
            digest = hashlib.sha256(content).hexdigest()
            return self.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def api(self, parts: list[str]) -> None:
            identifier = "/".join(parts[:2])
            if identifier == "closed/model":
                return self.answer(403, X_Error_Code="GatedRepo")
            if identifier not in repositories:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if len(parts) > 3 and parts[3] not in ("main", COMMIT):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            files = repositories[identifier]
            digests = {n: lies.get(n) or hashlib.sha256(c).hexdigest() for n, c in files.items()}
            if len(parts) > 2 and parts[2] == "tree":
                listing = [
                    {
                        "type": "file",
                        "path": n,
                        "oid": digests[n],
                        "size": len(c),
                        "lfs": {"oid": digests[n], "size": len(c), "pointerSize": 1},
                    }
                    for n, c in files.items()
                ]
                return self.answer(200, json.dumps(listing).encode(), Content_Type="application/json")
            siblings = [
                {
                    "rfilename": n,
                    "size": len(c),
                    "blobId": digests[n],
                    "lfs": {"sha256": digests[n], "size": len(c), "pointerSize": 1},
                }
                for n, c in files.items()
            ]
            info = {"id": identifier, "sha": COMMIT, "siblings": siblings, "private": False}
            return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

    return Handler


@contextlib.contextmanager
def hub(
    repositories: dict[str, dict[str, bytes]], lies: dict[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve ``repositories`` (id → file name → bytes); yield the endpoint and the list of paths asked for.

    ``lies`` claims another sha256 for a file than its bytes have.
    """
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, lies or {}, asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
