"""What metrics are given of images in HU: float64 tensors on the scale that each metric takes, and the peak of it."""

import torch

from ldct_utils.ct import intensity

SCALES = ("domain", "hu", "attenuation", "unit")


def prepared(takes: str, domain: intensity.Domain, image_hu) -> torch.Tensor:
    """What a metric is given of an image in HU in an evaluation domain.

    Args:
        takes: ``domain``: the domain's own scale, as SSIM and PSNR need it.
            ``hu``: what the domain shows of the image, in HU: clipped by a window, quantised by ``viana2025``; Eulig et
            al. take RMSE on HU + 1024 clipped to [0, 2924] although their SSIM is windowed.
            ``attenuation``: as ``domain``, but HU + 1024 in the HU domains. NRMSE divides by the norm of the target,
            which means something only where air is 0.
            ``unit``: what the domain shows, in [0, 1]: a window's own scale, the 256 grey levels of ``viana2025``, and
            in the HU domains [-1024, 3072] HU, clipped.
        domain: the evaluation domain.
        image_hu: image in HU, any shape, array or tensor.
    Returns: float64 tensor of the same shape, on the image's device.
    Raises: ValueError: for an unknown scale.
    """
    if takes not in SCALES:
        raise ValueError(f"a metric takes {', '.join(SCALES)}, not {takes!r}")
    image_hu = torch.as_tensor(image_hu).double()
    plain = domain.name in ("hu", "body")
    if takes == "hu" and domain.name == "eulig2024":
        return (image_hu - intensity.HU_MIN).clip(0, intensity.EULIG_TOP) + intensity.HU_MIN
    if takes == "unit" and plain:
        return intensity.to_net(image_hu).clip(0, 1)
    shown = domain.prepare(image_hu).double()
    if takes == "unit":
        return shown / domain.data_range
    if takes == "attenuation":
        return shown - intensity.HU_MIN if plain else shown
    if takes == "domain" or plain:
        return shown
    if domain.name == "viana2025":
        return shown * (intensity.HU_SPAN / domain.data_range) + intensity.HU_MIN
    return shown * domain.width + domain.level - domain.width / 2


def peak(takes: str, domain: intensity.Domain) -> float:
    """The data range of a prepared image, in its own units: what PSNR and SSIM call L."""
    if takes == "unit":
        return 1.0
    if takes != "hu":
        return float(domain.data_range)
    if domain.name == "eulig2024":
        return intensity.EULIG_TOP
    return float(domain.width or intensity.HU_SPAN)
