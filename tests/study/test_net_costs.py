import pytest

from synthrad.measurements import Measurement
from synthrad.study.description import Net
from synthrad.study.net_costs import net_costs, weights_of


def test_a_row_a_net_with_the_references_score_and_median_cost():
    fits = [{"task": "t", "net": net, "arm": arm, "seed": s, "seconds": 10.0 * (s + 1), "parameters": 100, "trained": 7, "weights": "random", "flops": 3e9, "memory_bytes": 2e6, "precision": "bf16-mixed"}
            for net in ("cnn", "vit") for arm in ("real_only", "matched") for s in range(3)]
    fits += [{"task": "t", "net": "old", "arm": "real_only", "seed": 0, "seconds": 5.0, "parameters": 100}, {"task": "t", "net": "none", "arm": "matched", "seconds": 1.0}]
    scores = [Measurement("auroc", 0.6 + 0.1 * s, task="t", net="cnn", arm="real_only", seed=s, class_name="macro") for s in range(3)]
    scores += [Measurement("auroc", 0.9, task="t", net="cnn", arm="matched", seed=0, class_name="macro"), Measurement("f1", 0.2, task="t", net="cnn", arm="real_only", seed=0, class_name="macro"),
               Measurement("auroc", 0.1, task="t", net="cnn", arm="real_only", seed=0, class_name="caries"), Measurement("auroc", None, task="t", net="vit", arm="real_only", seed=0, class_name="macro"),
               Measurement("auroc", 0.2, task="t", net="cnn", arm="real_only", seed=0, class_name="macro", subgroup="site")]
    rows = {row[1]: row for row in net_costs(fits, scores).rows}
    assert rows.keys() == {"cnn", "vit", "old"} and rows["cnn"][2] == "random" and rows["old"][2] is None
    assert rows["cnn"][3:4] + rows["cnn"][5:] == ("auroc", 100, 7, 3.0, 20.0, 2.0, "bf16-mixed") and abs(rows["cnn"][4] - 0.7) < 1e-9
    assert rows["vit"][3:5] == ("", None) and rows["old"][5:] == (100, None, None, 5.0, None, None)


@pytest.mark.parametrize(("class_path", "given", "words"), [
    ("SmpNet", {}, "random"),
    ("synthrad.nets.TimmNet", {"weights": "null"}, "random"),
    ("SamNet", {}, "random, frozen"),
    ("VitSegmenter", {"weights": "facebook/dinov2-small"}, "facebook/dinov2-small"),
    ("VitSegmenter", {"weights": "/home/someone/nets/dinov2", "tuning": "lora"}, "dinov2, lora"),
    ("TunedClassifier", {"weights": "./dinov2", "tuning": "full"}, "dinov2"),
    ("TimmNet", {"weights": "timm/resnet18.a1_in1k"}, "timm/resnet18.a1_in1k"),
    ("TimmNet", {"weights": "hospital_smith/resnet.pth"}, "resnet.pth"),
    ("TimmNet", {"weights": "weights/hospital_smith/resnet"}, "resnet"),
    ("TimmNet", {"weights": "hospital_smith/here"}, "here"),
    ("TimmNet", {"weights": "~someone/nets"}, "nets"),
    ("TimmNet", {"weights": "C:/Users/someone/x.pth"}, "x.pth"),
    ("TimmNet", {"weights": "C:\\Users\\someone\\x.pth"}, "x.pth")])
def test_what_a_net_begins_with_is_told_without_the_folder_it_lay_in(class_path, given, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hospital_smith/here").mkdir(parents=True)
    assert weights_of(Net(class_path=class_path, init_args=given)) == words
