"""Every way the network can be bad, met on real sockets: a clear reason, and whether another try may help."""

import gzip
import io
import socket
import threading
import zlib
from contextlib import suppress

import brotli
import pytest
from loopback import HTML, Answer
from waiting import until

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason


def failure(fetcher, url, **options) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetcher.get(url, **options)
    assert "\n" not in caught.value.detail
    assert caught.value.link == url
    return caught.value


def gzipped(megabytes: int) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as file:
        for _ in range(megabytes):
            file.write(b" " * 1_000_000)
    return packed.getvalue()


# --- no connection -------------------------------------------------------------------------------------------


def test_a_host_nobody_listens_on_is_tried_again_and_then_reported(new_fetcher):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: refused
        error = failure(new_fetcher(own_hosts=("127.0.0.1",)), f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert (error.reason, error.retry) == (Reason.CONNECT, True)
    assert "refused" in error.detail


def test_an_unknown_name_is_a_dns_failure_that_another_try_does_not_mend(new_fetcher):
    def nobody(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    error = failure(new_fetcher(resolve=nobody), "http://no-such-host.example/")
    assert (error.reason, error.retry) == (Reason.DNS, False)
    assert "no-such-host.example" in error.detail


def test_a_name_server_that_is_away_is_asked_again(new_fetcher):
    asked = []

    def away(host, port):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    error = failure(new_fetcher(resolve=away, attempts=3, own_hosts=("one.example",)), "http://one.example/")
    assert (error.reason, error.retry, len(asked)) == (Reason.DNS, True, 3)


def test_a_name_server_that_never_answers_is_cut_off(new_fetcher):
    answer = threading.Event()

    def silent(host, port):
        answer.wait(30)
        return ["127.0.0.1"]

    fetcher = new_fetcher(resolve=silent, connect_timeout=0.1, attempts=1)
    error = failure(fetcher, "http://one.example/")
    answer.set()
    assert (error.reason, error.retry) == (Reason.DNS, True)


def test_a_host_that_does_not_take_the_connection_is_a_timeout(new_fetcher):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # the queue of waiting connections is full after these
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        error = failure(
            new_fetcher(connect_timeout=0.2, attempts=1, own_hosts=("127.0.0.1",)), f"http://127.0.0.1:{port}/"
        )
        for one in waiting:
            one.close()
    assert (error.reason, error.retry) == (Reason.TIMEOUT, True)


def test_a_connection_that_breaks_in_the_middle_is_tried_again(site, new_fetcher):
    site.wire("/", lambda wire: wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"))
    error = failure(new_fetcher(attempts=2), site.url("/"))
    assert (error.reason, error.retry, site.hits("/")) == (Reason.CONNECT, True, 2)


def test_what_is_not_http_is_reported_as_a_broken_connection(site, new_fetcher):
    site.wire("/", lambda wire: wire.sendall(b"\x00\x01SSH-2.0-hello\r\n\r\n"))
    assert failure(new_fetcher(attempts=1), site.url("/")).reason == Reason.CONNECT


def test_https_to_a_server_without_tls_is_a_tls_failure(site, new_fetcher):
    fetcher = new_fetcher(own_hosts=("127.0.0.1",))
    error = failure(fetcher, site.url("/").replace("http:", "https:"))
    assert (error.reason, error.retry, site.hits()) == (Reason.TLS, False, 0)


# --- answers that are no page --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "retry", "asked"),
    [
        (400, Reason.HTTP_ERROR, False, 1),
        (401, Reason.LOGIN, False, 1),
        (403, Reason.HTTP_ERROR, False, 1),
        (404, Reason.NOT_FOUND, False, 1),
        (410, Reason.NOT_FOUND, False, 1),
        (429, Reason.RATE_LIMITED, True, 3),
        (451, Reason.HTTP_ERROR, False, 1),
        (500, Reason.HTTP_ERROR, True, 3),
        (501, Reason.HTTP_ERROR, True, 1),
        (502, Reason.HTTP_ERROR, True, 3),
        (503, Reason.HTTP_ERROR, True, 3),
        (504, Reason.HTTP_ERROR, True, 3),
        (999, Reason.HTTP_ERROR, False, 1),
    ],
)
def test_each_status_has_its_reason_and_only_the_passing_ones_are_tried_again(
    site, new_fetcher, status, reason, retry, asked
):
    site.page("/", "no", status=status)
    error = failure(new_fetcher(attempts=3), site.url("/"))
    assert (error.reason, error.retry, site.hits("/")) == (reason, retry, asked)
    assert str(status) in error.detail


def test_a_cloudflare_challenge_is_a_bot_wall(site, new_fetcher):
    site.page("/", "Just a moment...", status=403, headers={"cf-mitigated": "challenge"})
    assert failure(new_fetcher(), site.url("/")).reason == Reason.BOT_WALL


LOCATIONS = [
    b"http://[", b"http://[::1", b"//[", b"http://a b/", b"http://\xff/", b"\xff\xfe", b"javascript:1", b"http://%zz/",
    b"http://127.0.0.1:99999/", b"http://127.0.0.1:-1/", b"http://127.0.0.1:x/", b"http:///", b"data:text/html,x",
    b"http://" + b"a" * 70_000, b"http://" + b"a." * 300, b"http://xn--a/", b"http://xn--" + b"z" * 60, b"http://a\x00b/",
    b"http://user:p@h/", b"http://[v1.x]/", b"http://.../", b"mailto:a@b", b"http://\xe2\x80\xae/", b"file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("location", LOCATIONS, ids=lambda location: ascii(location[:20]))
def test_a_redirect_to_what_is_no_link_is_that_links_failure(site, new_fetcher, location):
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    site.wire("/", lambda wire: wire.sendall(answer))
    error = failure(new_fetcher(attempts=1), site.url("/"))
    assert error.reason != Reason.INTERNAL_ERROR


HEADERS = [
    b"Content-Type: text/html; charset=\x00x", b"Content-Type: text/html; charset=undefined", b"Content-Type: \xff\xff",
    b"Content-Type: text/html; charset=utf-7", b"Content-Type: text/html; charset=idna", b"Content-Encoding: \xff",
    b"Content-Encoding: gzip,br", b"Content-Encoding: zstd", b"Content-Encoding: br", b"Content-Encoding: deflate",
    b"Set-Cookie: " + b"a=b; " * 10_000, b"Set-Cookie: a=b; expires=" + b"9" * 5_000, b"Set-Cookie: \xff=\xff",
    b"Set-Cookie: a=b; max-age=" + b"9" * 5_000, b"X-A: " + b"b" * 90_000, b"X: " + b"b" * 300_000,
    b"\r\n".join(b"X-%d: b" % number for number in range(5_000)), b"Content-Length: 4", b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked", b"Content-Length: " + b"9" * 5_000, b"Content-Type: " + b"a;" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: ascii(header[:40]))
def test_whatever_a_header_says_the_page_is_read_or_the_link_failed(site, new_fetcher, header):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + header + b"\r\n\r\nabc"
    site.wire("/", lambda wire: wire.sendall(answer))
    with suppress(SourceError):
        assert new_fetcher(attempts=1).get(site.url("/")).status == 200
        return
    assert failure(new_fetcher(attempts=1), site.url("/")).reason != Reason.INTERNAL_ERROR


@pytest.mark.parametrize("asked", ["1000000000", "9" * 90, "Fri, 31 Dec 9999 23:59:59 -2300", "9" * 5_000])
@pytest.mark.parametrize("status", [429, 503])
def test_a_site_that_asks_to_wait_for_ever_is_left_alone_for_a_year_at_most(site, new_fetcher, asked, status):
    site.page("/", "", status=status, headers={"Retry-After": asked})
    error = failure(new_fetcher(attempts=1), site.url("/"))
    assert error.reason == (Reason.RATE_LIMITED if status == 429 else Reason.HTTP_ERROR)
    assert error.retry


def test_what_nobody_foresaw_is_the_links_failure_and_says_where(new_fetcher):
    def broken(host, port):
        raise ZeroDivisionError("of a library")

    error = failure(new_fetcher(resolve=broken), "http://one.example/")
    assert (error.reason, error.retry) == (Reason.INTERNAL_ERROR, True)
    assert "ZeroDivisionError: of a library (a bug, at " in error.detail


# --- time ----------------------------------------------------------------------------------------------------


def test_a_server_that_says_nothing_is_a_timeout(site, new_fetcher):
    done = threading.Event()
    site.wire("/", lambda wire: done.wait(30))
    error = failure(new_fetcher(read_timeout=0.1, attempts=2, own_hosts=("127.0.0.1",)), site.url("/"))
    until(lambda: site.hits("/") == 2)
    done.set()
    assert (error.reason, error.retry) == (Reason.TIMEOUT, True)


def drip(wire, beginning: bytes, stop: threading.Event):
    wire.sendall(beginning)
    while not stop.wait(0.02):
        wire.sendall(b"x")


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Endless: "],
    ids=["body", "headers"],
)
def test_a_slow_drip_is_cut_when_the_whole_time_is_over(site, new_fetcher, beginning):
    stop = threading.Event()
    site.wire("/", lambda wire: drip(wire, beginning, stop))
    error = failure(new_fetcher(total_timeout=2.0, read_timeout=60.0), site.url("/"))
    stop.set()
    assert (error.reason, error.retry, site.hits("/")) == (Reason.TIMEOUT, True, 1)
    assert error.detail == "no whole answer within 2 s"


# --- redirects -----------------------------------------------------------------------------------------------


def test_a_redirect_loop_is_seen_at_once(site, new_fetcher):
    site.redirect("/a", "/b")
    site.redirect("/b", "/a")
    error = failure(new_fetcher(max_redirects=20), site.url("/a"))
    assert (error.reason, error.retry, site.hits()) == (Reason.REDIRECT_LOOP, False, 2)


def test_redirects_without_end_stop_at_the_cap(site, new_fetcher):
    site.route("/n", lambda request: Answer(302, headers={"Location": request.path + "0"}))
    for count in range(1, 9):
        site.redirect("/n" + "0" * count, "/n" + "0" * (count + 1))
    error = failure(new_fetcher(max_redirects=4), site.url("/n"))
    assert (error.reason, error.retry, site.hits()) == (Reason.REDIRECT_LOOP, False, 5)


@pytest.mark.parametrize(
    "inward",
    [
        "http://127.0.0.2/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:192.168.1.1]/",
        "http://2130706434/",
        "http://0x7f.2/",
        "//192.168.0.1/",
    ],
)
def test_a_redirect_to_a_private_address_is_refused_without_a_connection(site, new_fetcher, inward):
    from llm_engineering.infrastructure.fetchers.ssrf_guard import resolve

    site.redirect("/", inward)
    error = failure(new_fetcher(resolve=resolve, allow_hosts=("127.0.0.1",)), site.url("/"))
    assert (error.reason, error.retry) == (Reason.BLOCKED_ADDRESS, False)
    assert "redirected to" in error.detail


@pytest.mark.parametrize("odd", ["file:///etc/passwd", "ftp://x/", "javascript:alert(1)", "http://a:b@c/", "http://["])
def test_a_redirect_to_what_is_no_web_link_is_refused(site, new_fetcher, odd):
    site.redirect("/", odd)
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.BAD_LINK, False)


def test_a_redirect_to_nowhere_is_an_http_error(site, new_fetcher):
    site.page("/", "", status=302)
    assert failure(new_fetcher(), site.url("/")).reason == Reason.HTTP_ERROR


# --- size ----------------------------------------------------------------------------------------------------

BOMBS = {
    "gzip": lambda: gzipped(200),
    "deflate": lambda: zlib.compress(b" " * 50_000_000, 9),
    "br": lambda: brotli.compress(b" " * 50_000_000, quality=5),
}


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_is_defused_before_it_unfolds(site, new_fetcher, coding):
    import tracemalloc

    bomb = BOMBS[coding]()
    site.page("/", bomb, headers={"Content-Encoding": coding})
    fetcher = new_fetcher(max_bytes=1_000_000)
    site.page("/robots.txt", "", media="text/plain")
    failure(fetcher, site.url("/not-there"))  # the imports are done
    tracemalloc.start()
    error = failure(fetcher, site.url("/"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "fetch.max_bytes" in error.detail
    assert peak < 8_000_000, f"{peak:,} bytes for a limit of 1,000,000"


def test_a_page_of_100_mb_that_says_so_is_not_downloaded(site, new_fetcher):
    sent = []

    def talk(wire):
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            wire.sendall(b"x" * 1_000_000)
            sent.append(1)

    site.wire("/", talk)
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert "100,000,000 bytes announced" in error.detail
    assert len(sent) < 20


def test_a_page_of_100_mb_that_does_not_say_so_is_cut_at_the_limit(site, new_fetcher):
    sent = []

    def pieces():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 1_000_000

    site.route("/", lambda request: Answer(200, pieces(), {"Content-Type": HTML}))
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.TOO_LARGE, False)
    assert len(sent) < 50, "the limit is 10 MB"


def test_a_compressed_body_above_half_the_limit_is_cut_too(site, new_fetcher):
    import random

    noise = random.Random(1).randbytes(300_000)
    site.route("/", lambda request: Answer(200, iter([gzip.compress(noise)]), {"Content-Encoding": "gzip"}))
    error = failure(new_fetcher(max_bytes=400_000), site.url("/"), accept=("",))
    assert error.reason == Reason.TOO_LARGE
    assert "compressed" in error.detail


# --- bytes that are not what they say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "holds"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"x" * 20, "image/png"),
        (b"\xff\xd8\xff\xe0" + b"x" * 20, "image/jpeg"),
        (b"PK\x03\x04" + b"x" * 20, "application/zip"),
        (b"\x7fELF" + b"x" * 20, "application/x-executable"),
        (b"\x00\x01\x02\x03" * 500, "application/octet-stream"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
    ],
)
def test_a_binary_served_as_html_is_of_the_wrong_type(site, new_fetcher, head, holds):
    site.page("/", head, media="text/html")
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.WRONG_TYPE, False)
    assert f"served as text/html, but holds {holds}" in error.detail


def test_a_type_that_was_not_asked_for_is_refused_before_its_body(site, new_fetcher):
    site.page("/", b"x" * 100, media="image/png")
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.WRONG_TYPE, False)
    assert "image/png" in error.detail


