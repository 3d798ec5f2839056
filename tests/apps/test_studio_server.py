"""The studio's web server, with answers made up here: what it refuses, and how."""

import contextlib
import http.client
import json
import socket
import threading

import pytest

from fairseq_seqvae.melody.studio import server as studio_server
from fairseq_seqvae.melody.studio.server import Reply, Routes, StudioServer, as_json
from fairseq_seqvae.melody.studio.wire import BusyError


def fail(error):
    raise error


ROUTES = Routes(
    pages={"/": Reply(b"<!doctype html>", "text/html; charset=utf-8")},
    questions={"/api/models": lambda: as_json({"models": []})},
    operations={
        "/api/echo": as_json,
        "/api/wrong": lambda body: fail(ValueError("`rows` is wrong")),
        "/api/busy": lambda body: fail(BusyError("later")),
        "/api/broken": lambda body: fail(KeyError("secret")),
        "/api/file": lambda body: Reply(b"MThd", "audio/midi", "tune.mid"),
    },
    uploads={"/api/read": lambda upload: as_json([upload.name, len(upload.body), dict(upload.options)])},
)


@pytest.fixture(scope="module")
def server():
    made = StudioServer("127.0.0.1", 0, ROUTES)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def request(server, method, path, body=None, **headers):
    """Status, headers and body of an answer; underscores in names of headers stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def post(server, path, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request(server, "POST", path, body, **{"Content_Type": "application/json", **headers})


def sentence(answer):
    return json.loads(answer[2])["error"]


def test_pages_and_answers(server):
    assert server.is_private
    status, headers, body = request(server, "GET", "/")
    assert (status, body, headers["Content-Type"]) == (200, b"<!doctype html>", "text/html; charset=utf-8")
    assert json.loads(request(server, "GET", "/api/models")[2]) == {"models": []}
    assert json.loads(post(server, "/api/echo", {"a": [1, 2]})[2]) == {"a": [1, 2]}
    headers = post(server, "/api/file", {})[1]
    assert headers["Content-Disposition"] == 'attachment; filename="tune.mid"'
    status, headers, body = request(server, "HEAD", "/")
    assert (status, headers["Content-Length"], body) == (200, "15", b"")


@pytest.mark.parametrize("path", ["/", "/api/models", "/none"])
def test_no_page_may_load_or_embed_anything_of_others(server, path):
    headers = request(server, "GET", path)[1]
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("img-src") == "'self' data: blob:"
    assert {value for name, value in policy.items()} == {"'self'", "'none'"}
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7", "[", ""])
def test_another_host_is_refused(server, host):
    """A name of someone else may lead to this machine (DNS rebinding)."""
    answer = request(server, "GET", "/", Host=host)
    assert answer[0] == 403
    assert "another host" in sentence(answer)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_is_not(server, host):
    assert request(server, "GET", "/", Host=host)[0] == 200


def test_on_all_addresses_any_address_is_taken_but_no_name():
    made = StudioServer("0.0.0.0", 0, ROUTES)
    try:
        assert not made.is_private
        assert made.is_own_host("192.168.1.7:8000")
        assert not made.is_own_host("evil.example")
        assert made.address == f"http://localhost:{made.server_port}/"
    finally:
        made.server_close()


def test_a_page_of_another_site_is_refused(server):
    port = server.server_port
    answer = post(server, "/api/echo", {}, Origin="http://evil.example")
    assert (answer[0], sentence(answer)) == (403, "the request comes from a page of another site")
    assert post(server, "/api/echo", {}, Origin=f"http://127.0.0.1:{port}")[0] == 200
    # These are the types that a form may send without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert post(server, "/api/echo", {}, Content_Type=kind)[0] == 415
        assert request(server, "POST", "/api/read", b"x", Content_Type=kind)[0] == 415


@pytest.mark.parametrize(
    "path", ["/../setup.py", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/setup.py", "/model/4-4/model.pt", "/page/"]
)
def test_no_path_of_a_client_is_opened(server, path):
    answer = request(server, "GET", path)
    assert (answer[0], sentence(answer)) == (404, "there is no such page")


def test_wrong_methods(server):
    assert request(server, "GET", "/api/echo")[0] == 405
    assert post(server, "/", {})[0] == 405
    assert post(server, "/none", {})[0] == 404
    assert request(server, "DELETE", "/")[0] == 501


@pytest.mark.parametrize(
    "body, words",
    [
        (b"{", "no JSON"),
        (b"\xff", "UTF-8"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 10_000, "no JSON|digits"),
    ],
    ids=["cut off", "no text", "NaN", "deep", "long number"],
)
def test_what_is_no_json_gets_a_sentence(server, body, words):
    answer = post(server, "/api/echo", body)
    assert answer[0] == 400
    assert any(word in sentence(answer) for word in words.split("|"))


def test_errors_become_sentences(server):
    assert (post(server, "/api/wrong", {})[0], sentence(post(server, "/api/wrong", {}))) == (400, "`rows` is wrong")
    assert post(server, "/api/busy", {})[0] == 503
    answer = post(server, "/api/broken", {})
    assert answer[0] == 500
    assert "secret" not in sentence(answer)


def test_uploads(server):
    answer = request(
        server, "POST", "/api/read?name=a%20b.mid&voice=2", b"x" * 1000, Content_Type="application/octet-stream"
    )
    assert json.loads(answer[2]) == ["a b.mid", 1000, {"voice": "2"}]
    assert json.loads(post(server, "/api/read", b"", Content_Type="application/octet-stream")[2])[0] == "file"


def raw(server, text, rest=b""):
    """What the server answers to a request that no client library would send, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode() + rest)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode()


