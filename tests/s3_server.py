"""A stand-in for S3: the files of a folder, one bucket for each of its directories.

Lists (ListObjectsV2), heads and gets, for clients whose access key is `right`. What else S3 does
nobody asks for here.
"""

import datetime
import hashlib
import http.server
import re
import threading
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.sax.saxutils import escape

RIGHT = "right"
"""The access key that may read."""


class S3Server:
    """Serves `root` on a port of its own until the block is left."""

    def __init__(self, root: Path) -> None:
        self.gets: list[str] = []
        """The objects that were read."""
        server = self

        class Handler(_Handler):
            folder, gets = root, server.gets

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def environment(self, key: str = RIGHT) -> dict[str, Any]:
        """What points clients here."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._http.server_port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    gets: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        url = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        file = self.folder / bucket / key
        if f"Credential={RIGHT}/" not in self.headers.get("Authorization", ""):
            self._error(403, "InvalidAccessKeyId", body)
        elif not (self.folder / bucket).is_dir():
            self._error(404, "NoSuchBucket", body)
        elif not key:
            self._send(200, self._listing(bucket, query).encode(), body)
        elif not file.is_file():
            self._error(404, "NoSuchKey", body)
        else:
            self._object(file, key, body)

    def _object(self, file: Path, key: str, body: bool) -> None:
        content = file.read_bytes()
        headers = {"ETag": f'"{_etag(file)}"', "Last-Modified": self.date_time_string()}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        if body:
            self.gets.append(key)
        self._send(206 if wanted else 200, content, body, headers)

    def _listing(self, bucket: str, query: dict[str, str]) -> str:
        root, prefix = self.folder / bucket, query.get("prefix", "")
        found, folders = [], set()
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            key = file.relative_to(root).as_posix()
            if not key.startswith(prefix):
                continue
            rest = key.removeprefix(prefix)
            if query.get("delimiter") and "/" in rest:
                folders.add(prefix + rest.partition("/")[0] + "/")
                continue
            time = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{file.stat().st_size}</Size>"
                f"<LastModified>{time:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
                f"<ETag>&quot;{_etag(file)}&quot;</ETag></Contents>"
            )
        common = (f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in sorted(folders))
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
            f"<KeyCount>{len(found)}</KeyCount>{''.join(found)}{''.join(common)}</ListBucketResult>"
        )

    def _error(self, status: int, code: str, body: bool) -> None:
        text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self._send(status, text.encode(), body)

    def _send(
        self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _etag(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()
