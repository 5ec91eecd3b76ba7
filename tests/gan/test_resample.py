import numpy as np
import torch
from scipy.signal import upfirdn

from synthrad.gan import resample as rs


def test_up_and_down_against_scipy():
    taps = torch.linspace(-1, 2, 12).double()  # not symmetric: orientation shows
    x = torch.randn(1, 2, 16, 16).double()
    h, half = taps.numpy(), 5
    up = upfirdn(h, upfirdn(h, x[0, 1].numpy(), 2, axis=0), 2, axis=1)
    np.testing.assert_allclose(rs.upsample2x(x, taps)[0, 1], up[half : half + 32, half : half + 32], atol=1e-12)
    padded = np.pad(x[0, 0].numpy(), half)
    down = upfirdn(h[::-1], upfirdn(h[::-1], padded, axis=0), axis=1)[11:, 11:][:16:2, :16:2]
    np.testing.assert_allclose(rs.downsample2x(x, taps)[0, 0], down, atol=1e-12)


def test_half_band_filter_passes_low_and_stops_high():
    taps = rs.half_band()
    torch.testing.assert_close(taps, taps.flip(0))
    response = torch.fft.rfft(taps, 1024).abs()
    assert (response[:128] - 1).abs().max() < 0.02 and response[400:].max() < 0.02


def test_bands_sum_to_the_impulse_and_pass_their_octaves():
    bands = rs.octave_bands()
    impulse = torch.zeros(43, dtype=torch.float64)
    impulse[21] = 1
    torch.testing.assert_close(bands.sum(0), impulse)
    response = torch.fft.rfft(bands, 4096).abs()
    for band, centre in enumerate([1 / 32, 3 / 32, 3 / 16, 3 / 8]):  # cycles a pixel
        assert response[:, int(centre * 4096)].argmax() == band


def test_mirror_and_per_image_filters():
    x = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert rs.mirror_pad(x, 2)[0, 0, 2].tolist() == [1, 0, 0, 1, 2, 3, 3, 2]
    y = torch.randn(2, 2, 6, 6)
    taps = torch.tensor([[0.0, 1, 0], [0.25, 0.5, 0.25]])
    out = rs.filter_each(y, taps)
    torch.testing.assert_close(out[0], y[0])
    assert out[1].std() < y[1].std()
