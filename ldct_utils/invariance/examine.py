"""What f makes of images that are held to be its invariances, beside what it makes of other noise: crop by crop.

A crop's noise realisations, hundreds of them, and what f makes of them are all that takes memory. They are forgotten
before those of the next crop are drawn: only rows of tables are kept.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import segments
from ldct_utils.invariance import evidence
from ldct_utils.task_based import ensembles, observers

OF_IMAGES = ("evidence", "segments", "own")  # tables of every crop
OF_LESIONS = ("lesions", "contrasts", "detection")  # and of crops with known lesions


def middle(images, side: int):
    """The middle (..., side, side) of images (..., H, H). Raises: ValueError: if they are smaller."""
    if side > images.shape[-1]:
        raise ValueError(f"a model for patches of {side} pixels needs a crop as large, not crop={images.shape[-1]}")
    start = (images.shape[-1] - side) // 2
    return images[..., start : start + side, start : start + side]


def null_of(images) -> str:
    """Name of the null of images (..., P, P): other noise realisations of the same pixels."""
    return f"null, {images.shape[-1]} pixels"


@dataclass(frozen=True)
class Examination:
    """What is asked about every crop; ``of`` asks it.

    Args:
        realisations: of a crop's null. level: p up to which a change counts.
        segmentation: method of ``segments.segment``.
        region: side of what the observers see around a lesion, pixels, odd.
        faint: d' in x to which lesions are weakened before f is asked what it keeps of it; > 0.
    Raises: ValueError: for a value that is none of these, or too few realisations for a p of ``level``.
    """

    realisations: int
    level: float = 0.05
    segmentation: str = "felzenszwalb"
    region: int = 33
    faint: float = 2.0

    def __post_init__(self):
        if not 0 < self.level < 1:
            raise ValueError(f"level is a p between 0 and 1, not level={self.level}")
        if self.held < 1:
            raise ValueError(
                f"with realisations={self.realisations} no p could be as small as level={self.level:g}; "
                f"take {max(4, self._needed + 1)} or more"
            )
        if self.region < 1 or self.region % 2 == 0:
            raise ValueError(f"what the observers see has a middle pixel: an odd number a side, not {self.region}")
        if not self.faint > 0:
            raise ValueError(f"d' of the weakened lesions must be positive, not faint={self.faint}")

    def fits(self, crop: int):
        """Raises: ValueError: if what the observers see is larger than a crop of so many pixels."""
        if self.region > crop:
            raise ValueError(f"the observer's region of {self.region} pixels does not fit a crop of {crop}")

    @property
    def _needed(self) -> int:
        """Realisations in a null of which one more could have a p of ``level``."""
        return int(np.ceil(round(1 / self.level, 9))) - 1

    @property
    def held(self) -> int:
        """Realisations that are held back from the null and tested like findings, to say what chance gives."""
        return min(self.realisations // 4, self.realisations - self._needed)

    def of(self, f, found, made, progress=iter) -> dict:
        """All tables of all crops.

        Args:
            f: the denoiser as a function of images (..., H, W), HU.
            found: crops, a list of ``cases.Case``.
            made: {method: its images (crops, K, P, P), HU}: each stands for the middle P x P pixels of a crop.
            progress: function of the crops that gives them back, e.g. ``tqdm``.
        Returns: {name: table}, the names ``OF_IMAGES``, and ``OF_LESIONS`` where lesions are known; see ``crop``.
        Raises: ValueError: if the images are larger than the crops, or a table would have no row.
        """
        parts = [
            self.crop(f, case, {method: np.asarray(images[n]) for method, images in made.items()})
            for n, case in enumerate(progress(found))
        ]
        return {name: _joined(name, [part[name] for part in parts]) for name in parts[0]}

    def stored(self, run, with_lesions: bool, *given) -> dict:
        """The tables of a run by name: what it holds already, else those of ``of``, whose first arguments are given.

        Args: run: the open run. with_lesions: whether there are tables of lesions.
        """
        examined = cache(lambda: self.of(*given, partial(tqdm, desc="examined", unit="crop")))
        names = OF_IMAGES + OF_LESIONS * with_lesions
        return {name: run.table(name, lambda name=name: examined()[name]) for name in names}

    def crop(self, f, case, made) -> dict:
        """The tables of one crop, with its ``patient``, ``anatomy`` and ``row``; arguments as of ``of``, for one.

        Methods are followed by nulls, one for every size of images. All changes are from x and from f(x), in HU:
        ``evidence``: a row a method and image. RMS changes ``in_hu``, ``out_hu``, the same of ``evidence.low_pass``
            (``low_in_hu``, ``low_out_hu``), and ``pix_md``.
        ``segments``, ``lesions``: a row a method, image and region that is whole in the image. ``change_in`` and
            ``change_out`` of a segment's mean or a lesion's contrast; ``p_in``, ``p_out`` from the null's other
            realisations than the first ``held``, which are the null's own rows. Segments are of the truth where it is
            known, else of the NDCT.
        ``own``: a row a segment: ``p_in`` and ``p_out`` of x and f(x) themselves among the realisations, all held
            against their mean. Where the null is right these are uniform.
        ``contrasts``: a row a lesion and realisation: the share ``kept`` of its contrast.
        ``detection``: a row a lesion and image ("x", "f(x)"), for lesions whose region lies in the crop: ``d_prime``
            with its jackknife interval ``low``, ``high`` of a channelised Hotelling observer, ``d_npw`` of one that
            knows the lesion and takes the noise as white, both of the lesion alone, times ``gain``; before, d' in x
            was ``d_full``. Where the NDCT's noise is the same in all realisations, d' is corrected for it.
        """
        drawn = case.draw()
        images = made | {null_of(those): middle(drawn.null, those.shape[-1]) for those in made.values()}
        seen = {}
        for method, those in images.items():
            x = middle(case.ldct, those.shape[-1])
            seen[method] = {"in": (those, x), "out": (f(those), f(x))}
        masks = segments.segment(case.ndct if drawn.truth is None else drawn.truth, self.segmentation).masks
        about = [{"segment": n + 1, "area": int(mask.sum())} for n, mask in enumerate(masks)]
        tables = {"evidence": _sizes(seen), "segments": self._changes(seen, about, masks)}
        tables["own"] = _own(seen, about, masks)
        if case.inside is not None:
            about = case.lesions.to_dict("records")
            kept = evidence.contrast_kept(f, drawn.absent[: ensembles.PAIRED], drawn.signal, case.inside)
            rows = [pd.DataFrame({"kept": k, "image": range(len(k))}).assign(**a) for k, a in zip(kept.T, about)]
            tables["lesions"] = self._changes(seen, about, case.inside, case.around)
            tables |= {"contrasts": pd.concat(rows), "detection": self._detection(f, case, drawn)}
        whose = {"patient": case.patient, "anatomy": case.anatomy, "row": case.row}
        return {name: table.assign(**whose) for name, table in tables.items()}

    def _changes(self, seen, about, inside, around=None):
        """Changes of regions: masks ``inside`` (S, H, W), and ``around`` where their contrast counts, not their mean;
        ``about``: S dictionaries, what the rows say of each."""
        rows = []
        for method, ends in seen.items():
            x = ends["in"][1]
            side, null = x.shape[-1], null_of(x)
            kept = [n for n, mask in enumerate(inside) if middle(mask, side).sum() == mask.sum()]
            if around is not None:
                kept = [n for n in kept if middle(around[n], side).sum() >= evidence.SMALLEST]
            if not kept:
                continue
            masks = [[middle(those[n], side) for n in kept] for those in (inside, around) if those is not None]
            values, tested = {}, slice(self.held if method == null else None)
            for end, (images, unchanged) in ends.items():
                base = _pooled(unchanged, *masks)
                change = _pooled(images[tested], *masks) - base
                by_chance = _pooled(seen[null][end][0][self.held :], *masks) - base
                values |= {f"change_{end}": change, f"p_{end}": evidence.p_value(change, by_chance)}
            for k, n in enumerate(kept):
                of_one = pd.DataFrame({name: value[:, k] for name, value in values.items()})
                rows.append(of_one.assign(method=method, image=range(len(of_one)), **about[n]))
        return pd.concat(rows) if rows else pd.DataFrame()

    def _detection(self, f, case, drawn):
        windows, size, about = {}, self.region, case.lesions.to_dict("records")
        signals = evidence.apart(drawn.signal, case.inside)
        for n, mask in enumerate(case.inside):
            row, column = (round(at) - size // 2 for at in np.argwhere(mask).mean(0))
            if min(row, column) >= 0 and row + size <= mask.shape[0] and column + size <= mask.shape[1]:
                windows[n] = np.s_[..., row : row + size, column : column + size]
        free, rows = f(drawn.absent), []

        def corrected(d_prime):
            return d_prime if drawn.dose is None else observers.unfrozen(d_prime, drawn.dose)

        for n, window in windows.items():
            radius_px = about[n]["radius_mm"] / case.pixel_mm
            alone = drawn.null - (drawn.signal - signals[n]).astype(np.float32)  # no other lesion helps an observer
            full = corrected(observers.cho(drawn.absent[window], alone[window], radius_px).d_prime)
            gain = min(1.0, self.faint / max(full, 1e-9))
            present = alone - ((1 - gain) * signals[n]).astype(np.float32)
            for image, pair in {"x": (drawn.absent, present), "f(x)": (free, f(present))}.items():
                seen = [images[window] for images in pair]
                cho, npw = observers.cho(*seen, radius_px), observers.npw(*seen, signals[n][window])
                rows.append(about[n] | {"d_full": full, "gain": gain, "image": image, "d_prime": corrected(cho.d_prime),
                                        "low": corrected(cho.d_low), "high": corrected(cho.d_high),
                                        "d_npw": corrected(npw.d_prime)})  # fmt: skip
        return pd.DataFrame(rows)


def _sizes(seen):
    """RMS changes of whole images, a row a method and image."""
    rows = []
    for method, ends in seen.items():
        values = {f"{end}_hu": evidence.rmse_hu(*pair) for end, pair in ends.items()}
        values["pix_md"] = evidence.pix_md(*ends["in"])
        values |= {f"low_{end}_hu": evidence.rmse_hu(*map(evidence.low_pass, pair)) for end, pair in ends.items()}
        rows.append(pd.DataFrame(values).assign(method=method, image=range(len(values["pix_md"]))))
    return pd.concat(rows)


def _own(seen, about, masks):
    """p of the means of x and f(x) in every segment that is whole in the largest images, from the null's own mean."""
    null = max((method for method in seen if method.startswith("null")), key=lambda n: seen[n]["in"][1].shape[-1])
    side = seen[null]["in"][1].shape[-1]
    kept = [n for n, mask in enumerate(masks) if middle(mask, side).sum() == mask.sum()]
    if not kept:
        return pd.DataFrame()
    parts, found = [middle(masks[n], side) for n in kept], pd.DataFrame([about[n] for n in kept])
    for end, (images, x) in seen[null].items():
        by_chance = _pooled(images, parts)
        found[f"p_{end}"] = evidence.p_value(_pooled(x, parts) - by_chance.mean(0), by_chance - by_chance.mean(0))
    return found


def _pooled(images, inside, around=None):
    """Mean of every region, or its contrast with what is around it: images (..., P, P), HU -> (..., S), HU."""
    if around is None:
        return evidence.means(images, inside)
    return np.stack([evidence.contrast(images, *pair) for pair in zip(inside, around)], axis=-1)


def _joined(name, parts):
    """One table of those that have rows."""
    if not any(map(len, parts)):
        raise ValueError(
            f"no crop has a row for the table {name!r}: their segments, or the regions around their lesions, are cut "
            "off; take larger crops, or a smaller region"
        )
    return pd.concat([part for part in parts if len(part)], ignore_index=True)
