"""Numbers of a study to the lines between two comments of README.md and docs/results.md.

The functions that say them stand in ``blocks``, one module a subject.
"""

from datetime import date

from blocks import first_page, hidden, losses, readers, scores, structures
from blocks.shared import STUDY

from ldct_utils.answers import said as answer
from ldct_utils.answers.words import counted, listed, paragraphs

# {block of a page: (the block of the study's file that it needs, its notebook, what writes it)}
BLOCKS = {
    "sentence": ("", "", first_page.sentence),
    "five": ("", "", first_page.five),
    "hero_picture": ("", "12_answers", first_page.hero_picture),
    "answers": ("", "", answer.answers),
    "cohort": ("cohort", "01_data", first_page.cohort),
    "lambdas": ("lambdas", "02_psi_calibration", losses.lambdas),
    "influence": ("influence", "06_stats", losses.influence),
    "by_psi": ("by_psi", "06_stats", losses.by_psi),
    "psi_picture": ("by_psi", "06_stats", losses.psi_picture),
    "kept": ("kept", "06_stats", losses.kept),
    "newer_kept": ("newer_kept", "11_denoisers", losses.newer_kept),
    "swaps": ("influence", "06_stats", losses.swaps),
    "tradeoff": ("tradeoff", "14_tradeoff", losses.tradeoff),
    "tradeoff_picture": ("tradeoff", "14_tradeoff", losses.tradeoff_picture),
    "agreement": ("agreement", "04_metrics_during_training", losses.agreement),
    "metrics_picture": ("agreement", "04_metrics_during_training", losses.metrics_picture),
    "audit": ("audit", "04c_metric_audit", scores.audit),
    "dose": ("dose", "04b_dose", readers.dose),
    "dose_picture": ("dose", "04b_dose", readers.dose_picture),
    "observers": ("observers", "04d_observers", readers.observers),
    "two_tasks": ("two_tasks", "04e_detect_or_characterise", readers.two_tasks),
    "judges": ("judges", "15_judges", readers.judges),
    "judges_picture": ("judges", "15_judges", readers.judges_picture),
    "courses": ("courses", "03_train", losses.courses),
    "quality": ("quality", "08_noise2quality", scores.quality),
    "newer": ("newer", "11_denoisers", scores.newer),
    "details": ("details", "09_subtle_details", structures.details),
    "removals": ("removal", "09_subtle_details", structures.removal),
    "organs": ("organs", "09_subtle_details", structures.organs),
    "real_anatomy": ("real_anatomy", "09_subtle_details", structures.real_anatomy),
    "changes": ("changes", "09a_hallucinations", structures.changes),
    "invariances": ("invariances", "05_invariances", hidden.invariances),
    "drawn": ("drawn", "05a_train_invariances", hidden.drawn),
    "transfer": ("transfer", "16_phantom_to_real", scores.transfer),
    "plain": ("plain", "", first_page.plain),
}
CPUS = {"AMX": "with AMX", "AVX-512 BF16": "with AVX-512 BF16", "plain": "without fast bfloat16"}


def source(stored: dict) -> str:
    """The last line of a block: study, commit, date, CPU and precision, and how the numbers came into the file."""
    p = stored["provenance"]
    commits = p.get("commits") or ["not recorded"]
    said = [f"{'Test' if stored.get('test') else 'Study'} `{stored['study']}`"]
    changed = " with uncommitted changes" if p.get("dirty") else ""
    said.append(f"commit{'s' * (len(commits) > 1)} {listed(commits)}{changed}")
    said += [f"{date.fromisoformat(p['finished']):%-d %B %Y}"] if p.get("finished") else []
    cores = f" on {counted(p['cores'], 'core')}" if p.get("cores") else ""
    took = [p.get("runs") and counted(p["runs"], "run"), p.get("minutes") and f"{p['minutes']:.0f} min{cores}"]
    said += [" in ".join(filter(None, took))] if any(took) else []
    cpu = (
        f"CPU {listed(CPUS.get(c, 'of unknown kind') for c in p['cpu'])}"
        if p.get("cpu")
        else "kind of CPU not recorded"
    )
    said.append("GPU, " + cpu if any(str(d).startswith("cuda") for d in p.get("device") or []) else cpu)
    said.append(f"computed in {listed(p['precision'])}" if p.get("precision") else "precision not recorded")
    other = " Another kind of CPU or precision gives other networks." if p.get("cpu") and p.get("precision") else ""
    hand = " Copied by hand from an earlier text; the study replaces it when it runs again." * (
        stored["collected"] == "by hand"
    )
    return f"<sub>{', '.join(said)}.{other}{hand}</sub>"


def write(block: str, stored: dict) -> str:
    """The lines of a block from a study's file, with where they come from.

    Raises: ValueError: if the file lacks a value that the block needs.
    """
    needed, notebook, say = BLOCKS[block]
    file = f"docs/results/{stored['study']}.json"
    if needed and needed not in stored["blocks"]:
        if not notebook:
            raise ValueError(f"{file} holds no block {needed!r}")
        return paragraphs(f"The study `{stored['study']}` did not run `{notebook}`.", source(stored))
    try:
        if block.endswith("_picture") and block.removesuffix("_picture") not in stored["pictures"]:
            return paragraphs(f"*`{notebook}` of this study stored no such picture.*", source(stored))
        text = say(stored["blocks"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: block {needed or block} lacks a number: {error!r}") from error
    return paragraphs(text.replace(STUDY, stored["study"]), source(stored))
