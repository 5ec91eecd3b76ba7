import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.data.ages import age_band
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import Manifest

DOCS = Path(__file__).parents[2] / "docs" / "real_data.md"
COMMANDS = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)


def command_id(text):
    return re.search(r"OUT/(\S+)", text)[1]


@pytest.mark.parametrize("text", COMMANDS, ids=command_id)
def test_the_documented_commands_take_the_real_packs(text, real_data, tmp_path, capsys):
    words = shlex.split(
        text.replace("\\\n", " ").replace("$DATA", str(real_data)).replace("OUT/", f"{tmp_path}/")
    )
    assert words[0] == "synthrad"
    assert main([*words[1:], "--skip-near-copies"]) == 0, capsys.readouterr().err
    manifest = Manifest.read(tmp_path / command_id(text))
    source = pd.read_csv(words[3]) if words[2] == "table" else None
    if source is not None:
        assert len(manifest) == len(source)
        for k, c in enumerate(manifest.info.classes):
            assert np.nansum(manifest.labels[:, k]) == source[c].sum()
    for layer, structures in manifest.info.layers.items():
        covered = np.nansum([manifest.column(f"area:{layer}/{s}") for s in structures], axis=0)
        row = int(np.argmax(covered))
        mask = np.array(Image.open(manifest[row].masks[list(manifest.info.layers).index(layer)]))
        assert covered[row] > 0 and abs((mask > 0).mean() - covered[row]) < 1e-9
    split = manifest.table.groupby("subject")["split"].nunique()
    assert (split == 1).all()


def build(folder, rows=12, **columns):
    """A table of grey images with masks of values 0, 7 and 255, and its arguments."""
    (folder / "img").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(rows):
        Image.fromarray(rng.integers(0, 255, (12, 16)).astype(np.uint8)).save(folder / "img" / f"{i}.png")
        Image.fromarray(rng.choice(np.array([0, 7, 255], np.uint8), (12, 16))).save(folder / f"m{i}.png")
    table = pd.DataFrame(
        {
            "image": [f"img/{i}.png" for i in range(rows)],
            "patient": [f"p{i // 2}" for i in range(rows)],
            "mask": [f"m{i}.png" if i else "" for i in range(rows)],
            "caries": ["1", "0", ""] * (rows // 3),
            "sex": ["F", "M", "?"] * (rows // 3),
            "age": [str(20 + 5 * i) for i in range(rows)],
        }
    ).assign(**columns)
    table.to_csv(folder / "t.csv", index=False)
    return table


FLAGS = [
    "--subject",
    "patient",
    "--mask",
    "mask",
    "--mask-classes",
    "abnormality:7=deep,255=caries",
    "--labels",
    "caries",
    "--attributes",
    "sex",
    "--unknown",
    "?",
    "--age-bands",
    "40",
    "60",
]


def prepare(folder, *flags, out="out", base=FLAGS, table="t.csv"):
    return main(["prepare", "table", str(folder / table), str(folder.parent / out), *base, *flags])


def test_values_areas_attributes_and_unknowns(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.layers == {"abnormality": ("deep", "caries")} and manifest.info.id == "d"
    assert manifest.info.attributes == ("sex", "age_band")
    assert manifest[0].masks == (None,) and manifest[0].mask_digest == "" and manifest[0].areas == {}
    mask, source = (np.array(Image.open(p)) for p in (manifest[3].masks[0], tmp_path / "d" / "m3.png"))
    assert ((mask == 1) == (source == 7)).all() and ((mask == 2) == (source == 255)).all()
    assert manifest[3].areas["abnormality/caries"] == (source == 255).mean()
    assert [manifest[i].labels[0] for i in range(3)] == [1, 0, None]
    assert [manifest[i].attributes.get("sex") for i in range(3)] == ["F", "M", None]
    assert manifest[0].attributes["age_band"] == "<40" and manifest[11].attributes["age_band"] == "60+"
    assert set(manifest.column("split")) == {"train", "val", "audit", "test"}
    assert manifest[0].channels[0] == (tmp_path / "d" / "img" / "0.png").resolve()
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".draft")]


def test_the_same_command_writes_the_same_manifest_and_parquet_reads_alike(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d") == prepare(tmp_path / "d", out="again") == 0
    first = Manifest.read(tmp_path / "out")
    assert first.digest == Manifest.read(tmp_path / "again").digest
    table = pd.read_csv(tmp_path / "d" / "t.csv")  # floats with NaN, as others save them
    table.to_parquet(tmp_path / "d" / "t.parquet")
    assert prepare(tmp_path / "d", out="again", table="t.parquet") == 0
    assert first.digest == Manifest.read(tmp_path / "again").digest


def test_all_faults_at_once(tmp_path, capsys):
    table = build(tmp_path / "d", split=["train"] * 12)
    table.loc[1, "image"] = "img/none.png"
    table.loc[2, "caries"] = "maybe"
    table.loc[4, "patient"] = ""
    table.loc[7, "split"] = "test"
    table.loc[8, "split"] = "holdout"
    table.loc[9, "age"] = "old"
    table.loc[10, "image"] = "../x.png"
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    Image.fromarray(np.full((12, 16), 9, np.uint8)).save(tmp_path / "d" / "m3.png")
    Image.fromarray(np.zeros((12, 17), np.uint8)).save(tmp_path / "d" / "m5.png")
    (tmp_path / "d" / "img" / "6.png").write_bytes(b"torn")
    assert prepare(tmp_path / "d", "--split", "split") == 2
    text = capsys.readouterr().err
    for row, words in {
        3: "none.png",
        4: "'maybe'",
        6: "blank",
        9: "subject 'p3'",
        10: "'holdout'",
        11: "'old'",
        12: "outside",
        5: "pixel value(s) 9; expected 0 or a value declared for layer 'abnormality': 7=deep, 255=caries",
        7: "17 x 12",
        8: "6.png",
    }.items():
        assert any(f"row {row}, " in line and words in line for line in text.splitlines()), (row, words, text)
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def test_faults_name_lines_where_the_table_has_blank_ones(tmp_path, capsys):
    table = build(tmp_path / "d")
    table.loc[3, "caries"] = "maybe"
    lines = table.to_csv(index=False).splitlines()
    (tmp_path / "d" / "t.csv").write_text("\n".join([*lines[:2], "", "", *lines[2:]]))
    assert prepare(tmp_path / "d") == 2
    assert "row 7, column 'caries': found 'maybe'" in capsys.readouterr().err


def test_columns_of_one_name_are_refused_where_they_are_used_and_blanks_in_names_do_not_count(tmp_path, capsys):
    table = build(tmp_path / "d", note="", other="")
    table.columns = [" image ", "patient", "mask", "caries", "sex", "age", "note", "note"]
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    assert prepare(tmp_path / "d") == 0
    table.columns = ["image", "patient", "mask", "caries", "sex", "age", "caries ", "note"]
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    assert prepare(tmp_path / "d") == 2
    assert "column 'caries' (--labels): twice in the header" in capsys.readouterr().err


def test_links_out_of_the_root_are_refused_and_a_linked_root_is_not(tmp_path, capsys):
    build(tmp_path / "d")
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "d" / "img" / "3.png").read_bytes())
    (tmp_path / "d" / "img" / "3.png").unlink()
    (tmp_path / "d" / "img" / "3.png").symlink_to("../../elsewhere.png")
    assert prepare(tmp_path / "d") == 2
    text = capsys.readouterr().err
    assert f"a link to {tmp_path / 'elsewhere.png'}, outside" in text and "1 fault(s)" in text
    (tmp_path / "d" / "img" / "3.png").unlink()
    (tmp_path / "elsewhere.png").rename(tmp_path / "d" / "3.png")
    (tmp_path / "d" / "img" / "3.png").symlink_to("../3.png")
    (tmp_path / "link").symlink_to("d")
    assert prepare(tmp_path / "link") == 0


