"""Full-reference metrics with learned features. They were trained on photographs: on CT they extrapolate."""

import math

from ldct_utils.metrics.through_pyiqa import add

FULL = {"family": "full-reference", "direction": -1, "low": 0.0, "high": math.inf, "digits": 4, "smallest": 64}

add("lpips", "lpips", "LPIPS (alex)", needs=("alexnet", "lpips_alex"), reference="Zhang et al. 2018", **FULL)
add("lpips_vgg", "lpips-vgg", "LPIPS (vgg)", needs=("vgg16", "lpips_vgg"), reference="Zhang et al. 2018", **FULL)
add("stlpips", "stlpips", "ST-LPIPS (alex)", needs=("stlpips_alex",), reference="Ghildyal & Liu 2022", **FULL)
add("stlpips_vgg", "stlpips-vgg", "ST-LPIPS (vgg)", needs=("stlpips_vgg",), reference="Ghildyal & Liu 2022", **FULL)
add("dists", "dists", "DISTS", needs=("vgg16", "dists"), reference="Ding et al. 2020", **FULL)
