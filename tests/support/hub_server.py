"""A stand-in for the Hugging Face hub on the loopback interface: what staging asks for, and the hub's bad days."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT, NEWER = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"
LARGE = (".safetensors", ".parquet")  # what the hub keeps beside git, as large files


@dataclass
class Hub:
    """A hub that serves while it is entered as a context.

    Attributes
    ----------
    repositories
        Files by repository and name.
    lies
        Another hash than its bytes have, by file name.
    gated
        The token that opens a repository, by repository; others know its listing alone.
    tokens
        Further tokens that the hub knows.
    busy
        By the end of a path: the headers of each refusal (429) that is still to come.
    failing
        By the end of a path: the status of each failure that is still to come.
    broken
        Names of files whose first transfer ends half-way, and whose next ones do not begin.
    elsewhere
        Whether large files are redirected to another host, as to a content network.
    portal
        Whether a page answers in the hub's place, as where a network asks to log in first.
    whole_only
        Whether it serves no piece in the midst of a file.
    newer
        Files by repository and name of a newer commit, which comes to whoever names none.
    asked
        Of each request: path, and headers in lower case.
    """

    repositories: dict[str, dict[str, bytes]]
    lies: dict[str, str] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    busy: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    failing: dict[str, list[int]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    elsewhere: bool = False
    portal: bool = False
    whole_only: bool = False
    newer: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def requests(self, end: str) -> list[dict[str, str]]:
        """Return the headers of each request whose path ends so, but for those that only read the header of weights."""
        return [headers for path, headers in self.asked if path.endswith(end) and not peeks(headers)]

    def files(self, identifier: str, commit: str) -> dict[str, bytes]:
        """Return the files of a repository at a commit, by name."""
        return (self.newer if commit == NEWER else self.repositories)[identifier]

    def refusal(self, path: str) -> tuple[int, dict[str, str]] | None:
        """Return the status and the headers with which the hub does not serve a path this time."""
        for end, headers in self.busy.items():
            if headers and path.endswith(end):
                return 429, headers.pop(0)
        for end, statuses in self.failing.items():
            if statuses and path.endswith(end):
                return statuses.pop(0), {}
        return None

    def entry(self, name: str, content: bytes) -> dict[str, object]:
        """Return what the listing says of a file: large ones have a sha256, small ones git's hash."""
        own = hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_hash(content)
        digest = self.lies.get(name, own)
        large = {"lfs": {"sha256": digest, "size": len(content), "pointerSize": 1}, "xetHash": "e" * 64}
        return {
            "rfilename": name,
            "size": len(content),
            "blobId": "f" * 40 if name.endswith(LARGE) else digest,
            **(large if name.endswith(LARGE) else {}),
        }


def peeks(headers: dict[str, str]) -> bool:
    """Tell whether a request asks for a piece in the midst of a file, as for the header of weights."""
    return not headers.get("range", "-").endswith("-")


def git_hash(content: bytes) -> str:
    """Return git's name of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _handler(hub: Hub) -> type:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            sizes = {"Content-Length": str(len(body) if length is None else length)}
            for name, value in {**sizes, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
            if hub.portal:
                return self.answer(200, b"<html>Log in.</html>", Content_Type="text/html")
            # Bad days are for transfers; staging does without what a peek does not get.
            if not peeks(hub.asked[-1][1]) and (refusal := hub.refusal(path)):
                return self.answer(refusal[0], **refusal[1])
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token and token not in (*hub.gated.values(), *hub.tokens):
                return self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            for prefix in ("/api/models/", "/api/datasets/"):
                if path.startswith(prefix):
                    return self.listing(path.removeprefix(prefix).split("/"))
            if path.startswith("/api/"):  # what else a client may be curious about
                return self.answer(404)
            parts = path.strip("/").removeprefix("datasets/").removeprefix("elsewhere/").split("/")
            return self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), token, path)

        def listing(self, parts: list[str]) -> None:
            identifier = "/".join(parts[:2])
            if identifier not in hub.repositories:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if len(parts) > 2 and parts[2:] not in (["revision", "main"], ["revision", COMMIT], ["revision", NEWER]):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            newest = NEWER if identifier in hub.newer else COMMIT
            commit = parts[3] if len(parts) > 2 and parts[3] != "main" else newest
            siblings = [hub.entry(name, content) for name, content in hub.files(identifier, commit).items()]
            found = {"id": identifier, "sha": commit, "siblings": siblings, "private": False}
            return self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

        def file(self, identifier: str, commit: str, name: str, token: str, path: str) -> None:
            wanted = hub.gated.get(identifier)
            if wanted and token != wanted and not path.startswith("/elsewhere/"):
                return self.answer(403 if token else 401, X_Error_Code="GatedRepo")
            content = hub.files(identifier, commit)[name]
            if hub.elsewhere and name.endswith(LARGE) and not path.startswith("/elsewhere/"):
                # Another name of the same machine is another host to a client.
                port = self.server.server_address[1]
                return self.answer(302, Location=f"http://localhost:{port}/elsewhere{path}", X_Repo_Commit=commit)
            start, stop = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "bytes=0-").groups()
            start = int(start)
            if stop and hub.whole_only:
                return self.answer(416)
            if stop:
                piece = content[start : int(stop) + 1]
                return self.answer(206, piece, Content_Range=f"bytes {start}-{start + len(piece) - 1}/{len(content)}")
            end = len(content)
            if name in hub.broken:
                self.close_connection = True
                if len(hub.requests(name)) > 1:
                    return None
                end = start + (len(content) - start) // 2
            headers = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            xet = {"X_Xet_Hash": "e" * 64, "Link": f'<{hub.endpoint}/xet-read-token>; rel="xet-auth"'}
            headers |= {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Repo_Commit": commit, **xet}
            return self.answer(
                206 if start else 200, content[start:end], length=len(content) - start, Accept_Ranges="bytes", **headers
            )

    return Handler
