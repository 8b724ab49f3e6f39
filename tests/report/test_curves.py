"""The curve of one checkpoint."""

from pathlib import Path

from restoration.report.curves import nfe_curve


def test_nfe_curve_draws_each_metric(tmp_path: Path):
    entry = {"solver": "Euler", "texture_ratio": 0.2, "texture_ratio_ci": [0.1, 0.3], "frechet_maps": 5.0}
    by_nfe = []
    for nfe, value in ((8, 21.0), (1, 24.0)):
        values = {"psnr": value, "psnr_ci": [value - 1, value + 1], "psnr_hole": value - 5}
        values |= {"psnr_hole_ci": [value - 6, value - 4], "psnr_known": None, "psnr_known_ci": [None, None]}
        by_nfe.append({"nfe": nfe, **entry, **values})
    figure = nfe_curve({"n": 1000, "identity": {"psnr": 15.0}, "by_nfe": by_nfe})
    quality, texture, frechet = figure.axes
    whole = next(line for line in quality.lines if line.get_label() == "whole image")
    assert list(whole.get_xdata()) == [1, 8] and list(whole.get_ydata()) == [24.0, 21.0]
    assert list(frechet.lines[0].get_ydata()) == [5.0, 5.0] and list(texture.lines[0].get_ydata()) == [0.2, 0.2]
    assert len(quality.collections) == 2, "two curves have an interval"
    figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
