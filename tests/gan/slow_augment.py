"""Appendix B of Karras et al. 2020 (limited data) as it is written: one image at a time, loops, float64, NumPy.

Nothing of synthrad.gan is used but the numbers of the low-pass filter, which the callers give.
"""

import math

import numpy as np


def translate(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def scale(x, y):
    return np.diag([x, y, 1.0])


def rotate(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def mirrored(i, size):
    """Index of the pixel that a mirror at the outer side of the edge pixels shows at i."""
    i = i % (2 * size)
    return i if i < size else 2 * size - 1 - i


def blit(image, forward):
    """[C, H, W]: the pixel at x goes to forward x; pixels keep their values."""
    _, h, w = image.shape
    back, out = np.linalg.inv(forward), np.empty_like(image)
    for i in range(h):
        for j in range(w):
            x, y, _ = back @ [j - (w - 1) / 2, i - (h - 1) / 2, 1]
            out[:, i, j] = image[:, mirrored(round(y + (h - 1) / 2), h), mirrored(round(x + (w - 1) / 2), w)]
    return out


def upsampled(image, taps):
    """[C, H, W] to [C, 2H, 2W] by zeros between the pixels and the filter (gain 2 an axis), mirrored edges."""
    c, h, w = image.shape
    reach = len(taps) // 2
    out = np.zeros((c, 2 * h, 2 * w))
    for i in range(2 * h):
        for j in range(2 * w):
            for s in range((i + reach - 1) % 2, len(taps), 2):
                for t in range((j + reach - 1) % 2, len(taps), 2):
                    a, b = (i - s + reach - 1) // 2, (j - t + reach - 1) // 2
                    out[:, i, j] += 4 * taps[s] * taps[t] * image[:, mirrored(a, h), mirrored(b, w)]
    return out


def bilinear(fine, y, x):
    """Values between the pixels of [C, H, W], mirrored edges."""
    _, h, w = fine.shape
    i, j = math.floor(y), math.floor(x)
    at = lambda a, b: fine[:, mirrored(a, h), mirrored(b, w)]  # noqa: E731
    v, u = y - i, x - j
    top = (1 - u) * at(i, j) + u * at(i, j + 1)
    return (1 - v) * top + v * ((1 - u) * at(i + 1, j) + u * at(i + 1, j + 1))


def warp(image, forward, taps):
    """[C, H, W] at twice the resolution, moved there, filtered, every other pixel kept."""
    c, h, w = image.shape
    back, reach = np.linalg.inv(forward), len(taps) // 2
    fine = upsampled(image, taps)
    moved = np.zeros((c, 2 * h + 2 * reach, 2 * w + 2 * reach))  # pixel (0, 0) of the fine output stands at (reach, reach)
    for a in range(moved.shape[1]):
        for b in range(moved.shape[2]):
            x, y, _ = back @ [(b - reach + 0.5) / 2 - w / 2, (a - reach + 0.5) / 2 - h / 2, 1]
            moved[:, a, b] = bilinear(fine, (y + h / 2) * 2 - 0.5, (x + w / 2) * 2 - 0.5)
    out = np.zeros_like(image)
    for i in range(h):
        for j in range(w):
            here = moved[:, 2 * i + 1 : 2 * i + 1 + len(taps), 2 * j + 1 : 2 * j + 1 + len(taps)]
            out[:, i, j] = np.einsum("cst,s,t->c", here, taps, taps)
    return out


def blits(d, k, w, h):
    """Forward map of the pixel blits of image k, in the order of the appendix."""
    g = np.eye(3)
    if d.flip is not None:
        g = scale(float(d.flip[k]), 1) @ g
    if d.turns is not None:
        g = rotate(-math.pi / 2 * int(d.turns[k])) @ g
    if d.shift is not None:
        g = translate(*d.shift[k].tolist()) @ g
    return g


def general(d, k):
    """Forward map of the general geometry of image k, in the order of the appendix."""
    g = np.eye(3)
    if d.scale is not None:
        g = scale(float(d.scale[k]), float(d.scale[k])) @ g
    if d.rotate_before is not None:
        g = rotate(-float(d.rotate_before[k])) @ g
    if d.stretch is not None:
        g = scale(float(d.stretch[k]), 1 / float(d.stretch[k])) @ g
    if d.rotate_after is not None:
        g = rotate(-float(d.rotate_after[k])) @ g
    if d.move is not None:
        g = translate(*d.move[k].tolist()) @ g
    return g


def colour(image, d, k):
    """[C, H, W] under a homogeneous matrix (4 x 4 for RGB), in the order of the appendix."""
    c = len(image)
    luma = np.append(np.ones(c) / math.sqrt(c), 0)
    m, eye = np.eye(c + 1), np.eye(c + 1)
    if d.brightness is not None:
        step = np.eye(c + 1)
        step[:c, c] = float(d.brightness[k])
        m = step @ m
    if d.contrast is not None:
        m = np.diag([float(d.contrast[k])] * c + [1]) @ m
    if d.invert is not None:
        m = (eye - 2 * np.outer(luma, luma) * float(d.invert[k])) @ m
    if d.hue is not None:
        v, a = luma[:3], float(d.hue[k])
        cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
        step = np.eye(4)
        step[:3, :3] = np.eye(3) * math.cos(a) + cross * math.sin(a) + np.outer(v, v) * (1 - math.cos(a))
        m = step @ m
    if d.saturation is not None:
        grey = np.outer(luma, luma)
        keep = np.eye(c + 1)
        keep[:c, :c] -= grey[:c, :c]
        keep[c, c] = 0
        last = np.zeros((c + 1, c + 1))
        last[c, c] = 1
        m = (grey + keep * float(d.saturation[k]) + last) @ m
    out = np.empty_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            out[:, i, j] = (m @ np.append(image[:, i, j], 1))[:c]
    return out


def bands():
    """[4, 43] filters from the four coefficients of the symlet of 2 vanishing moments (Daubechies 1988), by convolutions."""
    r = math.sqrt(3)
    low = np.convolve(np.array([1 + r, 3 + r, 3 - r, 1 - r]) / 8, np.array([1 + r, 3 + r, 3 - r, 1 - r])[::-1] / 8)
    high = -low
    high[3] += 1  # together they are the unit impulse

    def spread(f, factor):
        out = np.zeros((len(f) - 1) * factor + 1)
        out[::factor] = f
        return out

    parts = [np.convolve(np.convolve(low, spread(low, 2)), spread(low, 4)),
             np.convolve(np.convolve(low, spread(low, 2)), spread(high, 4)), np.convolve(low, spread(high, 2)), high]
    return np.stack([np.pad(f, (43 - len(f)) // 2) for f in parts])


def filtered(image, gains):
    """[C, H, W] with the four bands amplified, columns and rows, mirrored edges."""
    taps = gains @ bands()
    across, out = np.zeros_like(image), np.zeros_like(image)
    for i in range(image.shape[1]):
        for t, tap in enumerate(taps):
            across[:, i] += tap * image[:, mirrored(i + t - 21, image.shape[1])]
    for j in range(image.shape[2]):
        for t, tap in enumerate(taps):
            out[:, :, j] += tap * across[:, :, mirrored(j + t - 21, image.shape[2])]
    return out


def cutout(image, cx, cy):
    """[C, H, W] with half the width and half the height set to 0 about a centre."""
    out = image.copy()
    _, h, w = image.shape
    if math.isfinite(cx):
        lo = [round((cy - 0.25) * h), round((cx - 0.25) * w)]
        hi = [round((cy + 0.25) * h), round((cx + 0.25) * w)]
        out[:, max(lo[0], 0) : max(hi[0], 0), max(lo[1], 0) : max(hi[1], 0)] = 0
    return out


def augmented(images, d, image_channels, taps):
    """[N, C, H, W]: all that `d` decides, image by image, in the order of the appendix."""
    out = []
    for k, image in enumerate(np.asarray(images, dtype=np.float64)):
        _, h, w = image.shape
        image = blit(image, blits(d, k, w, h))
        forward = general(d, k)
        if not np.array_equal(forward, np.eye(3)):
            image = warp(image, forward, taps)
        photo = colour(image[:image_channels], d, k)
        if d.octaves is not None:
            photo = filtered(photo, d.octaves[k].double().numpy())
        if d.noise is not None:
            photo = photo + d.noise[k].double().numpy()
        if d.cutout is not None:
            photo = cutout(photo, *d.cutout[k].tolist())
        out.append(np.concatenate([photo, image[image_channels:]]))
    return np.stack(out)
