"""Segment Anything (Kirillov et al. 2023, ICCV, 4015) in its automatic mode, by transformers, from files on disk."""

from functools import cache
from pathlib import Path

import numpy as np

from ldct_utils.study import paths

FOLDER = "sam"  # below the weights
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


@cache
def generator(folder: str, device: str = "cpu"):
    """The mask generator with the weights of a folder. Nothing is downloaded, and no file runs code.

    Raises: FileNotFoundError: naming the files that are missing; ValueError: without the package transformers.
    """
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} missing in {paths.short(Path(folder))}: put there what a Hugging Face repository of "
            f"SAM holds (facebook/sam-vit-base, sam-vit-large or sam-vit-huge), or take another method"
        )
    try:
        from transformers import SamImageProcessor, SamModel, pipeline  # imported here: it takes seconds
    except ImportError as error:
        raise ValueError("Segment Anything needs the package transformers; or take another method") from error
    model = SamModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    processor = SamImageProcessor.from_pretrained(folder, local_files_only=True)
    return pipeline("mask-generation", model=model, image_processor=processor, device=device)


def masks(shown, folder=None, device="cpu", points_per_side: int = 32, pred_iou: float = 0.88, stability: float = 0.95):
    """Masks of an image, best first; by default with the settings of the authors' generator.

    Args:
        shown: (H, W, C) in [0, 1], three channels or one.
        folder: that of the weights; ``sam`` below the study's own by default.
        points_per_side: of the grid of prompts. pred_iou, stability: the least that a mask is kept with.
    Returns: boolean (S, H, W), and the settings in words.
    """
    from PIL import Image

    folder = Path(folder or paths.weights() / FOLDER)
    levels = np.rint(255 * np.asarray(shown)).astype(np.uint8)
    made = generator(str(folder), str(device))
    image = Image.fromarray(np.broadcast_to(levels, (*levels.shape[:2], 3)).copy())
    found = made(image, points_per_crop=points_per_side, pred_iou_thresh=pred_iou, stability_score_thresh=stability)
    order = np.argsort(-np.asarray([float(score) for score in found["scores"]]), kind="stable")
    stack = [np.asarray(found["masks"][number], bool) for number in order]
    width = made.model.config.vision_config.hidden_size
    words = f"ViT of width {width}, {points_per_side} points a side, IoU {pred_iou:g}, stability {stability:g}"
    return np.stack(stack) if stack else np.zeros((0, *levels.shape[:2]), bool), words