def test_a_large_binary_is_recognised_by_its_first_bytes(site, new_fetcher):
    sent = []

    def pieces():
        for _ in range(90):
            sent.append(1)
            yield bytes(100_000)

    site.route("/", lambda request: Answer(200, pieces(), {"Content-Type": "text/html"}))
    assert failure(new_fetcher(), site.url("/")).reason == Reason.WRONG_TYPE
    assert len(sent) < 80, "it hung up before the end"


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_body_that_is_not_compressed_as_it_says_is_reported(site, new_fetcher, coding):
    site.page("/", b"\xff<html>plain", headers={"Content-Encoding": coding})
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.BAD_ENCODING, False)


@pytest.mark.parametrize("pack", [gzip.compress, brotli.compress, zlib.compress], ids=["gzip", "br", "deflate"])
def test_a_compressed_body_that_ends_early_is_tried_again(site, new_fetcher, request, pack):
    body = pack(b"<html>" + b"some words " * 1000)
    coding = request.node.callspec.id
    site.page("/", body[:-10], headers={"Content-Encoding": coding})
    error = failure(new_fetcher(attempts=2), site.url("/"))
    assert (error.reason, error.retry, site.hits("/")) == (Reason.CONNECT, True, 2)


def test_a_compression_nobody_asked_for_is_refused(site, new_fetcher):
    site.page("/", b"(\xb5/\xfd", headers={"Content-Encoding": "zstd"})
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry) == (Reason.BAD_ENCODING, False)
    assert "zstd" in error.detail


