"""`synthrad score`: judge every image of a synthetic set against the real training images.

Mask quality is the Dice between the mask that came with an image and what a segmentation net sees in that image. The
nets are cross-fitted over the training subjects: each image is judged by the one net that never saw the subject of
its nearest training image, so a copied patient is not judged by a net that knows that patient by heart. Judges train
for a fixed number of steps with nothing selected, and no downstream fit ever reuses them. Real training images are
judged in the same way (each by the net that excluded its subject): their Dice is the yardstick.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthrad.errors import InputError
from synthrad.lineage import Lineage
from synthrad.records import Manifest

if TYPE_CHECKING:
    from synthrad.data.cache import ImageCache
    from synthrad.metrics.similarity import Nearest
    from synthrad.tasks.judges import Judges

STRIDE = 32  # sides are multiples of this: what encoders of five halvings need
VERSION = 1  # raise by hand when scores or judges change


def score(
    synthetic: Manifest,
    real: Manifest,
    out: Path | str,
    *,
    judges: Path | str | None = None,
    folds: int = 3,
    steps: int = 400,
    arch: str = "Unet",
    encoder: str = "resnet18",
    layer: str | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Manifest:
    """Write `synthetic` with score columns to `out`; a set that is whole already is read back.

    Columns: score:dice (mean over layers with a reference of 2 sum tp / (2 sum tp + sum fp + sum fn) over the layer's
    structures), score:dice/<layer>/<structure>; both blank where neither the mask nor the condition holds a structure.
    score:area_inside, score:components_inside: share of an image's structures whose area and number of pieces lie in
    the range of the real training masks. score:max_correlation, origin:nearest (digest of that training image),
    score:fold (judge). Images and masks are referenced, not copied.

    Args:
        synthetic: the set to judge; without masks it only gets its similarity to training images.
        real: only rows of its train split are used.
        out: folder of the result.
        judges: folder of the judges' weights; default `out`/judges.
        folds, steps, arch, encoder, layer, size, seed: see `Judges`; default size: that of the first synthetic image.
    """
    from synthrad.data.cache import ImageCache
    from synthrad.tasks.judges import Judges, dice_columns, digest_of, fit_judges

    out = Path(out)
    train = _training_rows(synthetic, real)
    layers = _judged_layers(synthetic, train, layer)
    settings = Judges(folds, steps, arch, encoder, layer, _size(synthetic, size), seed)
    identity = digest_of(["score", VERSION, synthetic.digest, train.digest, asdict(settings)])
    done = _finished(out, identity, (synthetic, real))
    if done is not None:
        print(f"{out}: scored already, {len(done)} images")
        return done
    drawn_cache, train_cache = ImageCache(synthetic, settings.size), ImageCache(train, settings.size)
    columns, fold_of_row, of_train = _similarity(train, drawn_cache, train_cache, settings)
    facts: dict[str, Any] = {"identity": identity, **asdict(settings), "size": list(settings.size)}
    lineage = synthetic.info.lineage
    if layers:
        columns |= _ranges(synthetic, train, drawn_cache, train_cache, layers)
        nets, fitted = fit_judges(train, train_cache, of_train, layers, settings, Path(judges or out / "judges"))
        columns |= dice_columns(nets, drawn_cache, fold_of_row, layers, synthetic, "judging synthetic images")
        facts["dice_real"] = _quantiles(dice_columns(nets, train_cache, of_train, layers, train, "judging real images")["score:dice"])
        lineage = lineage + Lineage(fitted)
    else:
        print("dice, area_inside and components_inside are left out: the set has no masks")
    lineage = replace(lineage, settings={**lineage.settings, "score": facts})
    scored = Manifest(synthetic.table.assign(**columns), replace(synthetic.info, lineage=lineage))
    scored.write(out)
    _print(scored, facts)
    return Manifest.read(out)


def _training_rows(synthetic: Manifest, real: Manifest) -> Manifest:
    """The rows that everything is compared with; checks that both sets speak of the same things."""
    if not len(synthetic):
        raise InputError(
            "SYNTHETIC",
            "a set without images",
            "at least one synthetic image",
            "draw some: `synthrad sample`",
        )
    if (synthetic.column("source") != "synthetic").any():
        raise InputError("SYNTHETIC", "real images in the set", "a synthetic set", "swap it with --real")
    for key in ("classes", "channels", "layers"):
        mine, theirs = getattr(synthetic.info, key), getattr(real.info, key)
        if mine != theirs and (mine or key != "layers"):  # a set without masks may lack the layers
            raise InputError(
                f"{key} of {synthetic.info.name!r}",
                str(mine),
                f"{theirs}, as in --real",
                "prepare or draw both with the same classes, channels and layers",
            )
    train = real.where(split="train", source="real")
    if not len(train):
        raise InputError(
            "--real",
            "no real images in its train split",
            "a prepared manifest with a train split",
            "run `synthrad prepare` with --fractions",
        )
    return train


def _judged_layers(synthetic: Manifest, train: Manifest, layer: str | None) -> dict[str, tuple[str, ...]]:
    """Layers that the set has masks of; {} for a set without masks."""
    known = synthetic.info.layers
    if layer is not None and layer not in train.info.layers:
        raise InputError(
            "--layer", repr(layer), f"one of {', '.join(train.info.layers) or '(no layer at all)'}"
        )
    asked = [layer] if layer is not None else list(known)
    return {
        k: known[k] for k in asked if k in known and known[k] and (synthetic.column(f"mask:{k}") != "").any()
    }


def _size(synthetic: Manifest, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is not None:
        if min(size) < STRIDE or size[0] % STRIDE or size[1] % STRIDE:
            raise InputError("--size", f"{size[0]} {size[1]}", f"height and width as multiples of {STRIDE}")
        return int(size[0]), int(size[1])
    from synthrad.data.images import image_size

    height, width = image_size(synthetic[0].channels[0])
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def _finished(out: Path, identity: str, inputs: tuple[Manifest, Manifest]) -> Manifest | None:
    """The result, if `out` holds this very one; refuses to overwrite a manifest that is not a result of `score`."""
    if any(Path(m.info.roots["here"]).resolve() == out.resolve() for m in inputs if "here" in m.info.roots):
        raise InputError("--out", str(out), "another folder than SYNTHETIC and --real", "choose a new folder")
    if not (out / "dataset.yaml").is_file():
        return None
    old = Manifest.read(out)
    facts = old.info.lineage.settings.get("score")
    if facts is None:
        raise InputError(
            "--out", f"{out}, a manifest that `score` did not write", "a new folder", "choose another --out"
        )
    return old if facts["identity"] == identity else None


class _Rows:
    """A cache as the array [n, C, h, w] that `nearest_images` slices: blocks are read when asked for."""

    def __init__(self, cache: ImageCache):
        self.cache = cache
        self.shape = (len(cache), *cache.image(0).shape)

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.stack([self.cache.image(i) for i in range(*rows.indices(len(self)))])


def nearest_training(drawn: ImageCache, train: ImageCache) -> Nearest:
    """Nearest training image of each synthetic image, mirrored ones counted: generators learn from mirrored images."""
    from synthrad.metrics.similarity import nearest_images
    from synthrad.progress import progress

    with progress(total=len(drawn), desc="comparing with training images", unit="image") as bar:
        return nearest_images(_Rows(drawn), _Rows(train), flip=True, progress=bar.update)


def _similarity(
    train: Manifest, drawn: ImageCache, real: ImageCache, settings: Judges
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Similarity columns; the judge of each synthetic row; the judge that left out each training row."""
    from synthrad.tasks.judges import fold_of_subjects

    subjects = train.column("subject")
    folds = fold_of_subjects(list(subjects), settings.folds, settings.seed)
    of_train = np.array([folds[s] for s in subjects])
    found = nearest_training(drawn, real)
    columns = {
        "score:max_correlation": found.correlation.astype(float),
        "score:fold": of_train[found.index].astype(float),
        "origin:nearest": train.column("digest")[found.index],
    }
    return columns, of_train[found.index], of_train


