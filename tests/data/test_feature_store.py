import numpy as np

from synthrad.data.feature_store import AT_ONCE, FeatureStore


def test_rows_are_computed_once_in_any_order_and_read_by_others(tmp_path):
    asked = []

    def encode(numbers):
        asked.append(list(numbers))
        return np.stack([np.full((2, 3), n, np.float32) for n in numbers])

    keys = [f"k{i % 40}" for i in range(50)]  # some come twice
    store = FeatureStore(tmp_path / "made", (2, 3), np.float16)
    places = store.places(keys, encode)
    assert sorted(sum(asked, [])) == list(range(40)) and max(map(len, asked)) == AT_ONCE
    assert all(float(store.read(p)[0, 0]) == i % 40 for i, p in enumerate(places)) and store.read(places[0]).dtype == np.float16
    asked.clear()
    other = FeatureStore(tmp_path / "made", (2, 3), np.float16)
    places = other.places(["k39", "new"], lambda numbers: encode([100 + n for n in numbers]))
    assert asked == [[101]] and float(other.read(places[0])[1, 2]) == 39 and float(other.read(places[1])[1, 2]) == 101
    segment = next(p for p in (tmp_path / "made").glob("*.npy") if np.load(p).shape[0] == 40)
    segment.write_bytes(segment.read_bytes()[:200])  # cut: computed again
    asked.clear()
    FeatureStore(tmp_path / "made", (2, 3), np.float16).places(keys, encode)
    assert len(sum(asked, [])) == 40
