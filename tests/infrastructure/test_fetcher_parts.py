"""The fetcher's parts, each by itself."""

import gzip
import random
import socket
import threading
from datetime import UTC, datetime

import pytest

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.backoff import LONGEST_BACKOFF, backoff, retry_after
from llm_engineering.infrastructure.fetchers.charset import decode_text
from llm_engineering.infrastructure.fetchers.deadline import Deadline, with_timeout
from llm_engineering.infrastructure.fetchers.decompression import decompressed
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, printable_line
from llm_engineering.infrastructure.fetchers.politeness import HostRateLimiter
from llm_engineering.infrastructure.fetchers.robots import FAILURE_LIFETIME, LONGEST_DELAY, RULES_LIFETIME, Robots
from llm_engineering.infrastructure.fetchers.ssrf_guard import SsrfGuard, checked_url, is_public

# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
        "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "168.63.129.16",
        "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:1::1",
        "2001:db8::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1",
    ],
)  # fmt: skip
def test_an_address_inside_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111",
                "::ffff:1.1.1.1", "64:ff9b::101:101"],
)  # fmt: skip
def test_an_address_on_the_internet_is_public(address):
    assert is_public(address)


def test_the_guard_lets_an_allowed_host_be_anywhere():
    guard = SsrfGuard(
        allow_hosts=("Intranet.Example.", "other:8080", "[::1]:81"), resolve=lambda host, port: ["10.0.0.1"]
    )
    assert guard.addresses("intranet.example", 80) == ["10.0.0.1"]
    assert guard.addresses("OTHER", 8080) == ["10.0.0.1"]
    assert guard.allows("::1", 81)
    for host, port in (("other", 80), ("intranet.example.evil.example", 80), ("::1", 80)):
        with pytest.raises(FetchError) as caught:
            guard.addresses(host, port)
        assert caught.value.reason == Reason.BLOCKED_ADDRESS


def test_a_name_without_any_address_is_a_dns_failure():
    with pytest.raises(FetchError) as caught:
        SsrfGuard(resolve=lambda host, port: []).addresses("nothing.example", 80)
    assert caught.value.reason == Reason.DNS


def test_a_name_that_cannot_be_one_is_a_dns_failure():
    with pytest.raises(FetchError) as caught:
        SsrfGuard().addresses("a" * 70 + ".example", 80)
    assert (caught.value.reason, caught.value.retry) == (Reason.DNS, False)


def test_a_checked_url_is_web_has_a_host_and_no_password():
    assert checked_url("https://a.example/x").hostname == "a.example"
    SsrfGuard(resolve=lambda host, port: ["1.1.1.1"]).check("https://a.example/x")
    for wrong in ("https://:80/", "https://user@a.example/", "gopher://a.example/"):
        with pytest.raises(FetchError) as caught:
            checked_url(wrong)
        assert caught.value.reason == Reason.BAD_LINK


# --- time --------------------------------------------------------------------------------------------------------


def test_a_deadline_stands_still_while_it_is_paused():
    deadline = Deadline(0.05)
    with deadline.pause():
        threading.Event().wait(0.06)
    assert deadline.left() > 0
    assert not deadline.allows(1.0)
    threading.Event().wait(0.06)
    with pytest.raises(FetchTimeout):
        deadline.left()


def test_in_time_passes_on_what_the_work_raises():
    def fails():
        raise socket.gaierror(socket.EAI_NONAME, "no")

    with pytest.raises(socket.gaierror):
        with_timeout(fails, 5)
    assert with_timeout(lambda: 7, None) == 7


def test_requests_to_a_host_start_a_delay_apart():
    waits = []
    limiter = HostRateLimiter(per_host=4, now=lambda: 100.0)
    for _ in range(3):
        with limiter.slot("a", 2.0, wait=waits.append):
            pass
    with limiter.slot("b", 2.0, wait=waits.append):
        pass
    assert waits == [2.0, 4.0]


def test_a_slot_is_given_back_after_an_error():
    limiter = HostRateLimiter(per_host=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), limiter.slot("a", 0.0):
            raise ZeroDivisionError


