"""A denoiser applied to somebody's CT series, without any reference: to a derived series that says what it is.

Slices go through one at a time. What is finished stays, and the same call goes on after a kill. Nothing of a header is
printed but kernel, pixel size and thickness; headers are in the output's files alone.
"""

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ldct_utils.denoisers import derived, familiar, opened, stacks
from ldct_utils.study import files, identity, paths, runs

MOST = 5  # slices of strange noise that are named, the others are counted


def denoise(name: str, source, out, range_of=None, device: str = "cpu", say=None, progress: bool = True) -> Path:
    """Denoise a series.

    Args:
        name: of the denoiser, as for ``opened.opened``; filters with their settings. source: a folder of DICOM, one
            DICOM file, ``.nii``, ``.nii.gz`` or ``.npy`` in HU. out: a folder, empty or of the same call that was
            ended. range_of: what the denoiser takes for HU. say: is given each line that there is to say; None prints.
    Returns: the folder.
    Raises: ValueError, FileNotFoundError, OSError, RuntimeError, ImportError: with what is wrong and what to do.
    """
    say = say or partial(print, flush=True)  # a kill must not take along what was said
    source, out = Path(source).resolve(), Path(out).resolve()
    _check_places(source, out)
    new = not out.exists()
    try:
        with files.locked(out / "denoise", say):
            _denoise(name, source, out, range_of, device, say, progress)
    except Exception as error:
        if new and [path.name for path in out.glob("*")] in ([], [".denoise.lock"]):  # nothing was begun
            (out / ".denoise.lock").unlink(missing_ok=True)
            out.rmdir()
        if getattr(error, "errno", None):  # the system's own words name the file, whose name may identify the patient
            reason = os.strerror(error.errno)
            raise OSError(
                f"a file cannot be read or written ({reason}): see to the disk and the rights in OUT, then start "
                "again; what is finished is kept"
            ) from None
        raise
    return out


def _denoise(name, source, out, range_of, device, say, progress):
    record = _record(out)
    reading = partial(tqdm, unit="file", desc="reading headers", leave=False, disable=not progress)
    stack = stacks.find(source, out, reading)
    try:
        denoiser = opened.opened(name, None, range_of, device=device, slices=_probe(stack))
        maker = _maker(denoiser, name, device)
        if record and record["identity"] != maker.identity:
            raise ValueError(
                f"OUT holds what {record['denoiser']} made, with these or other settings or code: give an empty OUT"
            )
        _check_strangers(out, stack.targets(out))
        record = record or {"denoiser": denoiser.name, "identity": maker.identity}
        left = stack.begin(out, maker, record)
        files.write_json(out / stacks.RECORD, record)
        _remove_cut(out)  # not earlier: only now the folder is known to be ours
        _introduce(stack, denoiser, len(left), say)
        training = _compared(stack, denoiser, say)
        _run(stack, denoiser, training, left, say, progress)
        stack.finish()
    finally:
        stack.close()


def _check_places(source: Path, out: Path):
    """Raises: ValueError: where the output would lie in the input, or among what holds nothing of a patient."""
    if out == source or out.is_relative_to(source):
        raise ValueError("OUT is IN or lies in it, and IN is never changed: give a folder outside of IN")
    if source.is_relative_to(out):
        raise ValueError("IN lies in OUT: give an empty folder for OUT")
    if out.exists() and not out.is_dir():
        raise ValueError("OUT is a file: give a folder")
    if out.is_relative_to(paths.outputs()):
        raise ValueError(
            f"OUT lies in {paths.short(paths.outputs())}/, where nothing may name a patient, and denoised images keep "
            "their headers: give a folder elsewhere"
        )


def _record(out: Path) -> dict:
    """What a call before this one has noted of its output; {} for an empty folder."""
    if (out / stacks.RECORD).is_file():
        return files.read_json(out / stacks.RECORD)
    if any(path.name[0] != "." for path in out.iterdir()):
        raise ValueError("OUT is not empty and was not made by this command: give an empty folder")
    return {}


def _remove_cut(out: Path):
    """Remove what a kill left of files that were being written; nobody else writes here."""
    for cut in out.rglob(".tmp-*"):
        if not any(part[0] == "." for part in cut.relative_to(out).parts[:-1]):
            cut.unlink(missing_ok=True)


def _check_strangers(out: Path, targets: list[Path]):
    """Raises: ValueError: where files lie among the output that are none of it."""
    strange = {p for p in out.rglob("*") if p.is_file() and p.name[0] != "."} - set(targets)
    if strange:
        raise ValueError(
            f"files in OUT that belong to no slice of IN: {len(strange)}. Move them, or give an empty folder; has IN "
            "lost slices since?"
        )


