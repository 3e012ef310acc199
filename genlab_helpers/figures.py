"""One look for all figures: colours, sizes, Matplotlib's settings, honest titles.

What is drawn lives beside it: `plots` (numbers), `grids` (images), `film` (GIF). They
take arrays or tensors and an axis; they never train and never call `show()`.
"""

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The colours of Okabe and Ito (2008), extended to ten and then moved until every
# two of them stay apart in all three kinds of colour blindness (a test measures it).
PALETTE = (
    "#1f5f9e",  # blue
    "#c75507",  # vermilion
    "#03925c",  # green
    "#bd7fac",  # mauve
    "#e7a000",  # amber
    "#4cb8f0",  # sky
    "#3b1a80",  # indigo
    "#730034",  # wine
    "#a8ab52",  # olive
    "#6f666c",  # grey
)
INK = "#222222"  # text and centres
QUIET = "#5f5f5f"  # axes, reference lines, what should stay in the background
WIDTH = 7.0  # inches
SMALL = 11.5  # points


def use_style() -> None:
    """Give all later figures the look of the course (sets Matplotlib's rcParams)."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 4.2),
            "figure.dpi": 120,
            "savefig.dpi": 120,
            # Opaque, so that a figure also reads on a dark page.
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.titlesize": 13,
            "font.size": 12.5,
            "axes.titlesize": 13,
            "axes.titlelocation": "left",
            "axes.labelsize": 12.5,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": 12,
            "legend.edgecolor": "white",
            "legend.handlelength": 1.2,
            "legend.handletextpad": 0.5,
            "legend.borderpad": 0.1,
            "lines.linewidth": 2.0,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "axes.edgecolor": QUIET,
            "axes.axisbelow": True,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.8,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def no_frame(ax: Axes) -> None:
    """Take the lines and tick marks around an axis away; tick labels stay."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def axis_width(ax: Axes) -> float:
    """Return the width of an axis in inches."""
    return ax.get_position().width * ax.figure.get_figwidth()


def caption_source(fig: Figure, image_set) -> Figure:
    """Name a stand-in in the figure's title; a figure of real data stays as it is.

    image_set: an `ImageSet`. Doing it twice names it once.
    """
    title = fig.get_suptitle()
    if image_set.is_stand_in and image_set.name not in title:
        fig.suptitle(f"{title}\n{image_set.name}".strip())
    return fig
