"""DU-GAN's generator (Huang et al. 2022, IEEE TIM 71, 4500512), which is the RED-CNN."""

from ldct_utils.models.networks._normalised import check_whole
from ldct_utils.models.networks.redcnn import REDCNN


def build(width=96, mean_hu=None, std_hu=None):
    """An untrained ``REDCNN``; 1,848,865 weights. Args: width: channels. mean_hu, std_hu: see ``Normalised``."""
    check_whole("DU-GAN", width=width)
    return REDCNN(width, mean_hu, std_hu)
