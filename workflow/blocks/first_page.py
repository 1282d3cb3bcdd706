"""The sentence, the five answers and the picture of the first page, the cohort, and a list as it is."""

from blocks.shared import FOLDER, STUDY
from ldct_utils.answers import front
from ldct_utils.answers.words import (
    bullets,
    counted,
    fixed,
    paragraphs,
    table,
)


def plain(blocks) -> str:
    """A table that no notebook stored: its cells and sentences as they were copied."""
    n = blocks["plain"]
    return paragraphs(table(n["columns"], n["rows"]), bullets(n["sentences"]))


def cohort(blocks) -> str:
    n = blocks["cohort"]
    off = n["checks_off"]
    checks = "all checks are within their limits" if not off else f"{counted(off, 'check')} beyond the limit"
    return (
        f"{n['patients']} simulated patients with {n['slices']} slices, {n['test_patients']} of them for testing; "
        f"{checks}. Noise in the normal-dose slices is {fixed(n['ndct_noise_hu'], 1)} HU."
    )


def sentence(blocks) -> str:
    return f"**{front.sentence(blocks)}**"


def five(blocks) -> str:
    """The five answers of the report's first page."""
    rows = [[f"**{one['question']}**", one["sentences"], one["sure"] or ""] for one in front.page(blocks)["answers"]]
    return table(["question", "answer", "how sure"], rows)


def hero_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-hero.png" width="860" alt="CT cut-outs in rows: low dose, denoised, normal dose, '
        'and the noise-free truth.">\n\n*Simulated patients, lesions circled; denoised by the network trained with '
        "MSE. Errors are RMS differences from the noise-free truth.*"
    )