# --- charsets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "body", "text"),
    [
        ("text/html; charset=iso-8859-1", "<p>naïve café — “quoted”".encode(), "<p>naïve café — “quoted”"),
        ("text/html; charset=utf-8", "<p>naïve café déjà vu".encode("latin-1"), "<p>naïve café déjà vu"),
        ("text/html; charset=nonsense", "<p>Grüße".encode(), "<p>Grüße"),
        ("text/html; charset=unicode_escape", rb"<p>\x41\ud800", r"<p>\x41\ud800"),
        ("text/html; charset=utf-7", b"<p>+ADw-script+AD4-", "<p>+ADw-script+AD4-"),
        ("text/html; charset=utf-16", b"<p>plain ascii!!", "<p>plain ascii!!"),
        ("text/html", "<meta charset=windows-1251><p>Привет, мир".encode("cp1251"), "Привет, мир"),
        ("text/html", "<meta charset=utf-8><p>Grüße ".encode() * 9 + b"\xff", "\ufffd"),
        ("text/html", "<p>Съешь же ещё этих мягких французских булок. ".encode("cp1251") * 9, "мягких французских"),
    ],
    ids=["utf8-as-latin1", "latin1-as-utf8", "nonsense", "escape", "utf7", "utf16", "meta", "stray-byte", "guessed"],
)
def test_a_wrong_or_missing_charset_still_gives_the_words(site, new_fetcher, media, body, text):
    site.page("/", body, media=media)
    fetched = new_fetcher().get(site.url("/"))
    assert text in fetched.text
    assert fetched.body == body
    fetched.text.encode("utf-8")  # no lone surrogates