@pytest.mark.parametrize(
    "text, status, expected",
    [
        ("NONSENSE\n\n", 400, "Bad request syntax ('NONSENSE')"),
        ("GET / HTTP/9.1\n\n", 505, "Invalid HTTP version (9.1)"),
        ("BREW / HTTP/1.1\nHost: localhost\n\n", 501, "Unsupported method ('BREW')"),
        ("GET /" + "a" * 70000 + " HTTP/1.1\n\n", 414, "Request-URI Too Long"),
        ("GET / HTTP/1.1\n" + "A: b\n" * 200 + "\n", 431, "Too many headers"),
    ],
)
def test_what_is_no_http_gets_a_sentence_too(server, text, status, expected):
    answer = raw(server, text)
    body = answer.rpartition("\r\n\r\n")[2]
    assert json.loads(body)["error"].startswith(expected), answer
    assert answer.startswith(f"HTTP/1.1 {status}") or status in (400, 505)  # what has no version gets no head
    assert request(server, "GET", "/")[0] == 200


HEAD = "POST /api/read HTTP/1.1\nHost: localhost\nContent-Type: application/octet-stream\n"


def test_a_file_that_is_too_large_is_refused_before_it_is_read(server):
    answer = raw(server, HEAD + f"Content-Length: {10**9}\n\n")
    assert answer.startswith("HTTP/1.1 413")
    assert "953.7 MiB, but at most 2 MiB are taken" in answer


@pytest.mark.parametrize("length", ["", "Content-Length: -5\n", "Content-Length: 9e9\n", f"Content-Length: {9**99}\n"])
def test_the_length_must_be_known(server, length):
    assert raw(server, HEAD + length + "\n").startswith("HTTP/1.1 411")


@pytest.mark.parametrize(
    "head",
    [
        "POST /api/echo HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\nContent-Type: text/plain\n",
        "POST /api/echo HTTP/1.1\nHost: evil.example\nContent-Type: application/json\n",
        "POST /api/echo HTTP/1.1\nHost: localhost\nContent-Type: text/plain\n",
        "POST /none HTTP/1.1\nHost: localhost\nContent-Type: application/json\n",
        "POST /api/echo HTTP/1.1\nHost: localhost\nContent-Type: application/json\nTransfer-Encoding: chunked\n",
        "POST /api/echo HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 0\n",
        "GET / HTTP/1.1\nHost: localhost\n",
        "GET /none HTTP/1.1\nHost: localhost\n",
        "DELETE / HTTP/1.1\nHost: localhost\n",
    ],
    ids=[
        "another site",
        "another host",
        "another type",
        "no operation",
        "chunks",
        "two lengths",
        "page",
        "no page",
        "no method",
    ],
)
def test_a_body_that_is_not_read_is_no_second_request(server, head):
    hidden = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(server, head + f"Content-Length: {len(hidden)}\n\n", hidden)
    assert answer.count("HTTP/1.1 ") == 1 and '"models"' not in answer


def test_a_connection_serves_one_request_after_another(server):
    body = b"[1]"
    head = f"POST /api/echo HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {len(body)}\n\n"
    first = head.replace("\n", "\r\n").encode() + body
    answer = raw(server, "GET / HTTP/1.1\nHost: localhost\n\n", first + first)
    assert answer.count("HTTP/1.1 200") == 3 and answer.count("[1]") == 2


def test_a_client_that_leaves_gets_nothing_and_the_server_lives(server):
    assert raw(server, HEAD + "Content-Length: 100\n\n", b"half") == ""
    assert request(server, "GET", "/")[0] == 200


def test_a_client_that_waits_is_left(server, monkeypatch):
    monkeypatch.setattr(studio_server._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(b"POST /api/read HTTP/1.1\r\nHost: loc")
        assert connection.recv(100) == b""


def test_connections_are_bounded(monkeypatch):
    monkeypatch.setattr(studio_server, "MOST_CONNECTIONS", 2)
    made = StudioServer("127.0.0.1", 0, ROUTES)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        held = [socket.create_connection(("127.0.0.1", made.server_port), timeout=20) for _ in range(2)]
        for connection in held:  # answered: they have their threads
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        third = socket.create_connection(("127.0.0.1", made.server_port), timeout=20)
        with third, contextlib.suppress(ConnectionError):
            assert third.recv(100) == b""
        for connection in held:
            connection.close()
    finally:
        made.shutdown()
        made.server_close()


def test_a_port_that_is_taken(server, capsys):
    from fairseq_seqvae.melody.__main__ import main

    assert main(["studio", "--port", str(server.server_port), "--no-browser"]) == 2
    assert "choose another --port" in capsys.readouterr().err
    assert main(["studio", "--port", "70000", "--no-browser"]) == 2
    assert "--port 70000 is above 65535" in capsys.readouterr().err
    assert main(["studio", "--model", "/none.pt", "--no-browser"]) == 2
    assert "there is no model /none.pt" in capsys.readouterr().err
