"""Colours and matplotlib settings of the pictures."""

# Okabe and Ito's palette, which colour-blind people can tell apart.
INK, SOFT, GRID, TRACK, FROZEN = "#1c2127", "#5b6570", "#d5dae0", "#edf0f3", "#b4bcc5"
BLUE, ORANGE, GREEN, PURPLE, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"

# Colour -> CSS variable. The page defines --ink and the others for light and for dark.
CSS_VARIABLES = {
    INK: "ink", SOFT: "soft", GRID: "grid", TRACK: "track", FROZEN: "frozen",
    BLUE: "blue", ORANGE: "orange", GREEN: "green", PURPLE: "purple", RED: "red",
}  # fmt: skip

# Kind of trial -> (name, marker, colour), in the order of the legend.
KINDS = {
    "agent": ("agent", "o", BLUE),
    "refined": ("refined", "^", ORANGE),
    "sensitivity": ("sensitivity sample", ".", FROZEN),
    "greedy": ("greedy plan", "D", GREEN),
    "threshold": ("one threshold", "s", GREEN),
}

DASHED, DOTTED = (0, (6, 2)), (0, (1.5, 1.5))  # lines of the base network and of the uniform plan

RC_PARAMS = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 8.0,
    "text.parse_math": False,  # names from users may contain dollar signs
    "text.color": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": FROZEN,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FROZEN,
    "ytick.color": FROZEN,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.borderaxespad": 0.0,
    "figure.constrained_layout.use": True,
}