# --- robots.txt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "robots",
    [
        b"<html><body>404, but with status 200</body></html>",
        b"\x00\x01\x02 garbage \xff\xfe\n:::\nDisallow\nUser-agent",
        b"Disallow: /\n",  # for nobody
        b"User-agent: *\nCrawl-delay: never\nRequest-rate: 1/0\nAllow: /",
        b"",
        b"User-agent: *\nDisallow: /*a" + b"*a" * 50 + b"b\n",
    ],
    ids=["html", "garbage", "nobody", "no-numbers", "empty", "stars"],
)
def test_a_malformed_robots_txt_does_not_keep_us_out(site, new_fetcher, robots):
    site.page("/robots.txt", robots, media="text/plain")
    site.page("/" + "a" * 100, "<p>in")
    assert new_fetcher().get(site.url("/" + "a" * 100)).text == "<p>in"


def test_a_robots_txt_without_end_is_read_to_its_limit(site, new_fetcher):
    head = b"User-agent: *\nDisallow: /private\n"

    def pieces():
        yield head
        for _ in range(1000):
            yield b"# nothing\n" * 10_000

    site.route("/robots.txt", lambda request: Answer(200, pieces(), {"Content-Type": "text/plain"}))
    site.page("/open", "<p>in")
    fetcher = new_fetcher()
    assert fetcher.get(site.url("/open")).text == "<p>in"
    assert failure(fetcher, site.url("/private")).reason == Reason.ROBOTS


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_robots_txt_that_cannot_be_had_right_now_keeps_us_out_for_now(site, new_fetcher, status):
    site.page("/robots.txt", "", status=status)
    site.page("/", "<p>in")
    error = failure(new_fetcher(), site.url("/"))
    assert (error.reason, error.retry, site.hits("/")) == (Reason.ROBOTS, True, 0)
    assert str(status) in error.detail


def test_a_robots_txt_that_redirects_inward_is_refused(site, new_fetcher):
    from llm_engineering.infrastructure.fetchers.ssrf_guard import resolve

    site.redirect("/robots.txt", "http://10.0.0.1/robots.txt")
    error = failure(new_fetcher(resolve=resolve, allow_hosts=("127.0.0.1",)), site.url("/"))
    assert error.reason == Reason.BLOCKED_ADDRESS


@pytest.mark.parametrize("link", ["", "nonsense", "http://", "http:///x", "ftp://a/b", "file:///etc/passwd",
                                  "http://a:b@c/", "http://[::1", "http://x:99999/", "http://a b/", "http://\u0000/",
                                  "http://" + "a" * 300 + ".example/", "http://①②⑦.0.0.1:x/"])  # fmt: skip
def test_what_is_no_web_link_is_a_clear_error(new_fetcher, link):
    from llm_engineering.infrastructure.fetchers.ssrf_guard import resolve

    error = failure(new_fetcher(resolve=resolve), link)
    assert error.reason in (Reason.BAD_LINK, Reason.DNS)
    assert not error.retry
