"""LinkedIn: its data export in all its spellings, single posts through the browser, and walls that are never stored."""

import csv
import zipfile
from datetime import UTC, datetime

import pytest
from fetch_context import NOTHING, fetch_context

from llm_engineering.bootstrap import build_warehouse
from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import Fetched
from llm_engineering.features.config import AuthorConfig, LinkSpec
from llm_engineering.features.crawl.run import crawl_author
from llm_engineering.features.reading.linkedin_export import unquoted
from llm_engineering.features.sources import Page, Skipped, Target
from llm_engineering.features.sources.linkedin import SOURCE, link_of

SHARES = (
    "Date,ShareLink,ShareCommentary,SharedUrl,MediaUrl,Visibility\r\n"
    "2024-03-02 10:11:12,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A71,"
    '"First line, with ""quotes""""\n""""\n""It\'s the third line",https://example.com/x,,MEMBER_NETWORK\r\n'
    "2024-03-01 09:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A70,,https://example.com/y,,MEMBER_NETWORK\r\n"
)
ARTICLE = (
    "<html><head><title>t</title></head><body>"
    "<h1><a href='https://www.linkedin.com/pulse/on-naming-ann'>On naming</a></h1>"
    "<p class='created'>Created on 2019-12-31 08:00</p><p class='published'>Published on 2020-01-02 10:30</p>"
    "<div><p>Names matter.</p></div></body></html>"
)


@pytest.fixture
def export(tmp_path):
    """Writes an export: as a zip, or as the folder it unpacks to."""

    def write(files, *, folder=False):
        root = tmp_path / ("Basic_LinkedInDataExport" if folder else "export.zip")
        if folder:
            for name, content in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        else:
            with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        return root

    return write


def read(address, context=NOTHING):
    link = link_of(str(address), {})
    return list(SOURCE.crawl(Target(link, str(address)), context))


@pytest.mark.parametrize("folder", [False, True])
def test_the_export_gives_posts_and_articles(export, folder):
    path = export(
        {"Shares.csv": SHARES, "Articles/Articles/On naming.html": ARTICLE, "Profile.csv": "x"}, folder=folder
    )
    post, passed_over, article = read(path)
    assert post.body == 'First line, with "quotes"\n\nIt\'s the third line'
    assert (post.kind, post.media_type) == (Kind.POST, "text/plain")
    assert post.published_at == datetime(2024, 3, 2, 10, 11, 12, tzinfo=UTC)
    assert post.title == "LinkedIn post of 2024-03-02"
    assert post.meta == {"sharedurl": "https://example.com/x", "visibility": "MEMBER_NETWORK"}
    assert SOURCE.canonical(canonical_link(post.link)) == "https://linkedin.com/feed/update/urn:li:share:71"
    assert passed_over == Skipped("shared without a word")
    assert (article.title, article.kind, article.body) == ("On naming", Kind.ARTICLE, ARTICLE)
    assert article.link == "https://www.linkedin.com/pulse/on-naming-ann"
    assert article.published_at == datetime(2020, 1, 2, 10, 30, tzinfo=UTC)


def test_headers_are_known_in_any_spelling_and_below_notes(export):
    rows = 'Notes:\r\n"About this file, in words"\r\n\r\nshare commentary,DATE,Share Link\r\nHi,2024-01-02,https://linkedin.com/posts/a\r\n'
    [post] = read(export({"data/shares.CSV": b"\xef\xbb\xbf" + rows.encode()}))
    assert (post.body, post.published_at.day) == ("Hi", 2)


def test_a_small_export_takes_nothing_from_others_who_read_csv(export):
    before = csv.field_size_limit()
    read(export({"Shares.csv": SHARES}))
    assert csv.field_size_limit() >= before


def test_an_export_in_utf_16_is_read(export):
    [post, _] = read(export({"Shares.csv": SHARES.encode("utf-16")}))
    assert post.body.startswith("First line")


def test_articles_may_be_a_table(export):
    table = "Title,URL,Content,Published Date\r\nOn naming,https://www.linkedin.com/pulse/x,<p>Names</p>,2020-01-02 10:30\r\nNone,https://www.linkedin.com/pulse/y,,\r\n"
    article, empty = read(export({"Articles.csv": table}))
    assert (article.title, article.media_type, article.published_at.year) == ("On naming", "text/html", 2020)
    assert empty == Skipped("article without text")


