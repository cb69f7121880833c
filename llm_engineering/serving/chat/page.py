"""The page itself. Gradio is imported when it is built; nothing it shows is fetched from anywhere else."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from loguru import logger

from llm_engineering.domain.answers import Answer, Feedback, Message
from llm_engineering.domain.chunks import Facets
from llm_engineering.domain.errors import LLMTwinError
from llm_engineering.domain.text import storable
from llm_engineering.serving.api import sse
from llm_engineering.serving.api.calls import Calls, key_id
from llm_engineering.serving.api.errors import ApiError, api_error_of
from llm_engineering.serving.chat.components import EXAMPLES, create_components
from llm_engineering.serving.chat.conversation import answer_turn, extended_history
from llm_engineering.serving.chat.filters import example_question, filter_choices, where_of
from llm_engineering.serving.chat.render import error_html
from llm_engineering.serving.chat.welcome import empty_html, greeting_html, not_ready_html

MAX_EVENTS = 200  # that Gradio takes care of at once; how many are worked on, the API's limits say
MAX_QUEUE = 200  # further ones that Gradio lets wait
HEARTBEAT_EVERY = 1.0  # seconds after which Gradio notices that a reader has left, also while nothing is written
MAX_TURNS = 30  # of a conversation that stay on the page
MAX_SESSIONS = 500  # conversations held; the one unused for longest goes first
SESSION_SECONDS = 6 * 3600  # after which an unused conversation goes


@dataclass(frozen=True)
class Conversation:
    """One reader's. `past` are the turns before as HTML; `now` is the one being answered."""

    history: tuple[Message, ...] = ()
    past: tuple[str, ...] = ()
    now: str = ""
    question: str = ""
    answer: Answer | None = None
    thumbs_up: bool | None = None
    turns: int = 0

    def with_question(self, question: str) -> "Conversation":
        past = (*self.past, self.now) if self.now else self.past
        return Conversation(history=self.history, past=past[-MAX_TURNS:], question=question, turns=self.turns + 1)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the events of the page do. Each returns or yields updates by component. They run on the event loop, and all
    that blocks goes through `calls`. `owner` is the id of the reader's key."""

    calls: Calls
    facets: Callable[[], Facets]
    titles: Callable[[int], Sequence[str]]
    components: dict[str, Any] = field(default_factory=dict)  # of Gradio, by name

    def build(self) -> Any:
        """The gradio.Blocks."""
        import gradio as gr

        with gr.Blocks(title="LLM Twin", analytics_enabled=False, fill_width=False) as blocks:
            self.components.update(create_components(gr.State(Conversation(), time_to_live=SESSION_SECONDS)))
            self._wire(gr, blocks)
        blocks.state_session_capacity = MAX_SESSIONS
        blocks.max_threads = MAX_EVENTS
        blocks.queue(max_size=MAX_QUEUE, default_concurrency_limit=None, api_open=False)
        return blocks

    def _wire(self, gr: Any, blocks: Any) -> None:
        parts = self.components
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        everything = list(parts.values())
        rest = [parts[name] for name in ("conversation", "authors", "kinds", "sources", "since", "until")]

        # Gradio gives the request to a parameter with this annotation
        async def ask(request: gr.Request, *given: Any) -> AsyncGenerator[dict[Any, Any], None]:
            async with aclosing(self.ask(key_id(request), *given)) as updates:
                async for update in updates:
                    yield update

        async def up(request: gr.Request, conversation: Conversation) -> dict[Any, Any]:
            return await self.rate(key_id(request), conversation, True)

        async def down(request: gr.Request, conversation: Conversation) -> dict[Any, Any]:
            return await self.rate(key_id(request), conversation, False)

        async def comment(request: gr.Request, text: str, conversation: Conversation) -> dict[Any, Any]:
            return await self.comment(key_id(request), text, conversation)

        async def greet(request: gr.Request) -> dict[Any, Any]:
            return await self.greet(key_id(request))

        questions = [parts["question"].submit(ask, [parts["question"], *rest], everything, **quiet)]
        for number in range(EXAMPLES):
            button = parts[f"example{number}"]
            questions.append(button.click(ask, [button, *rest], everything, **quiet))
        stopped = parts["question"].stop(None, cancels=questions, api_visibility="private")
        stopped.then(self.stop, [parts["conversation"]], everything, **quiet)  # once nothing is written any more
        parts["up"].click(up, [parts["conversation"]], everything, **quiet)
        parts["down"].click(down, [parts["conversation"]], everything, **quiet)
        parts["comment"].submit(comment, [parts["comment"], parts["conversation"]], everything, **quiet)
        parts["theme"].click(None, js="() => window.twinToggleTheme()", api_visibility="private")
        blocks.load(greet, None, everything, **quiet)

    # --- events -------------------------------------------------------------------------------------------------

    async def greet(self, owner: str | None) -> dict[Any, Any]:
        """What there is to ask about; or what is missing, and what to run."""
        import gradio as gr

        parts = self.components
        readiness = await self.calls.readiness()
        if not readiness.ready:
            return {parts["welcome"]: not_ready_html(readiness)}
        try:
            facets, titles = await self.calls.run(owner, lambda: (self.facets(), self.titles(EXAMPLES)))
        except (LLMTwinError, ApiError) as error:
            return {parts["welcome"]: _error_text("look into the index", error)}
        if not facets.kinds:
            return {parts["welcome"]: empty_html()}
        authors, kinds, sources = filter_choices(facets)
        return {
            parts["welcome"]: greeting_html(facets),
            parts["authors"]: gr.update(choices=authors),
            parts["kinds"]: gr.update(choices=kinds),
            parts["sources"]: gr.update(choices=sources),
            parts["examples"]: gr.update(visible=bool(titles)),
            **{
                parts[f"example{number}"]: gr.update(value=example_question(title), visible=True)
                for number, title in enumerate(titles[:EXAMPLES])
            },
        }

    async def ask(
        self, owner: str | None, text: str, conversation: Conversation, *filters: Any
    ) -> AsyncGenerator[dict[Any, Any], None]:
        import gradio as gr

        text = storable(text)
        parts, current = self.components, conversation.with_question(text)
        if text.strip():
            yield {
                parts["question"]: gr.update(value="", submit_btn=False, stop_btn="Stop"),
                parts["past"]: "".join(current.past),
                parts["welcome"]: gr.update(visible=False),
                parts["examples"]: gr.update(visible=False),
                parts["rating"]: gr.update(visible=False),
                parts["commenting"]: gr.update(visible=False),
                parts["thanks"]: "",
            }
            turn = answer_turn(
                text,
                history=current.history,
                where=lambda: where_of(*filters),
                calls=self.calls,
                owner=owner,
                turn=str(current.turns),
            )
            async with aclosing(sse.with_heartbeat(turn, every=HEARTBEAT_EVERY)) as updates:
                async for update in updates:
                    if update is not None:
                        current = replace(current, now=update.html, answer=update.answer)
                    yield {parts["now"]: current.now, parts["conversation"]: current}
        if current.answer is not None:
            history = extended_history(current.history, text, current.answer)
            yield {
                parts["conversation"]: replace(current, history=history),
                parts["rating"]: gr.update(visible=bool(current.answer.trace_id)),
            }
        yield {parts["question"]: gr.update(submit_btn="Ask", stop_btn=False)}

    async def stop(self, conversation: Conversation) -> dict[Any, Any]:
        """The question was cancelled; what was written so far stays."""
        import gradio as gr

        now = conversation.now.replace("turn answered writing", "turn answered").replace('class="dots"', "")
        now += '<p class="stopped">Stopped.</p>'
        parts = self.components
        return {
            parts["question"]: gr.update(submit_btn="Ask", stop_btn=False),
            parts["now"]: now,
            parts["conversation"]: replace(conversation, now=now),
        }

    async def rate(self, owner: str | None, conversation: Conversation, thumbs_up: bool) -> dict[Any, Any]:
        import gradio as gr

        parts, rated = self.components, replace(conversation, thumbs_up=thumbs_up)
        thanks = await self._store(owner, rated, "")
        return {
            parts["conversation"]: rated,
            parts["thanks"]: thanks,
            parts["commenting"]: gr.update(visible=True),
            parts["comment"]: "",
            parts["up"]: gr.update(variant="primary" if thumbs_up else "secondary"),
            parts["down"]: gr.update(variant="secondary" if thumbs_up else "primary"),
        }

    async def comment(self, owner: str | None, text: str, conversation: Conversation) -> dict[Any, Any]:
        import gradio as gr

        parts = self.components
        thanks = await self._store(owner, conversation, text)
        return {parts["thanks"]: thanks, parts["commenting"]: gr.update(visible="failed" in thanks)}

    async def _store(self, owner: str | None, conversation: Conversation, comment: str) -> str:
        """Stored at the first click, and once more with the comment; who reads them takes the last of an answer."""
        answer = conversation.answer
        if answer is None or conversation.thumbs_up is None:
            return error_html("there is no answer to judge: ask first")
        feedback = Feedback(
            trace_id=answer.trace_id,
            thumbs_up=conversation.thumbs_up,
            comment=storable(comment)[:10_000],
            question=conversation.question[:100_000],
            answer=answer.text[:100_000],
        )
        try:
            await self.calls.run(owner, lambda: self.calls.service.feedback(feedback))
        except (LLMTwinError, ApiError) as error:
            return _error_text("store what a reader thinks", error)
        return '<p class="thanks" role="status">Thank you, that is stored.</p>'


def _error_text(what: str, error: LLMTwinError | ApiError) -> str:
    logger.warning("the chat page could not {}: {}", what, error)
    return error_html((error if isinstance(error, ApiError) else api_error_of(error)).message)
