"""The fetcher's promises, on real sockets."""

import gzip
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import brotli
import pytest
from loopback import Answer

from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ledger import Reason


def reason_of(fetcher, url, **options) -> Reason:
    with pytest.raises(SourceError) as caught:
        fetcher.get(url, **options)
    return caught.value.reason


# --- what comes back -----------------------------------------------------------------------------------------


def test_a_page_comes_back_whole(site, new_fetcher):
    site.page("/a", "<p>Grüße", headers={"Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}, etag=True)
    fetched = new_fetcher().get(site.url("/a#part"))
    assert fetched.url == site.url("/a")
    assert (fetched.status, fetched.media_type, fetched.text) == (200, "text/html", "<p>Grüße")
    assert fetched.body == "<p>Grüße".encode()
    assert fetched.last_modified == "Sat, 01 Jan 2022 00:00:00 GMT"
    assert fetched.etag


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b"<p>one ") + gzip.compress(b"two")),
        ("gzip", gzip.compress(b"<p>one two") + b"\x00\x00 padding"),
        ("x-gzip", gzip.compress(b"<p>one two")),
        ("br", brotli.compress(b"<p>one two")),
        ("deflate", __import__("zlib").compress(b"<p>one two")),
        ("deflate", __import__("zlib").compress(b"<p>one two")[2:-4]),
        ("identity", b"<p>one two"),
    ],
    ids=["members", "padded", "x-gzip", "br", "zlib", "raw", "identity"],
)
def test_every_compression_it_asks_for_is_undone(site, new_fetcher, coding, packed):
    site.page("/", packed, headers={"Content-Encoding": coding})
    assert new_fetcher().get(site.url("/")).text == "<p>one two"


def test_a_large_compressed_page_within_the_limit_is_whole(site, new_fetcher):
    body = b"".join(b"<p>line %d</p>\n" % number for number in range(100_000))
    for coding, pack in (("gzip", gzip.compress), ("br", lambda data: brotli.compress(data, quality=4))):
        site.page(f"/{coding}", pack(body), headers={"Content-Encoding": coding})
        assert new_fetcher().get(site.url(f"/{coding}")).body == body


def test_a_pdf_has_a_body_and_no_text(site, new_fetcher):
    site.page("/", b"%PDF-1.7 \x00\x01\x02", media="application/pdf")
    fetched = new_fetcher().get(site.url("/"))
    assert (fetched.media_type, fetched.text, fetched.body[:5]) == ("application/pdf", "", b"%PDF-")


@pytest.mark.parametrize("media", ["text/html", "application/octet-stream", None])
def test_a_pdf_is_known_by_its_first_bytes_whatever_it_is_called(site, new_fetcher, media):
    site.page("/", b"%PDF-1.7 \x00", media=media)
    assert new_fetcher().get(site.url("/")).media_type == "application/pdf"
    assert reason_of(new_fetcher(), site.url("/"), accept=("text/",)) == Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("body", "media"), [("<!DOCTYPE html><p>hi", "text/html"), ("just words", "text/plain"), ("", "text/plain")]
)
def test_a_missing_content_type_is_found_out(site, new_fetcher, body, media):
    site.page("/", body, media=None)
    assert new_fetcher().get(site.url("/")).media_type == media


def test_only_what_was_asked_for_is_accepted(site, new_fetcher):
    site.page("/feed", "<rss/>", media="application/rss+xml")
    fetcher = new_fetcher()
    assert reason_of(fetcher, site.url("/feed")) == Reason.WRONG_TYPE
    assert fetcher.get(site.url("/feed"), accept=("application/",)).text == "<rss/>"
    assert site.requests[-1].headers["accept"] == "application/*, */*;q=0.1"


def test_utf_16_text_is_text_for_all_its_nul_bytes(site, new_fetcher):
    site.page("/marked", "<p>häh".encode("utf-16"), media="text/html")
    site.page("/said", "<p>häh".encode("utf-16-le"), media="text/html; charset=utf-16-le")
    fetcher = new_fetcher()
    assert fetcher.get(site.url("/marked")).text == fetcher.get(site.url("/said")).text == "<p>häh"