def test_an_article_without_its_own_link_gets_one_from_its_name(export):
    [article] = read(export({"Articles/my-words.html": "<h1>My words</h1><p>x</p>"}))
    assert (article.link, article.title) == ("https://www.linkedin.com/pulse/my-words", "My words")
    assert article.published_at is None


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("one line", "one line"),
        ('he said "no"\nand left', 'he said "no"\nand left'),
        ('a"\n""\n"b', "a\n\nb"),
        ('a"\r\n"b', "a\nb"),
    ],
)
def test_quotes_around_lines_go_and_others_stay(text, plain):
    assert unquoted(text) == plain


def test_an_export_is_imported_once_and_a_deleted_post_goes(export, tmp_path):
    warehouse, ledger = build_warehouse(f"sqlite:///{tmp_path}/w.db")

    def crawl(shares):
        author = AuthorConfig(name="Ann", links=[{"linkedin": str(export({"Shares.csv": shares}))}])
        return crawl_author(
            author, context=NOTHING, warehouse=warehouse, ledger=ledger, concurrency=1, min_success_rate=0.5
        )

    two = SHARES + "2024-04-01 00:00:00,https://www.linkedin.com/posts/ann_x,Later,,,\r\n"
    assert crawl(two).documents_inserted == 2
    again = crawl(two)
    assert (again.unchanged, again.documents_unchanged) == (1, 2)
    assert crawl(SHARES).documents_deleted == 1
    assert {document.kind for document in warehouse.documents()} == {Kind.POST}
    warehouse.close()


# --- single posts -------------------------------------------------------------------------------------------

POST = (
    '<html><head><title>Ann on naming</title></head><body><main><p class="attributed-text-segment-list__content">'
    + "Names matter more than we think. " * 30
    + '</p></main><form><input name="session_key"><input type="password"></form></body></html>'
)
WALL = '<title>LinkedIn Login, Sign in | LinkedIn</title><form class="login__form"><input type="password"></form>'


class Browser:
    """Shows a wall until somebody logs in (or for ever), as LinkedIn does."""

    def __init__(self, *, password="right", walls=("/login",), post=POST):
        self.password, self.walls, self.post, self.logins, self.inside = password, walls, post, 0, False

    def get(self, url):
        text = self.post if self.inside else WALL
        return Fetched(
            url if self.inside else "https://www.linkedin.com/authwall?x", 200, "text/html", text, text.encode()
        )

    def login(self, url, fields, submit):
        self.logins += 1
        self.inside = list(fields.values()) == ["ann", self.password]

    def close(self):
        pass


def context_with(browser, credentials=("ann", "right")):
    return fetch_context(browser=lambda: browser, credentials=lambda service: credentials)


def test_a_post_is_read_after_logging_in_once():
    browser = Browser()
    context = context_with(browser)
    [page] = read("https://www.linkedin.com/posts/ann_naming-activity-1", context)
    [article] = read("https://www.linkedin.com/pulse/naming-ann", context)
    assert (page.body, page.kind, page.title) == (POST, Kind.POST, "Ann on naming")
    assert article.kind == Kind.ARTICLE
    assert browser.logins == 1


def test_without_credentials_it_says_what_to_set_and_starts_no_browser():
    with pytest.raises(SourceError) as caught:
        read("https://www.linkedin.com/posts/x")
    assert caught.value.reason == Reason.MISSING_CREDENTIALS
    for word in ("TWIN_LINKEDIN_USERNAME", "TWIN_LINKEDIN_PASSWORD", "- linkedin: export.zip"):
        assert word in caught.value.detail


def test_a_wall_is_never_stored():
    with pytest.raises(SourceError) as caught:
        read("https://www.linkedin.com/posts/x", context_with(Browser(password="another")))
    assert caught.value.reason == Reason.LOGIN
    assert not caught.value.retry


def test_an_empty_page_behind_the_login_is_not_stored():
    with pytest.raises(SourceError):
        read("https://www.linkedin.com/posts/x", context_with(Browser(post="<html><body></body></html>")))


def test_a_refused_login_is_tried_once_for_all_links(tmp_path):
    class Refusing(Browser):
        def login(self, url, fields, submit):
            self.logins += 1
            raise SourceError(url, Reason.LOGIN, "wrong password", retry=False)

    browser = Refusing()
    warehouse, ledger = build_warehouse(f"sqlite:///{tmp_path}/w.db")
    links = tuple(LinkSpec(address=f"https://www.linkedin.com/posts/{number}") for number in range(9))
    author, context = AuthorConfig(name="Ann", links=links), context_with(browser)
    report = crawl_author(
        author, context=context, warehouse=warehouse, ledger=ledger, concurrency=3, min_success_rate=0
    )
    assert (report.failed, browser.logins) == (9, 1)
    assert {failure.detail for failure in report.failures} == {"wrong password"}
    assert list(warehouse.documents()) == []
    warehouse.close()


