"""Who is to be erased, gathered before anything is: what was derived from their writing is recognised by it."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from llm_engineering.bootstrap import Platform
from llm_engineering.domain.documents import Document
from llm_engineering.domain.errors import LLMTwinError, StoreCorrupt, StoreUnavailable
from llm_engineering.domain.personal_data import DataSubject, word_runs
from llm_engineering.infrastructure.files import reason_of, write_whole


def identify(platform: Platform, name: str) -> DataSubject:
    """What the stores know of them, and what an erasure that was cut short knew. A store that is down is passed
    over: it says so itself when it is asked to erase."""
    subject = pending(platform, DataSubject(name=name))
    gather: tuple[Callable[[Platform, DataSubject], DataSubject], ...] = (_documents, _links, _quoted, _traces)
    for more in gather:
        with suppress(LLMTwinError):
            subject = more(platform, subject)
    return subject


def _documents(platform: Platform, subject: DataSubject) -> DataSubject:
    links = {link for one in _readable(platform, subject) for link in (one.link, one.url, one.crawled_from)}
    return subject.knowing(document_ids=platform.warehouse.ids(author_id=subject.author_id), links=links)


def _readable(platform: Platform, subject: DataSubject) -> Iterator[Document]:
    """One that is damaged on the disk is erased like the others; it only cannot say what its links were."""
    for document_id in platform.warehouse.ids(author_id=subject.author_id):
        with suppress(StoreCorrupt):
            if document := platform.warehouse.get(document_id):
                yield document


def _links(platform: Platform, subject: DataSubject) -> DataSubject:
    entries = platform.ledger.entries(author_id=subject.author_id)
    return subject.knowing(links=[link for entry in entries for link in (entry.link, entry.url)])


def _quoted(platform: Platform, subject: DataSubject) -> DataSubject:
    """Answers that readers judged and that quote a document: their traces may have been turned off."""
    said: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for feedback in platform.feedback.all():
        for run in word_runs(feedback.answer):
            said[run].add(feedback.trace_id)
    documents = _readable(platform, subject) if said else ()
    runs = (run for document in documents for run in word_runs(document.body))
    return subject.knowing(trace_ids=[trace_id for run in runs for trace_id in said.get(run, ())])


def _traces(platform: Platform, subject: DataSubject) -> DataSubject:
    return subject.knowing(trace_ids=platform.tracer.ids_about(subject))


# --- an erasure that was begun -----------------------------------------------------------------------------


def pending(platform: Platform, subject: DataSubject) -> DataSubject:
    """As it was when their erasure was begun; `subject` when none was. Raises StoreCorrupt."""
    file = _file(platform, subject)
    try:
        return DataSubject.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return subject
    except ValueError as error:
        raise StoreCorrupt(f"{file} is damaged: remove it and run the same command again") from error


def is_pending(platform: Platform, subject: DataSubject) -> bool:
    return _file(platform, subject).exists()


def begin(platform: Platform, subject: DataSubject) -> None:
    """Keep what is known of them until all is erased, for the stores that know it now are emptied on the way."""
    try:
        write_whole(_file(platform, subject), subject.model_dump_json())
    except OSError as error:
        raise StoreUnavailable(
            f"nothing was erased: {platform.settings.home} cannot be written ({reason_of(error)})"
        ) from error


def finish(platform: Platform, subject: DataSubject) -> None:
    file = _file(platform, subject)
    for one in (file, *file.parent.glob(f".{file.name}.*.part")):
        one.unlink(missing_ok=True)
    with suppress(OSError):  # another author's is pending
        file.parent.rmdir()


def _file(platform: Platform, subject: DataSubject) -> Path:
    return platform.settings.home / "erasing" / f"{subject.author_id}.json"
