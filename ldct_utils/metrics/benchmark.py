"""The scores of ``denoised``, as the LDCT benchmark has them: what each is called, and which way is better."""

LABELS = {"ssim": "SSIM", "psnr": "PSNR, dB", "vifp_eulig": "VIF", "rmse_hu": "RMSE, HU", "rfs": "RFS",
          "ldct_iqa": "LDCT-IQA"}  # fmt: skip
BETTER = {"rmse_hu": -1}  # of all others more is better
