"""Critics: networks that tell NDCT from predictions of it while a denoiser trains. They are no denoisers."""
