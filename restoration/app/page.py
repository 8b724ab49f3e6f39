"""The page in the browser, made of Gradio's components, and the command that serves it."""

import functools
import html
import os
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from restoration.app.steps import PAINT, corruptions, damage, load, load_mask, painted, restore, with_paint
from restoration.errors import UserError
from restoration.picture import Picture, encode
from restoration.restorer import Restorer
from restoration.run.command import hydra_command
from restoration.run.hardware import usable_device

CSS = """
footer {display: none !important}
#samples .grid-wrap {height: auto !important; min-height: 0 !important}
"""


def page(restorer: Restorer, max_megapixels: float, gr: Any) -> Any:
    """The page, as Gradio's Blocks. `gr` is the module gradio."""

    def event(function: Callable[..., Any]) -> Callable[..., Any]:
        """A user's error becomes a message on the page, and the rest of the page stays as it is."""

        @functools.wraps(function)
        def run(*values: Any) -> Any:
            try:
                return function(*values)
            except UserError as error:
                gr.Warning(html.escape(str(error), quote=False), duration=None)
                return gr.skip()

        return run

    def given(picture: Picture | None) -> Picture:
        if picture is None:
            raise UserError("There is no picture yet. Choose one in step 1.")
        return picture

    @event
    def on_picture(path: str) -> Any:
        picture = load(path, max_megapixels)
        return picture, picture, None, with_paint(picture, None)

    @event
    def on_mask(path: str, picture: Picture | None) -> Any:
        hole = load_mask(path, given(picture), max_megapixels)
        return hole, with_paint(given(picture), hole)

    @event
    def on_damage(clean: Picture | None, corruption: str, strength: float, seed: float, mark: bool) -> Any:
        damaged, hole = damage(given(clean), corruption, strength, int(seed or 0))
        known = hole if mark and hole.any() else None
        return damaged, known, with_paint(damaged, known)

    @event
    def on_clear(picture: Picture | None) -> Any:
        return None, None if picture is None else with_paint(picture, None)

    @event
    def on_restore(
        value: Any, picture: Picture | None, known: Any, nfe: int, samples: int, seed: float, keep: bool
    ) -> Any:
        picture = given(picture)
        hole = painted(value["layers"] if value else [], picture, known)
        images, text = restore(restorer, picture, hole, int(nfe), int(samples), int(seed or 0), keep)
        pairs = [(encode(picture), image) for image in images]
        return pairs[0], text, pairs, gr.Gallery(images, visible=samples > 1)

    def on_select(pairs: Any, chosen: gr.SelectData) -> Any:
        return pairs[chosen.index]

    with gr.Blocks(title="Restore a picture", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        clean, current, known, pairs = gr.State(), gr.State(), gr.State(), gr.State()
        gr.Markdown("# Restore a picture\nPictures stay on this machine.")
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("### 1 · Choose a picture")
                file = gr.File(label=f"Up to {max_megapixels:g} megapixels", height=150, elem_id="picture")
                with gr.Accordion("Or damage a good picture", open=False, elem_id="damage"):
                    corruption = gr.Dropdown(corruptions(), value="photo", label="Damage")
                    strength = gr.Slider(0, 1, 0.5, step=0.05, label="Strength", info="0 gives the picture back")
                    mark = gr.Checkbox(False, label="Paint over the hole", info="otherwise the network looks for it")
                    damage_button = gr.Button("Damage the picture", size="sm")
                gr.Markdown("### 2 · Paint over what is missing\nIf nothing is painted, the network looks for holes.")
                editor = gr.ImageEditor(
                    **{"type": "pil", "format": "png", "sources": [], "transforms": [], "layers": False},
                    **{"show_label": False, "height": 400, "elem_id": "editor"},
                    brush=gr.Brush(colors=["#{:02x}{:02x}{:02x}".format(*PAINT)], color_mode="fixed"),
                )
                mask = gr.UploadButton("Or upload a mask: white is missing", size="sm", elem_id="mask")
            with gr.Column(min_width=320):
                gr.Markdown("### 3 · Restore")
                with gr.Row():
                    nfe = gr.Slider(1, 32, 1, step=1, label="Network evaluations", info="1: accurate, more: detailed")
                    samples = gr.Slider(1, 8, 1, step=1, label="Samples", info="several possible results")
                with gr.Row():
                    keep = gr.Checkbox(False, label="Change only the hole", info="the rest stays exactly as it is")
                    seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="another one, another result")
                button = gr.Button("Restore", variant="primary", elem_id="restore")
                slider = gr.ImageSlider(label="Before and after", format="png", elem_id="slider")
                text = gr.Markdown(elem_id="text")
                gallery = gr.Gallery(
                    **{"label": "Samples: click on one", "visible": False, "columns": 4, "elem_id": "samples"},
                    **{"format": "png", "allow_preview": False, "buttons": []},
                )
        hidden = {"api_visibility": "private"}
        file.upload(on_picture, file, [clean, current, known, editor], **hidden).then(
            lambda: None, None, file, **hidden
        )
        mask.upload(on_mask, [mask, current], [known, editor], **hidden)
        editor.clear(on_clear, current, [known, editor], **hidden)
        damage_button.click(on_damage, [clean, corruption, strength, seed, mark], [current, known, editor], **hidden)
        inputs = [editor, current, known, nfe, samples, seed, keep]
        button.click(on_restore, inputs, [slider, text, pairs, gallery], **hidden)
        gallery.select(on_select, pairs, slider, **hidden)
    return blocks.queue(max_size=8, default_concurrency_limit=1, api_open=False)


@hydra_command("app")
def main(config: DictConfig) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UserError("restoration[app] is needed: pip install 'restoration[app]'") from error
    restorer = Restorer.load(config.checkpoint, usable_device(str(config.device), mps=True), config.trust)
    blocks = page(restorer, config.max_megapixels, gradio)
    hints = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}  # else pale
    try:
        _, address, _ = blocks.launch(
            **{"server_name": "127.0.0.1", "server_port": config.port, "share": False, "ssr_mode": False},
            **{"max_file_size": int(config.max_megapixels * 10e6), "run_history": False, "quiet": True},
            **{"state_session_capacity": 20, "css": CSS, "theme": gradio.themes.Default().set(**hints)},
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(f"port={config.port} cannot be used here; give another") from error
    print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
    blocks.block_thread()
