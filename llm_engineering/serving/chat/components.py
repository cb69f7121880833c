"""What the page consists of. Gradio is imported when it is built."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

EXAMPLES = 4


def create_components(conversation: "gr.State") -> dict[str, Any]:
    """In the order in which they stand on the page, by name; inside gradio.Blocks."""
    import gradio as gr

    parts: dict[str, Any] = {"conversation": conversation}
    with gr.Row(elem_id="top"):
        gr.HTML(
            '<h1>LLM Twin</h1><p class="lead">Answers from an author\'s own writing, with their sources.</p>',
            apply_default_css=False,
        )
        parts["theme"] = gr.Button("Dark / light", size="sm", elem_id="theme", scale=0, min_width=110)
    parts["past"] = gr.HTML("", elem_id="past", apply_default_css=False)
    parts["now"] = gr.HTML("", elem_id="now", apply_default_css=False)
    parts["welcome"] = gr.HTML("", elem_id="welcome", apply_default_css=False)
    with gr.Row(elem_id="examples", visible=False) as parts["examples"]:
        for number in range(EXAMPLES):
            parts[f"example{number}"] = gr.Button("", size="sm", visible=False, elem_classes="example")
    with gr.Row(elem_id="rating", visible=False) as parts["rating"]:
        parts["up"] = gr.Button("Helpful", size="sm", elem_id="up", scale=0, min_width=120)
        parts["down"] = gr.Button("Not helpful", size="sm", elem_id="down", scale=0, min_width=120)
    with gr.Row(elem_id="commenting", visible=False) as parts["commenting"]:
        parts["comment"] = gr.Textbox(
            placeholder="What was good, or what should it have said?",
            label="Comment (optional)",
            max_length=10_000,
            submit_btn="Send",
            elem_id="comment",
        )
    parts["thanks"] = gr.HTML("", elem_id="thanks", apply_default_css=False)
    with gr.Column(elem_id="ask"):
        parts["question"] = gr.Textbox(
            placeholder="Ask something …",
            label="Your question",
            show_label=False,
            lines=1,
            max_lines=8,
            submit_btn="Ask",
            stop_btn=False,
            autofocus=True,
            elem_id="question",
        )
        _create_filters(parts)
    return parts


def _create_filters(parts: dict[str, Any]) -> None:
    import gradio as gr

    with gr.Accordion("Filters", open=False, elem_id="filters"):
        with gr.Row():
            parts["authors"] = gr.Dropdown([], multiselect=True, label="Author", elem_id="authors", min_width=130)
            parts["kinds"] = gr.Dropdown([], multiselect=True, label="Kind", elem_id="kinds", min_width=130)
            parts["sources"] = gr.Dropdown([], multiselect=True, label="Source", elem_id="sources", min_width=130)
        with gr.Row():
            parts["since"] = gr.Textbox(
                label="Published from", placeholder="2024-01-31", elem_id="since", min_width=130
            )
            parts["until"] = gr.Textbox(label="to", placeholder="2026-12-31", elem_id="until", min_width=130)
