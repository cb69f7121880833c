"""One canonical link per thing, and no look-alike gets another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link, host_of, is_host


@pytest.mark.parametrize(
    "spelling",
    [
        "https://example.com/post",
        "http://example.com/post",
        "HTTP://WWW.Example.COM:80/post",
        "https://example.com:443/post/",
        "https://www.www.example.com./post",
        "https://example.com/post#comments",
        "https://example.com/post?utm_source=x&UTM_Medium=y&fbclid=1&gclid=2&mc_cid=3&igshid=4&ref_src=5",
        "https://example.com/./a/../post",
        "https://example.com/%2e%2e/p%6Fst",
        "  https://example.com/post\n",
        "https://example.com/post?",
    ],
)
def test_spellings_of_one_page_are_one_link(spelling):
    assert canonical_link(spelling) == "https://example.com/post"


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://example.com", "https://example.com/"),
        ("https://example.com/?b=2&a=1&a=0", "https://example.com/?a=0&a=1&b=2"),
        ("https://example.com/s?q=a+b", "https://example.com/s?q=a%20b"),
        ("http://localhost:8123/a", "http://localhost:8123/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("https://bücher.example/é", "https://xn--bcher-kva.example/%C3%A9"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://example.com/a%2fb", "https://example.com/a%2Fb"),
        ("https://[2001:DB8:0:0:0:0:0:1]/x", "https://[2001:db8::1]/x"),
        ("https://m.example.com/a", "https://m.example.com/a"),
        ("https://www.com/a", "https://www.com/a"),
        ("https://example.com/../../a", "https://example.com/a"),
        ("file:///a/b/../c%20d/", "file:///a/c%20d"),
        ("file://localhost/a#x", "file:///a"),
        ("file:///", "file:///"),
        ("git+file:///r/x.git", "git+file:///r/x.git"),
        ("git+http://example.com/r", "git+https://example.com/r"),
        ("LANGCHAIN:TextLoader#1a", "langchain:TextLoader#1a"),
    ],
)
def test_what_is_folded_and_what_is_kept(url, link):
    assert canonical_link(url) == link


@pytest.mark.parametrize(
    "url",
    [
        "", "   ", "example.com/post", "./notes", "/notes", "ftp://example.com/", "javascript:alert(1)", "mailto:a@b.c",
        "https://", "https:///path", "https://user:secret@example.com/", "https://user@example.com/",
        "https://example.com\\@evil.example/", "https://example.com/a b", "https://exa\tmple.com/", "https://a\x00b.c/",
        "https://example.com:99999/", "https://example.com:port/", "https://[::1/", "https://[nonsense]/",
        "https://-bad.example/", "https://a..b/", f"https://{'a' * 64}.example/", "https://ex%61mple.com/",
        "https://\u2100.example/", "https://xn--.\u0301/", "file://server/share", "file:///a?b=c", "https://e.c/\ud800",
        f"https://{'a.' * 130}example/", "langchain", "https:example.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_reason(url):
    with pytest.raises(SourceError) as caught:
        canonical_link(url)
    assert caught.value.reason == Reason.BAD_LINK
    assert not caught.value.retry
    assert caught.value.detail
    str(caught.value).encode()  # can be printed and stored


def test_a_password_in_a_link_is_not_part_of_the_advice():
    with pytest.raises(SourceError) as caught:
        canonical_link("https://ann:hunter2@example.com/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("look_alike", ["https://medium.com.evil.example/p", "https://notmedium.com/p",
                                        "https://evil.example/medium.com", "https://xmedium.com/"])  # fmt: skip
def test_a_look_alike_is_not_the_host(look_alike):
    assert not is_host(canonical_link(look_alike), "medium.com")


def test_a_host_is_itself_and_its_subdomains():
    assert is_host("https://medium.com/p", "medium.com")
    assert is_host("https://ann.medium.com/p", "substack.com", "medium.com")
    assert host_of("http://127.0.0.1:8000/a") == "127.0.0.1"
    assert host_of("file:///a") == ""


@given(st.text())
def test_any_text_is_a_link_or_refused(text):
    try:
        link = canonical_link(text)
    except SourceError:
        return
    assert canonical_link(link) == link


_PART = st.text(alphabet=st.sampled_from("aZ09.-_~/%2eEfF&=?+;:@é🙂#!*'()"), max_size=24)


@given(st.sampled_from(["http", "https", "file", "git+https"]), _PART, _PART, st.sampled_from(["", ":80", ":8080"]))
def test_a_canonical_link_is_its_own(scheme, path, query, port):
    host = "" if scheme == "file" else f"WWW.Example.com{port}"
    try:
        link = canonical_link(f"{scheme}://{host}/{path}?{query}".rstrip("?"))
    except SourceError:
        return
    assert canonical_link(link) == link
    assert link.isascii()