def test_the_backoff_doubles_up_to_a_cap_and_never_twice_the_same():
    assert [backoff(n, 0.5, chance=lambda: 1.0) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert backoff(1, 0.5, chance=lambda: 0.0) == 0.25
    assert backoff(50, 0.5, chance=lambda: 1.0) == LONGEST_BACKOFF
    assert len({backoff(1, 0.5) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 01 Jan 2023 00:01:00 GMT", 60.0),
        ("Sun, 01 Jan 2023 00:01:00 -0000", 60.0),
        ("Sat, 31 Dec 2022 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    assert retry_after(value, now=datetime(2023, 1, 1, tzinfo=UTC)) == seconds


# --- robots ------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_robots_rules_are_asked_again_after_a_day():
    clock, asked = Clock(), []
    robots = Robots(user_agent="llm-twin/1", read=lambda url: asked.append(url) or "", now=clock)
    for moment in (0.0, RULES_LIFETIME - 1, RULES_LIFETIME + 1):
        clock.now = moment
        assert robots.delay("https://a.example/page") == 0.0
    assert asked == ["https://a.example/robots.txt"] * 2


def test_a_site_that_could_not_say_is_asked_again_after_a_minute():
    clock, answers = Clock(), iter([FetchError(Reason.HTTP_ERROR, "HTTP 500", retry=True), ""])

    def read(url):
        answer = next(answers)
        if isinstance(answer, FetchError):
            raise answer
        return answer

    robots = Robots(user_agent="llm-twin/1", read=read, now=clock)
    for _ in range(2):
        with pytest.raises(FetchError) as caught:
            robots.delay("https://a.example/page")
        assert (caught.value.reason, caught.value.retry) == (Reason.ROBOTS, True)
    clock.now = FAILURE_LIFETIME + 1
    assert robots.delay("https://a.example/page") == 0.0


def test_each_port_and_scheme_is_a_site_of_its_own():
    asked = []
    robots = Robots(user_agent="llm-twin/1", read=lambda url: asked.append(url) or "")
    for site in ("http://A.example/", "http://a.example/x", "https://a.example/", "http://a.example:81/"):
        robots.delay(site)
    assert asked == ["http://a.example/robots.txt", "https://a.example/robots.txt", "http://a.example:81/robots.txt"]


@pytest.mark.parametrize(
    ("rule", "delay"),
    [("Crawl-delay: 7", 7.0), ("Crawl-delay: 86400", LONGEST_DELAY), ("Request-rate: 1/5", 5.0),
     ("Crawl-delay: -3", 0.0), ("Crawl-delay: nan", 0.0), ("Crawl-delay: inf", 0.0)],
)  # fmt: skip
def test_a_wanted_delay_is_kept_up_to_a_cap(rule, delay):
    robots = Robots(user_agent="llm-twin/1", read=lambda url: f"User-agent: *\n{rule}\n")
    assert robots.delay("https://a.example/") == delay


def test_only_so_many_sites_are_remembered(monkeypatch):
    from llm_engineering.infrastructure.fetchers import robots as module

    monkeypatch.setattr(module, "MAX_SITES", 3)
    asked = []
    robots = Robots(user_agent="llm-twin/1", read=lambda url: asked.append(url) or "")
    for number in (1, 2, 3, 4, 4, 1):
        robots.delay(f"http://{number}.example/")
    assert len(asked) == 5, "the fourth pushed the first out"


# --- decoding ----------------------------------------------------------------------------------------------------


def test_a_body_may_arrive_in_any_pieces():
    plain = random.Random(3).randbytes(50_000) + b"a" * 300_000
    packed = gzip.compress(plain)
    for size in (1, 7, 1000, len(packed)):
        pieces = (packed[at : at + size] for at in range(0, len(packed), size))
        assert b"".join(decompressed(pieces, "gzip", max_bytes=1_000_000)) == plain


def test_no_piece_is_larger_than_the_decoder_may_give():
    import brotli

    for coding, pack in (("gzip", gzip.compress), ("br", brotli.compress)):
        packed = pack(b"a" * 5_000_000)
        pieces = decompressed(iter([packed]), coding, max_bytes=10_000_000)
        assert max(map(len, pieces)) <= 1 << 18


def test_nothing_compressed_is_nothing():
    assert list(decompressed(iter(()), "gzip", max_bytes=10)) == []
    assert list(decompressed(iter(()), "br", max_bytes=10)) == []


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        (b"\xef\xbb\xbfabc", "text/html; charset=latin-1", "abc"),
        ("häh".encode("utf-32"), "", "häh"),
        ("häh".encode("utf-16-be"), "text/plain; charset=UTF-16BE", "häh"),
        ("“quoted”".encode("cp1252"), "text/html; charset=iso-8859-1", "“quoted”"),
        ("いろは".encode("shift_jis"), "text/html; charset=Shift_JIS", "いろは"),
        ("联通".encode("gbk"), "text/html; charset=gb2312", "联通"),
        (b'<?xml version="1.0" encoding="iso-8859-2"?><a>\xb1\xe6</a>', "", "ąć"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">\xd0\xd2\xc9', "", "при"),
        (b"d\xe9j\xe0 vu \x81", "text/html; charset=windows-1252", "déjà vu \ufffd"),
        ("Schöne Grüße aus München. ".encode("latin-1") * 9, "text/html; charset=base64", "Schöne Grüße"),
        (b"", "", ""),
    ],
)
def test_the_right_charset_is_found(body, header, text):
    found = decode_text(body, header)
    assert text in found
    assert "\ufeff" not in found


def test_a_detail_is_one_short_line():
    assert printable_line("a\r\nb\x00\x1b[31m\u2028c  d") == "a b [31m c d"
    assert len(printable_line("x" * 1000)) == 240