@pytest.mark.parametrize("flags", [["--root", "ROOT"], []])
def test_the_same_fault_in_many_rows_is_one_line(tmp_path, capsys, flags):
    table = build(tmp_path / "d", rows=60)
    if flags:
        table["mask"] = ""
        (tmp_path / "wrong").mkdir()
    else:
        table["image"] = table["image"].str.replace("/", "\\")
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    assert prepare(tmp_path / "d", *(f.replace("ROOT", str(tmp_path / "wrong")) for f in flags)) == 2
    text = capsys.readouterr().err
    assert "60 fault(s)" in text and "60 rows, first row 2: column 'image': " in text and len(text.splitlines()) == 3
    assert flags or "replace \\ by /" in text


def test_size_bins_become_an_attribute(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d", "--size-bins", "abnormality/caries:0.32,0.35") == 0
    manifest = Manifest.read(tmp_path / "out")
    sizes, areas = (manifest.column(f"{c}abnormality/caries{e}") for c, e in (("attribute:size(", ")"), ("area:", "")))
    wanted = ["" if np.isnan(a) else "none" if a == 0 else "..0.32" if a < 0.32 else "0.32..0.35" if a < 0.35 else "0.35.."
              for a in areas]
    assert list(sizes) == wanted and len(set(wanted)) >= 3, wanted


def test_a_fault_leaves_the_older_manifest_alone(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d") == 0
    before = Manifest.read(tmp_path / "out").digest
    (tmp_path / "d" / "img" / "6.png").unlink()
    assert prepare(tmp_path / "d") == 2
    after = Manifest.read(tmp_path / "out")
    assert after.digest == before and after[3].masks[0].is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--labels", "caris"], "did you mean caries?"),
        (["--subject", "pat"], "did you mean patient?"),
        (["--labels", "caries", "caries"], "--labels caries caries: the same column twice"),
        (["--image", "image", "image"], "--image image image: the same column twice"),
        (["--mask-classes", "abnormality:0=x"], "outside 1-65535"),
        (["--mask-classes", "255=x"], "LAYER"),
        (["--mask", "mask", "mask"], "one column a layer"),
        (["--mask-classes", "a:1=x", "a:2=y"], "a layer twice"),
        (["--split", "sex", "--fractions", "1", "0", "0", "0"], "one of them"),
        (["--synthetic"], "both or neither"),
        (["--fractions", "0.5", "0.5", "0.5", "0"], "sum to 1"),
        (["--intensity", "9", "3"], "LOW below HIGH"),
        (["--size-bins", "caries:0.1"], "a structure among ['abnormality/deep', 'abnormality/caries']"),
        (["--size-bins", "abnormality/caries:0.2,0.1"], "increasing edges"),
    ],
)
def test_bad_flags(tmp_path, capsys, flags, words):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d", *flags) == 2
    assert words in capsys.readouterr().err