# --- conditional ----------------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_downloaded_again(site, new_fetcher):
    site.page("/", "<p>one", etag=True)
    fetcher = new_fetcher()
    first = fetcher.get(site.url("/"))
    with pytest.raises(NotModified):
        fetcher.get(site.url("/"), etag=first.etag)
    site.page("/", "<p>two", etag=True)
    assert fetcher.get(site.url("/"), etag=first.etag).text == "<p>two"


def test_the_date_of_the_last_answer_is_sent_back(site, new_fetcher):
    site.route("/", lambda request: Answer(304 if "if-modified-since" in request.headers else 200, "x"))
    fetcher = new_fetcher()
    fetcher.get(site.url("/"))
    with pytest.raises(NotModified):
        fetcher.get(site.url("/"), last_modified="Sat, 01 Jan 2022 00:00:00 GMT")


ODD = ['"gr\u00fc\u00df"', "\u201cx\u201d", "a\x00b", "a\x1bb", "a\nb: c", "x" * 5_000, "\ud800", "\x7f", " ", ""]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_validator_that_cannot_be_sent_is_left_out_and_the_link_read(site, new_fetcher, odd):
    """One that an earlier version has stored, too."""
    site.page("/", "<p>words")
    assert new_fetcher().get(site.url("/"), etag=odd, last_modified=odd).text == "<p>words"
    sent = site.requests[-1].headers
    assert not {"if-none-match", "if-modified-since", "b"} & set(sent)


@pytest.mark.parametrize("odd", [b'"gr\xfc\xdf"', '"grün"'.encode(), b"x" * 5_000, b"\xff"], ids=repr)
def test_an_odd_validator_of_a_site_is_not_kept(site, new_fetcher, odd):
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\nETag: %b\r\nLast-Modified: %b\r\n\r\nabc"
    )
    site.wire("/", lambda wire: wire.sendall(head % (odd, odd)))
    fetched = new_fetcher().get(site.url("/"))
    assert (fetched.text, fetched.etag, fetched.last_modified) == ("abc", None, None)


def test_a_304_that_nobody_asked_for_is_an_error(site, new_fetcher):
    site.page("/", "", status=304)
    assert reason_of(new_fetcher(), site.url("/")) == Reason.HTTP_ERROR


# --- redirects and cookies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_another_host(site, new_fetcher, status):
    site.redirect("/old", site.url("/new", host="two.example") + "#part", status=status, host="one.example")
    site.page("/new", "<p>here", host="two.example")
    assert new_fetcher().get(site.url("/old", host="one.example")).url == site.url("/new", host="two.example")


def test_a_cookie_lives_as_long_as_the_redirects_of_one_page_and_stays_on_its_host(site, new_fetcher):
    def welcome(request):
        if "seen=yes" in request.headers.get("cookie", ""):
            return Answer(302, headers={"Location": site.url("/there", host="two.example")})
        return Answer(302, headers={"Location": "/", "Set-Cookie": "seen=yes"})

    site.route("/", welcome, host="one.example")
    site.page("/there", "<p>in", host="two.example")
    fetcher = new_fetcher(own_hosts=("one.example", "two.example"))
    for _ in range(2):
        assert fetcher.get(site.url("/", host="one.example")).text == "<p>in"
    sent = [(one.host, "cookie" in one.headers) for one in site.requests]
    assert sent == [("one.example", False), ("one.example", True), ("two.example", False)] * 2


def test_a_site_that_sets_cookies_without_end_is_read_without_them(site, new_fetcher):
    many = "; Path=/\r\nSet-Cookie: ".join(f"k{number}=v" for number in range(900))
    site.route("/", lambda request: Answer(302, headers={"Location": "/there", "Set-Cookie": many}))
    site.page("/there", "<p>in")
    assert new_fetcher().get(site.url("/")).text == "<p>in"
    assert "cookie" not in site.requests[-1].headers


