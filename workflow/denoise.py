"""Denoise a CT series, without any reference, into a derived series that opens in a viewer.

python workflow/denoise.py DENOISER IN OUT [--range RANGE] [--device cpu]

DENOISER: a run of 03_train, a file .onnx, hub:<network>, a filter as tv:weight_hu=10, or package.module:function.
IN: a folder of DICOM, one DICOM file, a .nii, .nii.gz or .npy file in HU; it is only read. OUT: an empty folder, or one
that the same command has begun: it goes on. See docs/your_denoiser.md.
"""

import argparse
import sys

from ldct_utils.cohorts import reading
from ldct_utils.denoisers import series
from ldct_utils.study import machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("denoiser", help="a run, a file .onnx, hub:<network>, a filter or package.module:function")
    parser.add_argument("source", metavar="IN", help="a folder of DICOM, or a file .dcm, .nii, .nii.gz or .npy")
    parser.add_argument("out", metavar="OUT", help="a folder, empty or begun by the same command")
    parser.add_argument("--range", default=None, help="what a file or function takes for HU, as hu or '[-160, 240]'")
    parser.add_argument("--device", default=None, help="cpu or cuda; else a GPU where there is one")
    given = parser.parse_args()
    device = given.device or ("cuda" if machine.has_cuda() else "cpu")
    try:
        machine.check_device(device)
        with reading.logging_paths():
            series.denoise(given.denoiser.removeprefix("outputs/"), given.source, given.out, given.range, device)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
