import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from synthrad import documents
from synthrad.__main__ import main
from synthrad.data.readers.chexpert import CLASSES, LABELS, soft_label
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.records import Manifest

PLUS = ["path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
        "section_narrative", "section_clinical_history", "section_history", "section_comparison", "section_technique",
        "section_procedure_comments", "section_findings", "section_impression", "section_end_of_impression", "section_summary",
        "section_accession_number", "age", "sex", "race", "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased",
        "split"]


def picture(path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (12, 14)).astype(np.uint8)).save(path)


def write(path, header, rows):
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([header, *rows])


def views(patients, first=1):
    """(patient, study, view, side, projection): two studies of each patient, the second with a lateral view."""
    for p in range(first, first + patients):
        yield f"patient{p:05d}", "study1", "view1_frontal", "Frontal", "AP"
        yield f"patient{p:05d}", "study2", "view1_frontal", "Frontal", "PA"
        yield f"patient{p:05d}", "study2", "view2_lateral", "Lateral", ""


def told(k):
    """Labels of row k: edema is -1, 1, 0 and blank in turn, cardiomegaly always uncertain."""
    return {"Edema": ["-1.0", "1.0", "0.0", ""][k % 4], "Cardiomegaly": "-1.0", "No Finding": "1.0" if k % 4 == 3 else ""}


def build(root):
    """CheXpert-v1.0-small: paths in the CSV start with the folder's name."""
    rng = np.random.default_rng(0)
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
    for split, found in (("train", list(views(12))), ("valid", list(views(3, 64541)))):
        rows = []
        for k, (patient, study, view, side, projection) in enumerate(found):
            name = f"{split}/{patient}/{study}/{view}.jpg"
            picture(root / name, rng)
            labels = told(k) if split == "train" else {"Edema": "1.0", "Cardiomegaly": "0.0"}
            rows.append([f"CheXpert-v1.0-small/{name}", ["Male", "Female", "Unknown"][k % 3], [68, 0, 41][k % 3], side, projection,
                         *[labels.get(n, "") for n in LABELS]])
        write(root / f"{split}.csv", header, rows)
    return root


def prepare(root, out, *flags):
    return main(["prepare", "chexpert", str(root), str(out), "--skip-near-copies", *flags])


def label(manifest, name):
    return manifest.labels[:, manifest.info.classes.index(name)]


def test_labels_views_patients_and_the_choices_are_told(tmp_path, capsys):
    root = tmp_path / "stanford"  # the folder above theirs
    build(root / "CheXpert-v1.0-small")
    assert prepare(root, tmp_path / "out", "--age-bands", "50") == 0
    said = capsys.readouterr().out
    assert "--view frontal: 15 of 45 images left out" in said
    assert "--uncertain ignore:" in said and "--blank unknown:" in said
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == CLASSES and manifest.info.id == "chexpert" and len(manifest) == 30
    assert {r.subject for r in manifest} == {f"patient{p:05d}" for p in (*range(1, 13), 64541, 64542, 64543)}
    first = manifest[0]
    assert first.channels[0].name == "view1_frontal.jpg" and first.attributes == {"sex": "M", "age": "68", "age_band": "50+", "view": "AP"}
    assert manifest[1].attributes == {"sex": "F", "view": "PA"}  # an age of 0 is unknown
    assert label(manifest, "Edema")[1] == 1 and np.isnan(label(manifest, "Edema")[0]) and np.isnan(label(manifest, "Fracture")).all()
    assert prepare(root, tmp_path / "side", "--view", "lateral") == 0
    side = Manifest.read(tmp_path / "side")
    assert len(side) == 15 and {r.attributes["view"] for r in side} == {"lateral"}


@pytest.mark.parametrize(("policy", "value"), [("ones", 1), ("zeros", 0), ("ignore", np.nan), ("smoothed", 1)])
def test_policies_hold_for_training_rows_alone(tmp_path, policy, value):
    build(tmp_path / "c")
    assert prepare(tmp_path / "c", tmp_path / "out", "--uncertain", policy, "--blank", "zeros", "--official-split") == 0
    manifest = Manifest.read(tmp_path / "out")
    split, doubtful = manifest.column("split"), label(manifest, "Cardiomegaly")
    assert {r.subject for r in manifest.where(split="test")} == {"patient64541", "patient64542", "patient64543"}
    assert np.array_equal(doubtful[split == "train"], np.full((split == "train").sum(), value), equal_nan=True)
    assert np.isnan(doubtful[(split == "val") | (split == "audit")]).all() and (doubtful[split == "test"] == 0).all()
    assert (label(manifest, "Fracture") == 0).all()
    soft = manifest.training_labels[split == "train", CLASSES.index("Cardiomegaly")]
    if policy == "smoothed":
        assert (soft >= 0.55).all() and (soft <= 0.85).all()
    else:  # settled labels are marked, so that another split can take them back
        assert np.array_equal(soft, doubtful[split == "train"], equal_nan=True)
    assert bool(manifest.names("soft")) == (policy != "ignore")


