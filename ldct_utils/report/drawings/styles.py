"""One colour and marker for a network in every figure, as ``plots.loss_style`` has them."""

from ldct_utils.report import plots

MARKERS = "sD^vPX*<>dhp"
FBP = {"color": "#000000", "marker": "o", "label": "FBP"}  # the plain reconstruction, what all others are set against


def grey(names) -> dict[str, dict]:
    """Looks of controls, e.g. filters, that stand beside networks: grey, each with a marker of its own."""
    return {name: {"color": "#777777", "marker": mark, "label": name, "lw": 0.8, "mfc": "white"}
            for name, mark in zip(names, "v^x+<>")}  # fmt: skip


def true_minus(axis):
    """Numbers written on ``axis``, as by ``plots.matrix``, with a true minus, and none before a zero."""
    for text in axis.texts:
        words = text.get_text()
        text.set_text(words.lstrip("-") if not words.strip("-0.") else words.replace("-", "−"))


def styles(labels: dict[str, str]) -> dict[str, dict]:
    """Colour, marker and label of methods, as ``plot`` and ``errorbar`` take them.

    Two methods of one figure that would look alike differ by their markers.

    Args: labels: {method as tables name it, e.g. ``vgg · block3_conv2``: its name in words}.
    """
    found, taken = {}, set()
    for method, label in labels.items():
        colour, usual = plots.loss_style(method)
        marker = next((one for one in (usual, *MARKERS) if (colour, one) not in taken), usual)
        taken.add((colour, marker))
        found[method] = {"color": colour, "marker": marker, "label": label}
    return found
