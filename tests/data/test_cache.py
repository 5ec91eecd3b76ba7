import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import synthrad.data.cache as cache_module
from synthrad.data.cache import ImageCache
from synthrad.data.images import files_digest
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


def make(folder, rows=5, size=(20, 30), dtype=np.uint8, name="set", source="real", seed=0):
    rng = np.random.default_rng(seed)
    (folder / "masks").mkdir(parents=True)
    top = 255 if dtype == np.uint8 else 60000
    info = DatasetInfo(
        name,
        name,
        layers={"lesion": ("a", "b"), "organ": ("c",)},
        roots={"here": str(folder)},
        intensity={"low": 0.0, "high": float(top)},
    )
    columns = empty_columns(info, rows)
    for i in range(rows):
        Image.fromarray(rng.integers(0, top, size).astype(dtype)).save(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 3, size).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
        columns["channel:image"][i] = f"{i}.png"
        columns["mask:lesion"][i] = f"masks/{i}.png" if i else ""
        columns["subject"][i], columns["split"][i], columns["source"][i] = f"s{i}", "train", source
        columns["digest"][i] = files_digest([folder / f"{i}.png"])
        columns["mask_digest"][i] = files_digest([folder / "masks" / f"{i}.png", None]) if i else ""
    return Manifest(pd.DataFrame(columns), info)


@pytest.fixture
def decodes(monkeypatch):
    seen = []
    read = cache_module.read_image
    monkeypatch.setattr(cache_module, "read_image", lambda p: seen.append(p) or read(p))
    return seen


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_own_depth_masks_and_scaling(tmp_path, dtype):
    manifest = make(tmp_path / "m", dtype=dtype)
    cache = ImageCache(manifest, (20, 30))
    stored = np.array(Image.open(manifest[2].channels[0]))
    assert cache.image(2).dtype == dtype and (cache.image(2)[0] == stored).all()
    high = manifest.info.intensity["high"]
    assert np.abs(cache.scaled(2)[0] - (stored / high * 2 - 1)).max() < 1e-5
    assert cache.scaled(2).dtype == np.float32
    assert (cache.masks(2)[0] == np.array(Image.open(manifest[2].masks[0]))).all()
    assert (cache.masks(2)[1] == 255).all() and (cache.masks(0) == 255).all()
    assert cache.masks(2).shape == (2, 20, 30) and len(cache) == 5
    assert np.array_equal(cache.image_batch([3, 0, 3]), np.stack([cache.image(i) for i in (3, 0, 3)])) and cache.image_batch([1]).dtype == dtype
    assert np.array_equal(cache.mask_batch([3, 0, 3]), np.stack([cache.masks(i) for i in (3, 0, 3)]))


def test_a_second_cache_and_repeated_rows_decode_nothing(tmp_path, decodes):
    manifest = make(tmp_path / "m")
    ImageCache(manifest.take([0, 1, 1, 1, 2]), (10, 10))
    assert len(decodes) == 3
    again = ImageCache(manifest.take([2, 1, 0]), (10, 10))
    assert len(decodes) == 3
    assert (again.image(0) == ImageCache(manifest, (10, 10)).image(2)).all()
    assert len(decodes) == 5


def test_a_fused_manifest_shares_the_store(tmp_path, decodes):
    real, synthetic = make(tmp_path / "r"), make(tmp_path / "s", name="syn", source="synthetic", seed=1)
    store = tmp_path / "store"
    ImageCache(real, (10, 10), store), ImageCache(synthetic, (10, 10), store)
    count = len(decodes)
    both = ImageCache(real + synthetic, (10, 10), store)
    assert len(decodes) == count
    assert (both.image(6) == ImageCache(synthetic, (10, 10), store).image(1)).all()
    assert (both.masks(6) == ImageCache(synthetic, (10, 10), store).masks(1)).all()
    rows = [6, 1, 9, 1, 0]  # of two segments
    assert np.array_equal(both.image_batch(rows), np.stack([both.image(i) for i in rows]))
    assert np.array_equal(both.mask_batch(rows), np.stack([both.masks(i) for i in rows]))