# --- which addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["https://www.linkedin.com/posts/ann_x", "https://de.linkedin.com/posts/ann_x?trk=public_post",
     "http://linkedin.com/posts/ann_x/?rcm=1&utm_source=share"],
)  # fmt: skip
def test_countries_and_tracking_fold_into_one_link(spelling):
    assert SOURCE.canonical(canonical_link(spelling)) == "https://linkedin.com/posts/ann_x" == link_of(spelling, {})


@pytest.mark.parametrize(
    ("link", "mine"),
    [("https://linkedin.com/posts/x", True), ("https://de.linkedin.com/pulse/x", True),
     ("https://engineering.linkedin.com/blog/x", False), ("https://linkedin.com.evil.example/posts/x", False)],
)  # fmt: skip
def test_only_linkedin_s_own_posts_are_its_own(link, mine):
    assert SOURCE.owns(link) is mine


def test_a_profile_is_no_post():
    with pytest.raises(SourceError, match="only /posts/"):
        read("https://www.linkedin.com/in/ann", context_with(Browser()))


def test_a_missing_export_says_which_file_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match=r"no\.zip") as caught:
        read(tmp_path / "no.zip")
    assert caught.value.reason == Reason.MISSING_FILE


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "Date,ShareLink,ShareCommentary\r\n2024-01-01,https://linkedin.com/posts/a,x,y,z\r\n",
            "line 2: 5 fields where 3",
        ),
        (
            "Date,ShareLink,ShareCommentary\r\nyesterday,https://linkedin.com/posts/a,x\r\n",
            "line 2: 'yesterday' is no date",
        ),
        ("Date,ShareLink,ShareCommentary\r\n2024-01-01,nowhere,x\r\n", "line 2: 'nowhere' is no link"),
        ('Date,ShareLink,ShareCommentary\r\n2024-01-01,https://linkedin.com/posts/a,"x"y\r\n', "line 2: "),
        ('Date,ShareLink,ShareCommentary\r\n2024-01-01,https://linkedin.com/posts/a,"x', "line 2: "),
        ("Name,Value\r\na,b\r\n", "no header with date and sharelink"),
        ("", "no header"),
        (b"Date,ShareLink\r\n\xff\xfa", "not UTF-8 at byte 16"),
    ],
)
def test_a_malformed_export_is_refused_with_its_row(export, rows, words):
    with pytest.raises(SourceError) as caught:
        read(export({"Shares.csv": rows}))
    assert caught.value.reason == Reason.BAD_ARCHIVE
    assert "Shares.csv" in caught.value.detail
    assert words in caught.value.detail


def test_one_bad_row_or_article_of_an_export_does_not_end_the_others(export):
    rows = "".join(
        f"{date},{link},{words}\r\n"
        for date, link, words in (
            ("2024-01-01", "https://linkedin.com/posts/a", "one"),
            ("99999999999", "https://linkedin.com/posts/b", "no date"),
            ("2024-01-03", "http://[", "no link"),
            ("2024-01-04", "https://linkedin.com/posts/c", "too,many"),
            ("2024-01-05", "https://linkedin.com/posts/d", "two"),
        )
    )
    table = "Title,URL,Content\r\nOn naming,https://www.linkedin.com/pulse/x,Names\r\n,nowhere,Words\r\n"
    path = export(
        {
            "Shares.csv": f"Date,ShareLink,ShareCommentary\r\n{rows}",
            "Articles.csv": table,
            "Articles/a b.html": "<h1>Words</h1>",
            "Articles/bad.html": b"\xff\xfa",
        }
    )
    found = []
    with pytest.raises(SourceError) as caught:
        found.extend(SOURCE.crawl(Target(link_of(str(path), {}), str(path)), NOTHING))
    pages = [page for page in found if isinstance(page, Page)]
    assert [page.body for page in pages] == ["one", "two", "Names", "<h1>Words</h1>"]
    assert pages[-1].link == "https://www.linkedin.com/pulse/a%20b"
    assert "Shares.csv, line 3: '99999999999' is no date (and 4 more that cannot be read)" in caught.value.detail