def _probe(stack) -> np.ndarray:
    """A few slices of one size, spread over the stack."""
    shape, count = Counter(stack.shapes).most_common(1)[0]
    alike = [i for i, one in enumerate(stack.shapes) if one == shape]
    at = ((np.arange(min(count, opened.PROBE)) + 0.5) * count / min(count, opened.PROBE)).astype(int)
    return np.stack([_read(stack, alike[i]) for i in at])


@contextmanager
def _naming(stack, i: int):
    """Prefix errors with the slice's number: the file's name may identify the patient."""
    try:
        yield
    except ValueError as error:
        error.args = (f"slice {i + 1} of {stack.count}: {error}",)
        raise


def _read(stack, i: int) -> np.ndarray:
    with _naming(stack, i):
        return stack.hu(i)


def _maker(denoiser, name: str, device: str) -> derived.Maker:
    """Who denoises, with an identity that changes with all that can change the output."""
    given = denoiser.run.params if denoiser.run else {"denoiser": name}
    code = identity.code_hash(["denoisers.series"], [given])
    parts = [denoiser.name, denoiser.kind, denoiser.about, denoiser.made_of, device, code, runs.versions()]
    whole = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    shown = denoiser.name.encode("ascii", "replace").decode()
    about = denoiser.about.encode("ascii", "replace").decode()
    words = (
        f"Denoised slice by slice by {shown} ({denoiser.kind}; {about}; identity {whole[:8]}). Not checked against any "
        f"reference, {derived.WARNING}."
    )
    return derived.Maker(shown, words, whole)


def _introduce(stack, denoiser, left: int, say):
    say(f"{denoiser.name}: {denoiser.kind}, {denoiser.about}")
    done = stack.count - left
    say(f"slices: {stack.count} ({stack.kind})" + (f", done already: {done}" if done else ""))
    for reason, count in stack.skipped.items():
        say(f"skipped, {count} x: {reason}")
    for remark in stack.remarks:
        say(remark)


def _compared(stack, denoiser, say) -> familiar.Training | None:
    """What the denoiser was trained on, where that is known, after saying what of the headers is far from it."""
    training = familiar.training_of(denoiser.run) if denoiser.run else None
    if training is None:
        lost = "its cohort is gone" if denoiser.run else "it is no run of 03_train"
        say(f"not compared with what it was trained on: {lost}")
        return None
    found = familiar.strange(training, stack.about)
    for line in found:
        say(f"far from its training: {line}")
    if not found:
        say(
            "like its training: "
            + (", ".join(familiar.known(stack.about)) or "nothing, since no header says what it is")
        )
    return training


def _run(stack, denoiser, training, left: list[int], say, progress: bool):
    noise, clipped, pixels, far, began = [], 0, 0, 0, time.monotonic()
    with tqdm(total=stack.count, initial=stack.count - len(left), unit="slice", disable=not progress) as bar:
        for i in left:
            hu = _read(stack, i)
            before = familiar.noise_of(hu)
            if training and training.is_far("noise_hu", before):
                far += 1
                if far <= MOST:
                    bar.clear()
                    say(f"far from its training: slice {i + 1}, {training.told('noise_hu', before)}")
            made = _checked(denoiser(hu[None]), hu, i)
            with _naming(stack, i):
                clipped += stack.save(i, made)
            pixels += made.size
            noise.append((before, familiar.noise_of(made, hu)))
            bar.update()
    seconds = time.monotonic() - began
    if far > MOST:
        say(f"far from its training: the noise of {far} slices in all")
    if left:
        say(f"done in {seconds:.0f} s, {len(left) / max(seconds, 1e-9):.2f} slices/s")
        say(_noise_in_words(np.array(noise)))
    if clipped:
        say(f"clipped: {clipped} pixels ({clipped / pixels:.2g} of all) lay beyond what the file's numbers can hold")


def _checked(made, hu, i: int) -> np.ndarray:
    made = np.asarray(made)
    if made.shape != (1, *hu.shape) or not np.isfinite(made).all():
        raise ValueError(
            f"slice {i + 1}: the denoiser put out {made.shape} for {(1, *hu.shape)}, or values that are not finite. "
            "Slices before it are kept"
        )
    return made[0]


def _noise_in_words(noise) -> str:
    known = noise[np.isfinite(noise).all(1)]
    if not len(known):
        return "noise: no slice shows enough flat soft tissue to read it"
    before, after = np.median(known, 0)
    return f"noise in flat tissue: {before:.1f} HU before, {after:.1f} HU after (median of {len(known)} slices)"