def test_near_copies_in_train_and_valid(tmp_path, capsys):
    root = build(tmp_path / "CheXpert-v1.0-small")
    for patient, other in (("train/patient00001", "train/patient00002"), ("valid/patient64541", "train/patient00003")):
        pixels = np.array(Image.open(root / patient / "study1/view1_frontal.jpg"))
        Image.fromarray(pixels[:, ::-1]).save(root / other / "study1/view1_frontal.jpg", quality=95)
    words = ["prepare", "chexpert", str(tmp_path / "CheXpert-v1.0-small"), str(tmp_path / "out"), "--uncertain", "ones"]
    assert main(words) == 0 and "2 pair(s) of near copies under two subjects, each in one split" in capsys.readouterr().out
    assert main([*words, "--official-split"]) == 2 and "1 fault(s)" in capsys.readouterr().err
    assert main([*words, "--official-split", "--drop-near-copies"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 29 and len(manifest.where(split="test")) == 6
    assert [r.channels[0].parts[-2] for r in manifest if r.subject == "patient00003"] == ["study2"]


def test_smoothed_labels_are_drawn_by_seed_and_path(tmp_path):
    build(tmp_path / "c")
    for out, seed in (("a", "0"), ("b", "0"), ("d", "1")):
        assert prepare(tmp_path / "c", tmp_path / out, "--uncertain", "smoothed", "--seed", seed, "--fractions", "0.7", "0.1", "0.1", "0.1") == 0
    a, b, d = (Manifest.read(tmp_path / out) for out in "abd")
    assert a.digest == b.digest
    k, train = CLASSES.index("Cardiomegaly"), a.column("split") == "train"
    drawn = a.training_labels[train, k]
    drawn = drawn[~np.isnan(a.column("soft:Cardiomegaly")[train].astype(float))]
    assert len(set(drawn)) == len(drawn) > 8 and drawn.min() >= 0.55 and drawn.max() <= 0.85
    rows = [i for i, r in enumerate(d) if r.soft and a[i].soft]
    assert rows and all(a[i].soft["Cardiomegaly"] != d[i].soft["Cardiomegaly"] for i in rows)
    many = [soft_label(0, f"patient{i}/study1/view1_frontal", "Edema") for i in range(4000)]
    assert abs(np.mean(many) - 0.7) < 0.005 and abs(np.quantile(many, 0.25) - 0.625) < 0.01  # uniform


def test_a_classifier_is_trained_towards_them(tmp_path):
    build(tmp_path / "c")
    assert prepare(tmp_path / "c", tmp_path / "out", "--uncertain", "smoothed") == 0
    data = FusionDataModule(str(tmp_path / "out"), size=(8, 8), batch_size=4, steps=8)
    data.setup("fit")
    seen = torch.cat([batch.labels for batch, _ in zip(data.train_dataloader(), range(8), strict=False)])[:, CLASSES.index("Cardiomegaly")]
    known = seen[~torch.isnan(seen)]
    assert len(known) > 8 and ((known == 0) | ((known >= 0.55) & (known <= 0.85))).all() and (known > 0).any()
    held = [c for c in data._data["val"]]
    assert held and all(torch.isnan(c.labels[CLASSES.index("Cardiomegaly")]) or c.labels[CLASSES.index("Cardiomegaly")] == 0 for c in held)


def build_plus(root):
    """CheXpert Plus: one table, PNG files where the table says .jpg, labels as JSON lines."""
    rng, rows, labels = np.random.default_rng(0), [], []
    for k, (patient, study, view, side, projection) in enumerate(views(12)):
        split = "valid" if int(patient[-2:]) > 10 else "train"
        name = f"{split}/{patient}/{study}/{view}"
        picture(root / "PNG" / f"{name}.png", rng)
        values = {"path_to_image": f"{name}.jpg", "frontal_lateral": side, "ap_pa": projection, "deid_patient_id": patient, "age": "62.0",
                  "sex": "Female", "race": "White", "ethnicity": "Non-Hispanic/Non-Latino", "split": split, "recent_bmi": "22.2",
                  "section_accession_number": "9959089", "section_findings": "1. NO EDEMA.\n\n2. A \"TUBE\", LEFT."}
        rows.append([values.get(c, "") for c in PLUS])
        labels.append({"path_to_image": f"{name}.jpg", **{n: float(told(k)[n]) if told(k).get(n) else None for n in LABELS}})
    write(root / "df_chexpert_plus_240401.csv", PLUS, rows)
    (root / "chexbert_labels").mkdir()
    (root / "chexbert_labels" / "impression_fixed.json").write_text("\n".join(map(json.dumps, labels)))
    return root


def test_plus_has_its_own_labels_demographics_and_sections(tmp_path, capsys):
    build_plus(tmp_path / "p")
    assert prepare(tmp_path / "p", tmp_path / "out", "--sections", "findings", "--official-split", "--view", "all") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 36 and {r.subject for r in manifest.where(split="test")} == {"patient00011", "patient00012"}
    assert manifest[0].attributes == {"sex": "F", "age": "62", "view": "AP", "race": "White", "ethnicity": "Non-Hispanic/Non-Latino",
                                      "section_findings": '1. NO EDEMA. 2. A "TUBE", LEFT.'}
    assert label(manifest, "Edema")[1] == 1 and label(manifest, "Edema")[2] == 0 and np.isnan(label(manifest, "Edema")[0])
    assert manifest[0].channels[0].suffix == ".png" and "9959089" not in (tmp_path / "out" / "manifest.csv").read_text()
    capsys.readouterr()
    assert prepare(tmp_path / "p", tmp_path / "out", "--labels", "report") == 2
    assert "0 files report_fixed.json" in capsys.readouterr().err
    assert prepare(tmp_path / "p", tmp_path / "out", "--labels", "none", "--demographics", "recent_bmi") == 0
    assert Manifest.read(tmp_path / "out").info.classes == () and Manifest.read(tmp_path / "out")[0].attributes["recent_bmi"] == "22.2"


def test_bad_input_is_named(tmp_path, capsys):
    root = build(tmp_path / "c")
    (root / "train" / "patient00001" / "study1" / "view1_frontal.jpg").unlink()
    text = (root / "train.csv").read_text().replace("Frontal,AP,1.0", "Frontal,AP,2.0", 1)
    (root / "train.csv").write_text(text)
    assert prepare(root, tmp_path / "out") == 2
    assert "row 2 of train.csv" in (said := capsys.readouterr().err) and "--skip-missing" in said
    assert prepare(root, tmp_path / "out", "--skip-missing") == 2
    assert "row 5 of train.csv, column 'No Finding': found '2.0'" in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--sections", "findings") == 2
    assert "CheXpert Plus" in capsys.readouterr().err
    build(tmp_path / "again")
    assert prepare(tmp_path / "again", tmp_path / "out", "--official-split", "--fractions", "0.5", "0.2", "0.1", "0.2") == 2
    assert "--fractions" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert prepare(tmp_path / "empty", tmp_path / "out") == 2
    assert "train.csv" in capsys.readouterr().err


def test_the_labels_of_plus_have_limits(tmp_path, capsys, monkeypatch):
    labels = build_plus(tmp_path / "p") / "chexbert_labels" / "impression_fixed.json"
    whole = labels.read_text()
    for line, words in (("[" * 100_000, "too deep"), ('{"path_to_image": "x", "Edema": NaN}', "NaN"), ("[1]", "no labels (TypeError"), ('{"path_to_image": []}', "no labels (KeyError")):
        labels.write_text(f"{line}\n{whole}")
        assert prepare(tmp_path / "p", tmp_path / "out") == 2
        assert "impression_fixed.json, line 1" in (said := capsys.readouterr().err) and words in said
    labels.write_text(whole)
    monkeypatch.setattr(documents, "MOST_BYTES", len(whole) - 1)
    assert prepare(tmp_path / "p", tmp_path / "out") == 2
    assert f"a file of {len(whole):,} bytes" in capsys.readouterr().err