# --- again -----------------------------------------------------------------------------------------------------


def test_a_passing_trouble_passes(site, new_fetcher):
    answers = iter([Answer(503), Answer(500), Answer(200, "<p>at last")])
    site.route("/", lambda request: next(answers))
    assert new_fetcher(attempts=3).get(site.url("/")).text == "<p>at last"


def test_it_waits_as_long_as_the_site_asks(site, new_fetcher):
    answers = iter([Answer(429, headers={"Retry-After": "1"}), Answer(200, "<p>now")])
    site.route("/", lambda request: next(answers))
    assert new_fetcher().get(site.url("/")).text == "<p>now"
    first, second = [one.at for one in site.requests if one.path == "/"]
    assert second - first >= 1.0


def test_a_site_that_is_asked_too_often_is_left_alone_by_every_thread(site, new_fetcher):
    site.page("/other", "<p>x")
    answers = iter([Answer(429, headers={"Retry-After": "1"}), Answer(200, "<p>now")])
    limited = threading.Event()

    def first_too_often(request):
        limited.set()
        return next(answers)

    site.route("/", first_too_often)
    fetcher = new_fetcher(per_host=1, own_hosts=("127.0.0.1",))
    with ThreadPoolExecutor(2) as threads:
        page = threads.submit(fetcher.get, site.url("/"))
        assert limited.wait(60)
        fetcher.get(site.url("/other"))
        assert page.result().text == "<p>now"
    assert min(one.at for one in site.requests[1:]) - site.requests[0].at >= 1.0


def test_who_asks_to_wait_until_a_near_date_is_heard(site, new_fetcher):
    def later(request):
        if site.hits("/") > 1:
            return Answer(200, "<p>now")
        return Answer(503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=1.9))})

    site.route("/", later)
    assert new_fetcher().get(site.url("/")).text == "<p>now"


@pytest.mark.parametrize(
    "asked", ["86400", format_datetime(datetime.now(UTC) + timedelta(days=1))], ids=["seconds", "date"]
)
def test_who_asks_to_wait_for_long_is_left_alone_until_the_next_run(site, new_fetcher, asked):
    site.page("/", "", status=429, headers={"Retry-After": asked})
    with pytest.raises(SourceError) as caught:
        new_fetcher().get(site.url("/"))
    assert (caught.value.reason, caught.value.retry, site.hits("/")) == (Reason.RATE_LIMITED, True, 1)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert "come back after" in caught.value.detail
    assert f"{tomorrow:%Y-%m-%d}" in caught.value.detail


def test_a_wait_that_does_not_fit_into_the_whole_time_is_not_begun(site, new_fetcher):
    site.page("/", "", status=503, headers={"Retry-After": "20"})
    assert reason_of(new_fetcher(total_timeout=15.0), site.url("/")) == Reason.HTTP_ERROR  # after it: TIMEOUT
    assert site.hits("/") == 1


def test_waiting_for_a_hosts_turn_does_not_use_up_the_time_of_a_page(site, new_fetcher):
    for path in ("/1", "/2", "/3"):
        site.page(path, "<p>x")
    fetcher = new_fetcher(delay=1.5, total_timeout=2.5, own_hosts=("127.0.0.1",))
    with ThreadPoolExecutor(3) as threads:
        pages = list(threads.map(lambda path: fetcher.get(site.url(path)), ("/1", "/2", "/3")))
    assert [page.status for page in pages] == [200] * 3


# --- politeness --------------------------------------------------------------------------------------------------


def test_no_more_than_so_many_requests_are_at_one_host(site, new_fetcher):
    site.latency = 0.05
    for number in range(12):
        site.page(f"/{number}", "<p>x")
    fetcher = new_fetcher(per_host=2, own_hosts=("127.0.0.1",))
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda number: fetcher.get(site.url(f"/{number}")), range(12)))
    assert site.busiest == 2