def test_masks_without_classes_ask_for_them(tmp_path, capsys):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d", base=["--mask", "mask"]) == 2
    text = capsys.readouterr().err
    assert "add --mask-classes LAYER:VALUE=NAME" in text and "repeat a column" not in text


def test_grades_are_not_first_of_all_unknown(tmp_path, capsys):
    build(tmp_path / "d", caries=["0", "1", "2"] * 4)
    assert prepare(tmp_path / "d") == 2
    assert "found '2', expected 0, 1 or blank; make a column of 0 and 1 for each grade" in capsys.readouterr().err


def test_an_output_folder_with_other_files_is_refused(tmp_path, capsys):
    build(tmp_path / "d")
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / "mine.png").write_bytes(b"")
    assert prepare(tmp_path / "d") == 2
    assert (tmp_path / "out" / "masks" / "mine.png").exists()
    assert prepare(tmp_path / "d", out="d") == 2


def test_copy_stands_alone(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d", "--copy") == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    manifest = Manifest.read(tmp_path / "moved")
    assert all(p.is_file() and tmp_path / "moved" in p.parents for r in manifest for p in r.channels)
    assert list(manifest.info.roots) == ["here"]


def test_channels_ranges_and_two_layers_of_one_column(tmp_path):
    build(tmp_path / "d", second=[f"img/{i}.png" for i in range(12)])
    base = [
        "--subject",
        "patient",
        "--image",
        "image",
        "second",
        "--channel-names",
        "t1",
        "t2",
        "--mask",
        "mask",
        "mask",
        "--mask-classes",
        "any:1-255=lesion",
        "kind:7,255",
    ]
    assert prepare(tmp_path / "d", base=base) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.channels == ("t1", "t2") and len(manifest[0].channels) == 2
    assert manifest.info.layers == {"any": ("lesion",), "kind": ("7", "255")}
    areas = manifest[3].areas
    assert areas["any/lesion"] == pytest.approx(areas["kind/7"] + areas["kind/255"])


def test_sixteen_bit_needs_a_range(tmp_path, capsys):
    build(tmp_path / "d")
    Image.fromarray(np.full((12, 16), 3000, np.uint16)).save(tmp_path / "d" / "img" / "4.png")
    assert prepare(tmp_path / "d") == 2
    assert "--intensity 0 3000" in capsys.readouterr().err
    assert prepare(tmp_path / "d", "--intensity", "0", "4095", "--resize", "squeeze") == 0
    info = Manifest.read(tmp_path / "out").info
    assert info.intensity == {"low": 0.0, "high": 4095.0} and info.resize == "squeeze"


def test_a_synthetic_set_made_elsewhere(tmp_path):
    build(tmp_path / "d")
    assert prepare(tmp_path / "d", "--resize", "squeeze") == 0
    real = Manifest.read(tmp_path / "out")
    base = [
        "--synthetic",
        "--trained-on",
        str(tmp_path / "out"),
        "--like",
        str(tmp_path / "out"),
        "--labels",
        "caries",
        "--unknown",
        "?",
        "--mask",
        "mask",
        "--mask-classes",
        "abnormality:255=caries,7=deep",
        "--name",
        "gan",
    ]
    assert prepare(tmp_path / "d", base=base, out="fake") == 0
    fake = Manifest.read(tmp_path / "fake")
    assert set(fake.column("split")) == {"train"} and set(fake.column("source")) == {"synthetic"}
    assert (
        fake.info.layers == real.info.layers
        and fake.info.resize == "squeeze"
        and fake.info.lineage.origin == "declared"
    )
    train = real.where(split="train")
    assert fake.info.lineage.trained_on() == hash_subjects("d", train.column("subject"), project_key())
    assert fake.info.lineage.fingerprints() == set(train.column("digest"))
    assert len(real + fake) == 24
    base[2] = "unknown"
    assert prepare(tmp_path / "d", base=base, out="fake") == 0
    assert Manifest.read(tmp_path / "fake").info.lineage.origin == "unknown"


def test_age_bands():
    assert [age_band(a, [60, 40]) for a in (39, 40, 59.5, 60)] == ["<40", "40-59", "40-59", "60+"]
