"""The fetcher's parts, each by itself."""

import gzip
import random
import socket
import threading
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.backoff import LONGEST_BACKOFF, LONGEST_RETRY_AFTER, backoff, retry_after
from llm_engineering.infrastructure.fetchers.charset import decode_text
from llm_engineering.infrastructure.fetchers.deadline import Deadline, with_timeout
from llm_engineering.infrastructure.fetchers.decompression import decompressed
from llm_engineering.infrastructure.fetchers.errors import FetchError, FetchTimeout, printable_line
from llm_engineering.infrastructure.fetchers.politeness import HostRateLimiter
from llm_engineering.infrastructure.fetchers.robots import (
    FAILURE_LIFETIME,
    LONGEST_DELAY,
    MAX_BYTES,
    RULES_LIFETIME,
    Robots,
    for_agent,
)
from llm_engineering.infrastructure.fetchers.ssrf_guard import (
    SPECIAL_RANGES,
    SsrfGuard,
    checked_url,
    is_public,
    redirected_url,
    special_ranges,
)

# --- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
        "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "168.63.129.16",
        "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "192.31.196.1", "192.52.193.1", "192.175.48.1", "198.19.255.255", "192.0.0.9", "192.0.0.171",
        "3fff::1", "3fff:fff:ffff::1", "3ffe::1", "5f00::1", "2001:1ff::1", "2001:2::1", "2001:20::1", "2001:30::1",
        "2002:101:101::1", "2620:4f:8000::1", "100:0:0:1::1", "::ffff:0:101:101", "::101:101", "4000::1", "200::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b:1:ffff::1", "64:ff9b::a9fe:a9fe", "::ffff:a9fe:a9fe",
        "fe80::1%25eth0", "::1%lo", "ff0e::1", "no address", "1.2.3", "",
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


def test_the_special_ranges_are_those_of_the_registries_of_a_day():
    """Of 2025-10-09, by their names there; a newer registry is a change of the file alone."""
    text = SPECIAL_RANGES.read_text()
    assert "updated on 2025-10-09" in text
    assert "https://www.iana.org/assignments/iana-ipv6-special-registry" in text
    for ranges in special_ranges().values():
        ends = [(int(one.network_address), int(one.broadcast_address)) for one in ranges]
        assert ends == sorted(ends), "in order, so that a missing one is seen"
        assert all(end < following for (_, end), (following, _) in pairwise(ends)), "and none within another"


SPELLINGS = [
    f"{scheme}{host}{end}"
    for scheme, end in (("http://", "/"), ("HTTPS://", ":8080/x?y#z"))
    for host in (
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0177.0.0.1", "0",
        "0x7F.0x0.0x0.0x1", "127.0.0.1.", "0.0.0.0", "00000177.0.0.01", "169.254.169.254", "2852039166", "0xa9fea9fe",
        "0251.0376.0251.0376", "169.16689662", "10.0.0.1", "0xa.1", "012.1", "192.168.1", "172.16.1", "100.64.0.1",
        "localhost", "LOCALHOST", "localhost.", "①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127。0。0。1",
        "127\uff0e0\uff0e0\uff0e1",
        "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::a00:1]",
        "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "[2001::1]", "[fe80::1]", "[fe80::1%25lo]",
        "[fe80::1%lo]", "[::1%lo]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[3fff::1]", "[5f00::1]",
        "[100::1]", "[2001:db8::1]", "[::127.0.0.1]",
    )
]  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_no_spelling_of_an_address_inside_passes_the_guard(url):
    with pytest.raises(FetchError) as caught:
        SsrfGuard().check(url)
    assert caught.value.reason in (Reason.BLOCKED_ADDRESS, Reason.DNS, Reason.BAD_LINK)


def test_there_are_many_spellings():
    assert len(SPELLINGS) >= 110


def test_a_name_server_that_answers_nonsense_is_not_believed():
    for answer in (["no address"], [""], ["1.1.1.1", "::zz"]):
        with pytest.raises(FetchError) as caught:
            SsrfGuard(resolve=lambda host, port, answer=answer: answer).addresses("a.example", 80)
        assert caught.value.reason == Reason.BLOCKED_ADDRESS


@pytest.mark.parametrize("location", ["http://[", "//[", "http://[::1", "http://[v1.x]:a/"])
def test_a_redirect_to_what_cannot_be_taken_apart_is_a_bad_link(location):
    with pytest.raises(FetchError) as caught:
        checked_url(redirected_url("http://a.example/", location))
    assert (caught.value.reason, caught.value.retry) == (Reason.BAD_LINK, False)


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
        ("1000000000", LONGEST_RETRY_AFTER),
        ("9" * 99, LONGEST_RETRY_AFTER),
        ("9" * 5000, None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 +9999999999", None),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
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


AGENT = "llm-twin/0.1 (+https://github.com/llm-twin/llm-twin)"


def rules(count: int) -> str:
    return "".join(f"Disallow: /{number}*x\n" for number in range(count))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"User-agent: a{number}\n" for number in range(20_000)) + rules(10_000),
        "".join(f"User agent a*{number}\nSitemap: y\n" for number in range(10_000)) + rules(10_000),
        "".join(f"User-agent: {AGENT[:number].lower()}\nHost: y\n" for number in range(8, 50)) * 100 + rules(10_000),
        "User-agent: *\nDisallow: /" + "*a" * 240_000,
        ":" * 500_000,
        "\n" * 500_000,
    ],
    ids=["agents", "agents-with-stars", "agents-like-us", "stars", "colons", "lines"],
)
def test_a_hostile_robots_txt_means_no_more_rules_than_it_has_lines(text):
    from protego import Protego

    kept = for_agent(text[:MAX_BYTES], AGENT)
    parsed = Protego.parse(kept)
    assert sum(len(one._rules) for one in parsed._user_agents.values()) <= 25 * (text.count("\n") + 1)
    assert Robots(user_agent=AGENT, read=lambda url: text).delay("https://a.example/page") == 0.0


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: other\nUser-agent: llm-twin\nDisallow: /", False),
        ("User-agent: other\nDisallow: /", True),
        ("User-agent: other\nDisallow: /\n\nUser-agent: LLM-Twin\nDisallow: /private", True),
        ("User-agent: llm-twin\nAllow: /\nUser-agent: *\nDisallow: /", True),
        ("User-agent: other\nDisallow: /\nUser-agent: else\nUser-agent: *\nDisallow: /", False),
        ("useragent llm*\nDisallow: /", False),
        ("User-agent: # nobody\nDisallow: /", True),
        ("User-agent: other\nSitemap: /x\nUser-agent: llm-twin\nDisallow: /", False),
    ],
)
def test_what_a_robots_txt_says_to_us_is_kept(text, allowed):
    from protego import Protego

    assert Protego.parse(text).can_fetch("https://a.example/page", AGENT) == allowed, "the parser's own opinion"
    assert Protego.parse(for_agent(text, AGENT)).can_fetch("https://a.example/page", AGENT) == allowed


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