def test_hosts_do_not_wait_for_each_other(site, new_fetcher):
    arrived = threading.Barrier(2, timeout=60)

    def meet(request):
        arrived.wait()
        return Answer(200, "<p>met")

    site.route("/", meet)
    fetcher = new_fetcher(per_host=1, own_hosts=("one.example", "two.example"))
    with ThreadPoolExecutor(2) as threads:
        links = [site.url("/", host=host) for host in ("one.example", "two.example")]
        assert [page.text for page in threads.map(fetcher.get, links)] == ["<p>met"] * 2


def test_requests_to_one_host_start_a_delay_apart(site, new_fetcher):
    for number in range(3):
        site.page(f"/{number}", "<p>x")
    fetcher = new_fetcher(delay=1.0, per_host=8, own_hosts=("127.0.0.1",))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda number: fetcher.get(site.url(f"/{number}")), range(3)))
    starts = sorted(one.at for one in site.requests)
    assert starts[2] - starts[0] >= 1.0, "two delays, less the time that the first took to arrive"


def test_a_crawl_delay_in_robots_txt_is_kept(site, new_fetcher):
    site.page("/robots.txt", "User-agent: *\nCrawl-delay: 1", media="text/plain")
    site.page("/", "<p>x")
    fetcher = new_fetcher()
    for _ in range(2):
        fetcher.get(site.url("/"))
    first, second = [one.at for one in site.requests if one.path == "/"]
    assert second - first >= 0.5  # less the time that the first took to arrive


def test_robots_txt_is_asked_once_for_many_threads_and_obeyed(site, new_fetcher):
    site.page(
        "/robots.txt", "User-agent: llm-twin\nDisallow: /private\n\nUser-agent: *\nDisallow: /", media="text/plain"
    )
    site.page("/open", "<p>x")
    fetcher = new_fetcher()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: fetcher.get(site.url("/open")), range(8)))
    with pytest.raises(SourceError) as caught:
        fetcher.get(site.url("/private/diary"))
    assert (caught.value.reason, caught.value.retry) == (Reason.ROBOTS, False)
    assert "own_hosts" in caught.value.detail
    assert (site.hits("/robots.txt"), site.hits("/private/diary")) == (1, 0)


def test_another_agent_obeys_its_own_rules(site, new_fetcher):
    site.page("/robots.txt", "User-agent: other\nDisallow:\n\nUser-agent: *\nDisallow: /", media="text/plain")
    site.page("/", "<p>x")
    assert reason_of(new_fetcher(), site.url("/")) == Reason.ROBOTS
    assert new_fetcher(user_agent="other/2.0 (+https://other.example)").get(site.url("/")).status == 200
    assert site.requests[-1].headers["user-agent"] == "other/2.0 (+https://other.example)"


def test_the_target_of_a_redirect_is_asked_for_its_robots_txt_too(site, new_fetcher):
    site.redirect("/", site.url("/there", host="two.example"), host="one.example")
    site.page("/robots.txt", "User-agent: *\nDisallow: /", media="text/plain", host="two.example")
    site.page("/there", "<p>x", host="two.example")
    assert reason_of(new_fetcher(), site.url("/", host="one.example")) == Reason.ROBOTS
    assert site.hits("/there") == 0


def test_a_site_of_ones_own_is_not_asked_for_robots_txt(site, new_fetcher):
    site.page("/robots.txt", "User-agent: *\nDisallow: /", media="text/plain")
    site.page("/", "<p>x")
    assert new_fetcher(own_hosts=(f"127.0.0.1:{site.port}",)).get(site.url("/")).status == 200
    assert site.hits("/robots.txt") == 0


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_site_without_robots_txt_may_be_read(site, new_fetcher, status):
    site.page("/robots.txt", "User-agent: *\nDisallow: /", status=status)
    site.page("/", "<p>x")
    assert new_fetcher().get(site.url("/")).status == 200


