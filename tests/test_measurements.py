from synthrad.measurements import Measurement, read_measurements, write_measurements


def test_what_is_written_is_read(tmp_path):
    rows = [
        Measurement("dice", 0.1 + 0.2, 0.25, 0.35, 12, study="s", arm="matched", seed=0, class_name="tooth/crown"),
        Measurement("auroc", None, unit="set", note='0 positive, "none"\nat all'),
    ]
    write_measurements(tmp_path / "deep" / "m.jsonl", rows)
    assert read_measurements(tmp_path / "deep" / "m.jsonl") == rows
    assert len((tmp_path / "deep" / "m.jsonl").read_text().splitlines()) == 2
    write_measurements(tmp_path / "none.jsonl", [])
    assert read_measurements(tmp_path / "none.jsonl") == []