def test_a_batch_of_two_depths_has_that_of_the_deepest(tmp_path):
    manifest = make(tmp_path / "m")
    deep = np.random.default_rng(3).integers(0, 60000, (20, 30)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "m" / "2.png")
    digests = [files_digest([tmp_path / "m" / f"{i}.png"]) for i in range(5)]
    cache = ImageCache(Manifest(manifest.table.assign(digest=digests, mask_digest=""), manifest.info), (20, 30))
    made = cache.image_batch([1, 2, 3])
    assert made.dtype == np.uint16 and np.array_equal(made[1, 0], deep)
    assert np.array_equal(made[[0, 2]], np.stack([cache.image(1), cache.image(3)]).astype(np.uint16)) and cache.image(1).dtype == np.uint8


def test_torn_segments_are_ignored_and_rebuilt(tmp_path):
    manifest = make(tmp_path / "m")
    whole = ImageCache(manifest, (10, 10)).image(3)
    for marker in (tmp_path / "m" / ".cache").glob("images-*/*.json"):
        marker.unlink()
        marker.with_suffix(".npy").write_bytes(b"torn")
    assert (ImageCache(manifest, (10, 10)).image(3) == whole).all()


def test_an_array_that_was_cut_is_decoded_again(tmp_path):
    manifest = make(tmp_path / "m")
    whole = [ImageCache(manifest, (10, 10)).image(i) for i in range(5)]
    for array in (tmp_path / "m" / ".cache").rglob("*.npy"):
        array.write_bytes(array.read_bytes()[:200])
    again = ImageCache(manifest, (10, 10))
    assert all((again.image(i) == whole[i]).all() for i in range(5))


@pytest.mark.parametrize("which", ["0.png", "masks/2.png"])
def test_a_file_that_changed_after_prepare_is_refused(tmp_path, which):
    manifest = make(tmp_path / "m")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "m" / which)
    with pytest.raises(InputError, match=f"{which.split('/')[-1]}: found a file that has changed"):
        ImageCache(manifest, (10, 10))


def test_a_failed_build_leaves_nothing(tmp_path):
    manifest = make(tmp_path / "m")
    manifest[4].channels[0].write_bytes(b"broken")
    with pytest.raises(InputError, match="4.png"):
        ImageCache(manifest, (10, 10))
    assert not [p for p in (tmp_path / "m" / ".cache").rglob("*") if p.is_file()]


def test_concurrent_builders(tmp_path):
    manifest = make(tmp_path / "m", rows=20)
    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(lambda _: ImageCache(manifest, (16, 16)), range(4)))
    assert all((c.image(7) == caches[0].image(7)).all() for c in caches)
    lists = [json.loads(p.read_text()) for p in (tmp_path / "m" / ".cache").glob("images-*/*.json")]
    assert len(lists) == 1 and len(lists[0]) == 20


def test_mask_faults_name_the_file(tmp_path):
    manifest = make(tmp_path / "m")
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(manifest[1].masks[0])
    with pytest.raises(InputError, match=r"1\.png.*value 9"):
        ImageCache(manifest, (10, 10))
    Image.fromarray(np.zeros((20, 31), np.uint8)).save(manifest[1].masks[0])
    with pytest.raises(InputError, match=r"1\.png.*31 x 20"):
        ImageCache(manifest, (10, 10))


def test_size_policy_and_missing_digests_have_their_own_entries(tmp_path):
    manifest = make(tmp_path / "m")
    boxed = ImageCache(manifest, (16, 16)).image(1)
    squeezed = ImageCache(Manifest(manifest.table, replace(manifest.info, resize="squeeze")), (16, 16)).image(
        1
    )
    assert (boxed[0, 0] == 0).all() and (squeezed[0, 0] > 0).any()
    blank = manifest.with_columns({"digest": "", "mask_digest": ""})
    assert (ImageCache(blank, (16, 16)).image(1) == boxed).all()


def test_a_worker_gets_no_pixels_by_pickle(tmp_path):
    cache = ImageCache(make(tmp_path / "m", size=(300, 300)), (256, 256))
    before = cache.image(1)
    data = pickle.dumps(cache)
    assert len(data) < 60_000
    assert (pickle.loads(data).image(1) == before).all()
