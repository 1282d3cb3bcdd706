"""One colour and marker for a network in every figure: the colour is that of its loss."""

from ldct_utils.report import plots

LOSSES = ("mse", "vgg", "l1", "vgg_only", "charbonnier", "mean_srmse")  # in the order of ``plots.COLOURS``
MARKERS = "sD^vP*X<>dhp"
FBP = {"color": "#000000", "marker": "o", "label": "FBP"}  # the plain reconstruction, what all others are set against


def styles(labels: dict[str, str]) -> dict[str, dict]:
    """Colour, marker and label of methods, as ``plot`` and ``errorbar`` take them.

    A loss has one colour in every figure, its designs differ by their markers.

    Args: labels: {method as tables name it, e.g. ``vgg · block3_conv2``: its name in words}.
    """
    losses = list(dict.fromkeys([*LOSSES, *(method.split(" · ")[0] for method in labels)]))
    colours = [*plots.COLOURS[:6], plots.COLOURS[7]]  # black is the FBP's
    return {
        method: {"color": colours[losses.index(method.split(" · ")[0]) % len(colours)],
                 "marker": MARKERS[number % len(MARKERS)], "label": label}
        for number, (method, label) in enumerate(labels.items())
    }  # fmt: skip