def _ranges(
    synthetic: Manifest,
    train: Manifest,
    drawn: ImageCache,
    real: ImageCache,
    layers: dict[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Columns area_inside and components_inside: both sets are measured at the same size."""
    from synthrad.metrics.regions import area_shares, component_counts, ranges, share_inside
    from synthrad.progress import progress
    from synthrad.tasks.judges import places

    sizes = [len(s) for s in layers.values()]

    def measure(manifest: Manifest, cache: ImageCache, title: str) -> tuple[np.ndarray, np.ndarray]:
        areas, counts, at = [], [], places(manifest, layers)
        for i in progress(range(len(cache)), desc=title, unit="image"):
            masks = cache.masks(i)[at]
            areas.append(np.concatenate([area_shares(m, n) for m, n in zip(masks, sizes, strict=True)]))
            counts.append(np.concatenate([component_counts(m, n) for m, n in zip(masks, sizes, strict=True)]))
        return np.array(areas), np.array(counts)

    ours = measure(synthetic, drawn, "measuring synthetic masks")
    theirs = measure(train, real, "measuring real masks")
    names = ("score:area_inside", "score:components_inside")
    return {n: share_inside(a, *ranges(b)) for n, a, b in zip(names, ours, theirs, strict=True)}


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    return {
        f"q{int(100 * q):02d}": round(float(np.quantile(known, q)), 4) for q in (0.05, 0.25, 0.5, 0.75, 0.95)
    }


def _print(scored: Manifest, facts: dict[str, Any]) -> None:
    """Quantiles of every score, and how well the judges do on real images."""
    print(f"{'score':<44}{'known':>7}{'5 %':>9}{'median':>9}{'95 %':>9}")
    for name in scored.names("score"):
        values = scored.column(f"score:{name}")
        q = _quantiles(values)
        if name != "fold" and q is not None:
            print(
                f"{name:<44}{int((~np.isnan(values)).sum()):>7}{q['q05']:>9.3f}{q['q50']:>9.3f}{q['q95']:>9.3f}"
            )
    if q := facts.get("dice_real"):
        print(
            f"{'dice of real images, judged alike':<44}{'':>7}{q['q05']:>9.3f}{q['q50']:>9.3f}{q['q95']:>9.3f}"
        )


def parser() -> argparse.ArgumentParser:
    """Flags of `synthrad score`."""
    p = argparse.ArgumentParser(
        prog="synthrad score",
        description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("synthetic", metavar="SYNTHETIC", help="manifest folder of the set to judge")
    p.add_argument(
        "--real", required=True, help="manifest folder of the real dataset; its train split is used"
    )
    p.add_argument(
        "--out", required=True, help="folder of the result; images and masks are referenced, not copied"
    )
    p.add_argument("--folds", type=int, default=3, help="judges, each leaving out a part of the subjects (3)")
    p.add_argument("--steps", type=int, default=400, help="optimizer steps a judge (400)")
    p.add_argument("--arch", default="Unet", help="architecture of segmentation_models_pytorch (Unet)")
    p.add_argument("--encoder", default="resnet18", help="encoder, randomly initialised (resnet18)")
    p.add_argument("--layer", help="mask layer to judge (all)")
    p.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="size of comparison (the images' own)"
    )
    p.add_argument("--seed", type=int, default=0, help="of folds and judges (0)")
    return p


def run(argv: list[str]) -> int:
    """Run `synthrad score`."""
    args = parser().parse_args(argv)
    synthetic, real = Manifest.read(args.synthetic), Manifest.read(args.real)
    for flag, value in (("--steps", args.steps), ("--folds", args.folds)):
        if value < 1:
            raise InputError(flag, str(value), "a positive number")
    score(
        synthetic,
        real,
        args.out,
        folds=args.folds,
        steps=args.steps,
        arch=args.arch,
        encoder=args.encoder,
        layer=args.layer,
        size=tuple(args.size) if args.size else None,
        seed=args.seed,
    )
    return 0
