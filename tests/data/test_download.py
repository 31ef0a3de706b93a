# SPDX-License-Identifier: Apache-2.0
import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from espnet_ext.data import download
from espnet_ext.data.download import extract, fetch
from espnet_ext.errors import DataError, SetupError, UsageError

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; breaks the connection ``server.breaks`` times halfway."""

    def do_GET(self):
        server, span = self.server, self.headers.get("Range")
        server.seen.append(span)
        if server.fail:
            code = server.fail.pop(0)
            self.send_error(code)
            return
        first = int(span.split("=")[1].rstrip("-")) if span and server.ranges else 0
        if first >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.end_headers()
            return
        self.send_response(206 if span and server.ranges else 200)
        self.send_header("Content-Length", str(len(BODY) - first))
        if span and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        end = len(BODY)
        if server.breaks:
            server.breaks -= 1
            end = (first + len(BODY)) // 2
        self.wfile.write(BODY[first:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    s = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    s.seen, s.fail, s.breaks, s.ranges = [], [], 0, True
    s.url = f"http://127.0.0.1:{s.server_port}/corpus.tgz"
    thread = threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield s
    s.shutdown()
    thread.join()
    s.server_close()


def get(server, dest, **kwargs):
    return fetch(server.url, dest, backoff_s=0, **kwargs)


def test_a_broken_download_is_continued(server, tmp_path):
    server.breaks, seen = 2, []
    dest = get(server, tmp_path / "x/c.tgz", sha256=SHA, progress=lambda *n: seen.append(n))
    assert dest.read_bytes() == BODY
    half = len(BODY) // 2
    assert server.seen == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert [p.name for p in dest.parent.iterdir()] == ["c.tgz"]


def test_a_new_process_continues_too_and_then_does_nothing(server, tmp_path):
    (tmp_path / "c.part").write_bytes(BODY[:100])
    get(server, tmp_path / "c", sha256=SHA, size=len(BODY))
    assert server.seen == ["bytes=100-"]
    get(server, tmp_path / "c", sha256=SHA, size=len(BODY))
    assert len(server.seen) == 1


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges, server.breaks = False, 1
    assert get(server, tmp_path / "c", sha256=SHA).read_bytes() == BODY


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_complete_part_is_not_fetched_twice(server, tmp_path, extra):
    (tmp_path / "c.part").write_bytes(BODY + extra)
    assert get(server, tmp_path / "c", sha256=SHA).read_bytes() == BODY


def test_three_failures_are_enough_and_the_part_is_kept(server, tmp_path):
    server.breaks = 9
    with pytest.raises(SetupError, match="3 times") as e:
        get(server, tmp_path / "c", sha256=SHA)
    assert "continues" in e.value.how and len(server.seen) == 3
    assert BODY.startswith((tmp_path / "c.part").read_bytes())


def test_a_busy_server_is_tried_again_a_missing_page_is_not(server, tmp_path):
    server.fail = [503, 429]
    get(server, tmp_path / "c")
    server.seen.clear()
    server.fail = [404]
    with pytest.raises(DataError, match="404"):
        get(server, tmp_path / "d")
    assert len(server.seen) == 1


@pytest.mark.parametrize("kwargs", [{"sha256": "0" * 64}, {"size": len(BODY) + 1}])
def test_a_wrong_file_is_kept_as_bad(server, tmp_path, kwargs):
    with pytest.raises(DataError, match="expected"):
        get(server, tmp_path / "c", **kwargs)
    assert [p.name for p in tmp_path.iterdir()] == ["c.bad"]


def test_no_network_is_a_clear_error(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/x"
        with pytest.raises(SetupError, match="refused") as e:
            fetch(url, tmp_path / "c", backoff_s=0)
    assert "check the network" in e.value.how


def test_a_full_disk_is_noticed_before_the_start(server, tmp_path, monkeypatch):
    usage = download.shutil._ntuple_diskusage(1, 1, 1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match="disk space"):
        get(server, tmp_path / "c")
    assert len(server.seen) == 1 and not list(tmp_path.iterdir())


def test_file_addresses_and_others(tmp_path):
    (tmp_path / "a").write_bytes(BODY)
    assert fetch((tmp_path / "a").as_uri(), tmp_path / "b", SHA).read_bytes() == BODY
    with pytest.raises(DataError, match="cannot be copied"):
        fetch((tmp_path / "none").as_uri(), tmp_path / "c")
    with pytest.raises(UsageError):
        fetch("ftp://host/x", tmp_path / "c")


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, value in members:
            member = tarfile.TarInfo(name)
            if isinstance(value, str):
                member.type, member.linkname = tarfile.SYMTYPE, value
                tar.addfile(member)
            else:
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("ok", b"x"), ("a/../../evil", b"x")],
        [("link", ".."), ("link/evil", b"x")],
        [("link", "/etc")],
    ],
)
def test_a_malicious_tar_is_refused_and_leaves_nothing(tmp_path, members):
    archive = make_tar(tmp_path / "a.tar.gz", members)
    with pytest.raises(DataError, match="not safe"):
        extract(archive, tmp_path / "sub/out")
    assert not (tmp_path / "sub/out").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "c:evil"])
def test_a_malicious_zip_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("ok", "x")
        z.writestr(name, "x")
    with pytest.raises(DataError, match="not safe"):
        extract(tmp_path / "a.zip", tmp_path / "sub/out")
    assert not (tmp_path / "sub/out").exists() and not list(tmp_path.rglob("*evil"))


def test_good_archives_are_unpacked_and_replace_the_old(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("d/x", "zip")
    make_tar(tmp_path / "a.tgz", [("d/x", b"tar"), ("d/y", b"2"), ("d/l", "x")])
    assert (extract(tmp_path / "a.tgz", tmp_path / "out") / "d/l").read_text() == "tar"
    assert (extract(tmp_path / "a.zip", tmp_path / "out") / "d/x").read_text() == "zip"
    assert not (tmp_path / "out/d/y").exists()


def test_a_damaged_archive_leaves_the_old_folder(tmp_path):
    archive = make_tar(tmp_path / "a.tgz", [("x", bytes(99)), ("y", SHA.encode() * 999)])
    extract(archive, tmp_path / "out")
    data = archive.read_bytes()
    for damage in (data[:-40], data[:60], b"hello", b""):
        archive.write_bytes(damage)
        with pytest.raises(DataError):
            extract(archive, tmp_path / "out")
    assert (tmp_path / "out/x").read_bytes() == bytes(99)
    with pytest.raises(DataError, match="missing"):
        extract(tmp_path / "none", tmp_path / "out")
