"""Figures as bytes: a still for a control, photographs small, a sequence as a GIF."""

import io
from collections.abc import Iterable

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Pillow


def animation(frames: Iterable[Figure], *, fps: float = 6, width: int = 700) -> Image:
    """Turn figures into a looping GIF that any page plays; the last is held for 2 s.

    frames: figures of one size; each is closed once drawn, so that a generator
    keeps one open at a time. fps: frames a second, above 0 and at most 50. width:
    pixels. Raises ValueError for another fps, no frame, or frames of two sizes.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps must be above 0 and at most 50, got {fps}")
    pictures = [_picture(figure, width) for figure in frames]
    if len({picture.size for picture in pictures}) != 1:
        raise ValueError("animation needs at least one frame, and all of one size")
    # One palette of few colours for all frames keeps the file small and stops flicker.
    few = pictures[:: -(-len(pictures) // 12)]
    sheet = Pillow.fromarray(np.concatenate([np.asarray(picture) for picture in few]))
    palette = sheet.quantize(64, method=Pillow.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) > 243] = 255  # the background stays pure white
    palette.putpalette(colours.ravel().tolist())
    plain = {"palette": palette, "dither": Pillow.Dither.NONE}
    drawn = [np.asarray(p.quantize(**plain).convert("RGB")) for p in pictures]
    file = io.BytesIO()
    times = [round(1000 / fps)] * (len(drawn) - 1) + [2000]  # milliseconds
    imageio.imwrite(file, drawn, extension=".gif", duration=times, loop=0)
    return Image(data=file.getvalue(), format="gif")


def still(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG, for `ipywidgets.Image`, and close it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    plt.close(figure)
    return file.getvalue()


def photograph(figure: Figure) -> Image:
    """Turn a figure full of photographs into a JPEG, a fifth of the size of a PNG.

    The figure is closed. JPEG blurs text and lines: let Jupyter show such a figure.
    """
    file = io.BytesIO()
    options = {"quality": 88, "optimize": True}
    figure.savefig(file, format="jpeg", bbox_inches="tight", pil_kwargs=options)
    plt.close(figure)
    return Image(data=file.getvalue(), format="jpeg")


def _picture(figure: Figure, width: int) -> Pillow.Image:
    """Draw a figure `width` pixels wide, close it and return its RGB picture."""
    figure.set_dpi(width / figure.get_figwidth())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)
    return picture