# --- addresses ---------------------------------------------------------------------------------------------------


def test_a_name_is_looked_up_once_and_connected_to_where_it_was_checked(site, new_fetcher):
    """DNS rebinding: public when checked, private when connected. Here the second look-up never happens."""
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return ["203.0.113.7"] if len(asked) > 1 else ["127.0.0.1"]

    site.page("/", "<p>x")
    fetcher = new_fetcher(resolve=rebinding, own_hosts=("one.example",))
    assert fetcher.get(site.url("/", host="one.example")).status == 200
    assert asked == ["one.example"]
    assert site.requests[0].host == "one.example", "the name travels in the Host header"


def test_one_private_address_among_public_ones_is_enough_to_refuse(site, new_fetcher):
    fetcher = new_fetcher(resolve=lambda host, port: ["93.184.215.14", "10.0.0.1"], allow_hosts=())
    assert reason_of(fetcher, "http://two-faced.example/") == Reason.BLOCKED_ADDRESS


def test_the_next_address_is_tried_when_the_first_is_not_reachable(site, new_fetcher):
    site.page("/", "<p>x")
    fetcher = new_fetcher(resolve=lambda host, port: ["127.0.0.9", "127.0.0.1"], own_hosts=("one.example",))
    assert fetcher.get(site.url("/", host="one.example")).status == 200


def test_a_host_may_be_allowed_for_one_port_only(site, new_site, new_fetcher):
    other = new_site()
    for one in (site, other):
        one.page("/", "<p>x")
    fetcher = new_fetcher(allow_hosts=(f"127.0.0.1:{site.port}",))
    assert fetcher.get(site.url("/")).status == 200
    assert reason_of(fetcher, other.url("/")) == Reason.BLOCKED_ADDRESS


def test_the_proxies_of_the_environment_are_not_used(site, new_fetcher, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    site.page("/", "<p>x")
    assert new_fetcher().get(site.url("/")).status == 200


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """A fresh self-signed certificate for one.example, as (file with key and certificate)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "one.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("one.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    plain = serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def secure_site(new_site, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site = new_site(tls=context)
    site.page("/", "<p>secure")
    return site


def test_a_certificate_of_ones_own_is_trusted_when_the_environment_says_so(
    secure_site, certificate, new_fetcher, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert new_fetcher().get(secure_site.url("/", host="one.example")).text == "<p>secure"
    assert reason_of(new_fetcher(), secure_site.url("/", host="two.example")) == Reason.TLS, "the name must match"


def test_an_untrusted_certificate_is_a_tls_failure(secure_site, new_fetcher):
    with pytest.raises(SourceError) as caught:
        new_fetcher().get(secure_site.url("/", host="one.example"))
    assert (caught.value.reason, caught.value.retry) == (Reason.TLS, False)
    assert "self-signed" in caught.value.detail
    assert secure_site.hits() == 0


# --- the end -----------------------------------------------------------------------------------------------------


def test_closing_ends_the_waits_of_other_threads(site, new_fetcher):
    asked = threading.Event()

    def busy(request):
        asked.set()
        return Answer(503, headers={"Retry-After": "25"})

    site.route("/", busy)
    fetcher = new_fetcher(own_hosts=("127.0.0.1",))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(reason_of, fetcher, site.url("/"))
        assert asked.wait(60)
        fetcher.close()
        assert waiting.result(timeout=60) == Reason.CONNECT
    fetcher.close()


def test_importing_the_fetchers_loads_nothing_heavy():
    import subprocess
    import sys

    modules = "http, browser, chromium, git, git_process, proxy, guarded_transport, response"
    code = (
        f"from llm_engineering.infrastructure.fetchers import {modules}; import sys; "
        "heavy = {'httpx', 'httpcore', 'selenium', 'brotli', 'protego', 'charset_normalizer'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
